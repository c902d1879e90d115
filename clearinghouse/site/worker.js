// Opens one file at a time and gives back its fingerprint, or solves a proof of work. This script is served with a policy of
// its own that allows no connection, so what opens files cannot send anything anywhere.

import { hashByCanvas } from "./canvas.js";
import { BYTES_MAX, checkStructure, detect, Refused } from "./formats.js";
import { hashJpeg } from "./jpeg.js";
import { hashPng } from "./png.js";
import { solve } from "./work.js";

const HEAD = 4096;
const SHOWN = ["jpeg", "png", "gif", "bmp", "webp", "avif"]; // every browser opens these when sound
const BITMAP_MAX = 50_000_000; // pixels that a phone still has memory for
const AGREE = 8; // bits between the two readings of a JPEG
const QUALITY_MIN = 50; // below it a fingerprint says too little about its picture

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
  if (kind === "png" && path !== "canvas") return hashPng(data);
  const own = kind === "jpeg" && path !== "canvas" ? hashJpeg(data) : null;
  if (own) return path === "bytes" || own.pixels > BITMAP_MAX ? own : closest(own, blob);
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
async function closest(own, blob) {
  try {
    const seen = await hashByCanvas(blob);
    return apart(own.pdq, seen.pdq) <= AGREE ? seen : own;
  } catch {
    return own;
  }
}

function apart(one, other) {
  let bits = 0;
  for (let n = 0; n < one.length; n++) {
    for (let d = parseInt(one[n], 16) ^ parseInt(other[n], 16); d; d >>= 1) bits += d & 1;
  }
  return bits;
}

addEventListener("message", async ({ data: { id, blob, path, work } }) => {
  if (work) {
    postMessage({ nonces: solve(work) });
    return;
  }
  try {
    const found = await hash(blob, path);
    const plain = found.tied || found.quality < QUALITY_MIN;
    postMessage(plain ? { id, code: "too_plain", found } : { id, found });
  } catch (error) {
    const memory = error instanceof RangeError;
    postMessage({ id, code: error instanceof Refused ? error.code : memory ? "too_large" : "failed" });
  }
});
