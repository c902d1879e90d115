// The page's end of the worker: files go in one after the other, fingerprints come out.

import { workerAddress, workerKind } from "./edition.js";

const SECONDS = 90; // for one file; a phone takes three for a large photo

const policy = globalThis.trustedTypes?.createPolicy("w", { createScriptURL: (url) => url });

function start() {
  const url = workerAddress();
  return new Worker(policy ? policy.createScriptURL(url) : url, workerKind);
}

/** Fingerprints files in a worker, which is replaced when one of them breaks it. */
export class Hasher {
  #worker = null;

  /**
   * Give `{ found: { pdq, quality, tied } }`, or `{ code }` that says why there is none.
   * `path` is for tests: "canvas" leaves a file to the browser's decoder, "bytes" a JPEG to ours.
   */
  hash(blob, path = null) {
    this.#worker ??= start();
    const worker = this.#worker;
    return new Promise((resolve) => {
      const settle = (answer, broken) => {
        clearTimeout(timer);
        worker.onmessage = worker.onerror = worker.onmessageerror = null;
        if (broken) this.stop();
        resolve(answer);
      };
      const timer = setTimeout(() => settle({ code: "too_slow" }, true), SECONDS * 1000);
      worker.onmessage = ({ data }) => {
        if (!data.ready) settle(data, false);
      };
      worker.onerror = () => settle({ code: "failed" }, true);
      worker.onmessageerror = worker.onerror;
      worker.postMessage({ blob, path });
    });
  }

  /** End the worker and forget what it holds. */
  stop() {
    this.#worker?.terminate();
    this.#worker = null;
  }
}
