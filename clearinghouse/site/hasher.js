// The page's end of the worker: files go in one after the other, fingerprints come out.

import { workerAddress, workerKind } from "./edition.js";

const SECONDS = 90; // for one file; a phone takes three for a large photo

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
  #asked = 0;

  /**
   * Give `{ found: { pdq, quality, tied, signals } }`, or `{ code }` that says why there is none.
   * `path` is for tests: "canvas" leaves a file to the browser's decoder, "bytes" a JPEG to ours.
   */
  async hash(blob, path = null) {
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
      worker.postMessage({ id, blob, path });
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
