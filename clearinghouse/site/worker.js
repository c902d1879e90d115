// Opens one file at a time and gives back its fingerprint, or solves a proof of work. This script is served with a policy of
// its own that allows no connection, so what opens files cannot send anything anywhere.

import { hashByCanvas } from "./canvas.js";
import { BYTES_MAX, checkStructure, detect, Refused } from "./formats.js";
import { hashJpeg } from "./jpeg.js";
import { telling } from "./pdq.js";
import { hashPng } from "./png.js";
import { apart, turnedCopies } from "./views.js";
import { solve } from "./work.js";

const HEAD = 4096;
const SHOWN = ["jpeg", "png", "gif", "bmp", "webp", "avif"]; // every browser opens these when sound
const BITMAP_MAX = 50_000_000; // pixels that a phone still has memory for
const AGREE = 8; // bits between two readings of a file

async function bytes(blob) {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch {
    throw new Refused("unreadable"); // moved or deleted since it was chosen, or not enough memory
  }
}

async function hash(blob, path) {
  const kind = detect(await bytes(blob.slice(0, HEAD)));
  if (blob.size > BYTES_MAX) throw new Refused("too_large");
  const data = await bytes(blob);
  if (path !== "canvas") {
    const own = kind === "png" ? await hashPng(data) : kind === "jpeg" ? hashJpeg(data) : null;
    if (own) return path === "bytes" || own.pixels > BITMAP_MAX ? alone(own) : agreed(own, kind, blob);
  }
  checkStructure(kind, data);
  try {
    return await hashByCanvas(blob);
  } catch (error) {
    if (error instanceof Refused && error.code === "unopened") {
      throw new Refused(kind === "heic" ? "heic" : SHOWN.includes(kind) ? "damaged" : "unopened");
    }
    throw error;
  }
}

/**
 * Prefer the browser's pixels to our own reading of a JPEG, which is up to a few bits off, but only
 * while both agree: a canvas that alters what it gives back, or colours that were converted, do not
 * pass. The file's soundness has been checked by our own reading either way.
 */
async function agreed(own, kind, blob) {
  try {
    const seen = await hashByCanvas(blob);
    if (apart(own.pdq, seen.pdq) > AGREE) return alone(own);
    if (kind === "jpeg") return seen;
    // our reading of a PNG is exact
    const { pdq, quality, tied } = own;
    const signals = seen.signals.map((signal) =>
      signal.variant === "original" ? { value: pdq, quality, variant: "original" } : signal,
    );
    return { pdq, quality, tied, signals };
  } catch {
    return alone(own);
  }
}

/** What can be said without the browser's pixels: the picture as it is, turned and mirrored. */
function alone({ pdq, quality, tied, grid }) {
  const original = { value: pdq, quality, variant: "original" };
  const signals = telling({ quality, tied }) ? [original, ...turnedCopies(grid, [original])] : [];
  return { pdq, quality, tied, signals };
}

addEventListener("message", async ({ data: { id, blob, path, work } }) => {
  if (work) {
    postMessage({ nonces: solve(work) });
    return;
  }
  try {
    const found = await hash(blob, path);
    postMessage(found.signals.length ? { id, found } : { id, code: "too_plain", found });
  } catch (error) {
    const memory = error instanceof RangeError;
    postMessage({ id, code: error instanceof Refused ? error.code : memory ? "too_large" : "failed" });
  }
});
