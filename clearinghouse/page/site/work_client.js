// The page's end of the proof of work: what opening a case takes is asked while the page is loaded,
// and solved while she fills in the form, so that she waits for nothing. What the service asks for
// beyond that, or before it lets her sign in or withdraw, is solved when it says so.

import { online } from "./build_flags.js";
import { start } from "./worker_client.js";
import { askForWork, ApiError } from "./api.js";

const NOTHING = { challenge: null };
const SIGN_IN = "work_needed_to_sign_in";
const TIMES = { work_needed: 3, [SIGN_IN]: 8 }; // times that work is done for one request

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

	/**
	 * Send a request, again with as much work as the service asks for. `send` takes the proof for its
	 * body and the one for its header; `working` is called when she has to wait for the work, and gives
	 * up by answering false.
	 */
	async pay(send, working, body = null) {
		const left = { ...TIMES };
		let header = null;
		for (;;) {
			try {
				return await send(body, header);
			} catch (error) {
				if (!(error.code in left)) throw error;
				if (left[error.code]-- === 0) throw new ApiError("busy");
				if (working() === false) throw error;
				this.stop();
				const solved = await this.#solve(error.work ?? (await askForWork()));
				[body, header] = error.code === SIGN_IN ? [body, solved] : [solved, null];
			}
		}
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
