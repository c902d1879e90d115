// The page's end of the worker: files go in one after the other, fingerprints come out.

import { workerAddress, workerKind } from "./build_flags.js";
import { Unseen, watch } from "./video_player.js";

const SECONDS = 90; // for one picture; a phone takes three for a large photo

const policy = globalThis.trustedTypes?.createPolicy("w", { createScriptURL: (url) => url });

/** Start a worker, which has no network. */
export function start() {
	const url = workerAddress();
	return new Worker(policy ? policy.createScriptURL(url) : url, workerKind);
}

/** Fingerprints files in a worker, which is replaced when one of them breaks it. */
export class Hasher {
	#worker = null;
	#settle = null;
	#last = Promise.resolve();
	#asked = 0;

	/**
	 * Give `{ found: { media, signals } }`, or `{ code }` that says why there is none. For a picture
	 * there is also its own fingerprint, `{ pdq, quality, tied }`; for a video, how many `moments` were
	 * kept, and `every` how many seconds they were sought.
	 *
	 * A video takes long: `progress` hears how much of it is done, from 0 to 1, and stops it by
	 * answering false. `path` is for tests: "canvas" leaves a file to the browser's decoder,
	 * "bytes" a JPEG to ours.
	 */
	hash(blob, { progress = () => true, path = null } = {}) {
		const begin = async () => {
			const answer = await this.#ask({ blob, path });
			return answer.code === "video" ? this.#film(blob, progress) : answer;
		};
		this.#last = this.#last.then(begin).catch(() => ({ code: "failed" }));
		return this.#last;
	}

	async #film(blob, progress) {
		let refused = null;
		try {
			await watch(blob, async (frame, time, seconds) => {
				refused = progress(seconds && time / seconds) ? null : "stopped";
				if (refused) return null;
				const { code, due } = await this.#ask({ frame, time, seconds }, [frame]);
				refused = code;
				return code ? null : due;
			});
		} catch (error) {
			return { code: error instanceof Unseen ? error.code : "damaged" };
		}
		return refused ? { code: refused } : this.#ask({ frame: null });
	}

	async #ask(message, moved = []) {
		this.#worker ??= start();
		const worker = this.#worker;
		const id = ++this.#asked; // so that no file is ever given another one's fingerprint
		let timer = 0;
		const answer = await new Promise((resolve) => {
			this.#settle = resolve;
			timer = setTimeout(() => this.#fail("too_slow"), SECONDS * 1000);
			worker.onmessage = ({ data: { id: answered, ...answer } }) => {
				if (answered === id) resolve(answer);
			};
			worker.onerror = worker.onmessageerror = () => this.#fail("failed");
			worker.postMessage({ id, ...message }, moved);
		});
		clearTimeout(timer);
		return answer;
	}

	#fail(code) {
		this.#worker?.terminate();
		this.#worker = null;
		this.#settle?.({ code });
	}

	/** End the worker, with what it was doing. */
	stop() {
		this.#fail("failed");
	}
}
