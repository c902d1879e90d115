// The worker that hashes files, one after the other.

import { workerAddress, workerOptions } from "./build_flags.js";
import { playFrames, VideoError } from "./video_player.js";

const TIMEOUT = 90_000; // milliseconds for one picture; a phone takes 3,000 for a large photo

const policy = globalThis.trustedTypes?.createPolicy("w", { createScriptURL: (url) => url });

export function startWorker() {
	const url = workerAddress();
	return new Worker(policy ? policy.createScriptURL(url) : url, workerOptions);
}

/** Hashes files; a worker that one breaks is replaced. */
export class Hasher {
	/** @type {Worker?} */
	#worker = null;
	/** @type {((reply: Reply) => void)?} */
	#resolve = null;
	/** @type {Promise<Reply>} */
	#last = Promise.resolve({});
	#requests = 0;

	/** @type {HashFile} */
	hash(blob, { progress = () => true, path = null, thorough = false } = {}) {
		const start = async () => {
			const reply = await this.#request({ blob, path, thorough });
			return reply.video ? this.#hashVideo(blob, progress) : reply;
		};
		this.#last = this.#last.then(start).catch(() => ({ code: "failed" }));
		return this.#last;
	}

	async #hashVideo(blob, progress) {
		let refused = null;
		try {
			await playFrames(blob, async (frame, time, seconds) => {
				refused = progress(seconds && time / seconds) ? null : "stopped";
				if (refused) return null;
				const { code, due } = await this.#request({ frame, time, seconds }, [frame]);
				refused = code;
				return code ? null : (due ?? null);
			});
		} catch (error) {
			return { code: error instanceof VideoError ? error.code : "damaged" };
		}
		return refused ? { code: refused } : this.#request({ frame: null });
	}

	/** @returns {Promise<Reply>} */
	async #request(message, transfer = []) {
		this.#worker ??= startWorker();
		const worker = this.#worker;
		const id = ++this.#requests; // so that no file gets the fingerprints of another one
		let timer = 0;
		/** @type {Reply} */
		const reply = await new Promise((resolve) => {
			this.#resolve = resolve;
			timer = setTimeout(() => this.#fail("too_slow"), TIMEOUT);
			worker.onmessage = ({ data: { id: answered, ...reply } }) => {
				if (answered === id) resolve(reply);
			};
			worker.onerror = worker.onmessageerror = () => this.#fail("failed");
			worker.postMessage({ id, ...message }, transfer);
		});
		clearTimeout(timer);
		return reply;
	}

	#fail(code) {
		this.#worker?.terminate();
		this.#worker = null;
		this.#resolve?.({ code });
	}

	stop() {
		this.#fail("failed");
	}
}
