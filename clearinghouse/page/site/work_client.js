// The proof of work. The challenge for opening a case is fetched while the page loads and solved while
// she answers the questions, so that she does not wait; later ones, when the service asks for them.

import { online } from "./build_flags.js";
import { startWorker } from "./worker_client.js";
import { ApiError, fetchWork } from "./api.js";

const NO_WORK = { challenge: null };
const SIGN_IN = "work_needed_to_sign_in";
const TRIES = { work_needed: 3, [SIGN_IN]: 8 }; // proofs for one request at most

export class ProofOfWork {
	/** @type {Promise<Challenge>?} */
	#challenge = null;
	/** @type {Promise<Solution?>?} */
	#solution = null;
	/** @type {Worker?} */
	#worker = null;

	/** A failure counts as no challenge: the service asks again when a case is sent. */
	fetchChallenge() {
		this.#challenge ??= online ? fetchWork().catch(() => NO_WORK) : Promise.resolve(NO_WORK);
		return this.#challenge;
	}

	start() {
		this.#solution ??= this.fetchChallenge().then((challenge) => this.#solve(challenge));
		return this.#solution;
	}

	/** Send a request, and again with a proof whenever the service asks for one. @type {SendWithWork} */
	async send(send, onWait, body = null) {
		const left = { ...TRIES };
		let header = null;
		for (;;) {
			try {
				return await send(body, header);
			} catch (error) {
				if (!(error instanceof ApiError && error.code in left)) throw error;
				if (left[error.code]-- === 0) throw new ApiError("busy");
				if (!onWait()) throw error;
				this.stop();
				const solution = await this.#solve(error.work ?? (await fetchWork()));
				[body, header] = error.code === SIGN_IN ? [body, solution] : [solution, null];
			}
		}
	}

	/** Discard a used proof with its challenge. */
	discard() {
		this.stop();
		this.#challenge = null;
	}

	stop() {
		this.#worker?.terminate();
		this.#worker = null;
		this.#solution = null;
	}

	/** @param {Challenge} work @returns {Promise<Solution?>} */
	async #solve(work) {
		const { challenge } = work;
		if (challenge === null) return null;
		const worker = startWorker();
		this.#worker = worker;
		return new Promise((resolve) => {
			worker.onmessage = ({ data: { nonces } }) => resolve({ challenge, nonces });
			worker.onerror = worker.onmessageerror = () => resolve(null);
			worker.postMessage({ work });
		}).finally(() => {
			worker.terminate();
			if (this.#worker === worker) this.#worker = null;
		});
	}
}
