// The page's end of the proof of work: what the service asks is fetched while the page is loaded,
// and solved while she fills in the form, so that she waits for nothing.

import { online } from "./build_flags.js";
import { start } from "./worker_client.js";
import { askForWork } from "./api.js";

const NOTHING = { challenge: null };

/** One challenge after the other, each solved in a worker and used for one case. */
export class Proof {
	#asked = null;
	#solved = null;
	#worker = null;

	/** Ask the service what it wants; no answer counts as nothing, and sending finds out. */
	ask() {
		this.#asked ??= online ? askForWork().catch(() => NOTHING) : Promise.resolve(NOTHING);
	}

	/** Begin to solve it. */
	begin() {
		this.ask();
		this.#solved ??= this.#asked.then((asked) => this.#solve(asked));
	}

	/** Give the proof when it is ready; null where none is asked for. */
	take() {
		this.begin();
		return this.#solved;
	}

	/** Forget a proof that was used, or that is not enough any more. */
	spend() {
		this.stop();
		this.#asked = null;
	}

	/** End the worker, with what it was doing. */
	stop() {
		this.#worker?.terminate();
		this.#worker = null;
		this.#solved = null;
	}

	#solve(asked) {
		if (asked.challenge === null) return null;
		const worker = start();
		this.#worker = worker;
		return new Promise((resolve) => {
			worker.onmessage = ({ data: { nonces } }) => resolve({ challenge: asked.challenge, nonces });
			worker.onerror = worker.onmessageerror = () => resolve(null);
			worker.postMessage({ work: asked });
		}).finally(() => {
			worker.terminate();
			if (this.#worker === worker) this.#worker = null;
		});
	}
}
