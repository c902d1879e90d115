// Pixels by way of the browser's own decoder and a canvas, in strips, for files that are neither
// JPEG nor PNG. Some private browsers alter what a canvas reads back; that is found out first.

import { checkSize, Refused } from "./formats.js";
import { Rows } from "./pdq.js";

const STRIP = 128;
const SIDE = 64;
const NOISE = 8; // levels; a browser that hides the canvas is off by far more

function canvas(width, height) {
  const surface = new OffscreenCanvas(width, height);
  const context = surface.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Refused("blocked");
  return context;
}

/** Tell whether the canvas gives back what was drawn. */
export function canvasIsTrue() {
  const context = canvas(SIDE, SIDE);
  const level = (x, y, n) => (x * 37 + y * 59 + n * 83 + ((x * y) >> 2)) & 255;
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      context.fillStyle = `rgb(${level(x, y, 0)},${level(x, y, 1)},${level(x, y, 2)})`;
      context.fillRect(x, y, 1, 1);
    }
  }
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  for (let n = 0; n < data.length; n++) {
    const pixel = n >> 2;
    const drawn = n % 4 === 3 ? 255 : level(pixel % SIDE, Math.floor(pixel / SIDE), n % 4);
    if (Math.abs(data[n] - drawn) > NOISE) return false;
  }
  return true;
}

/** Hash a file that the browser can open. Throws `Refused("unopened")` where it can't. */
export async function hashByCanvas(blob) {
  if (!canvasIsTrue()) throw new Refused("blocked");
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Refused("unopened");
  }
  try {
    const { width, height } = bitmap;
    checkSize(width, height);
    const rows = new Rows(width, height);
    const context = canvas(width, Math.min(STRIP, height));
    const luma = new Float64Array(width);
    context.fillStyle = "#fff";
    for (let top = 0; top < height; top += STRIP) {
      const tall = Math.min(STRIP, height - top);
      context.fillRect(0, 0, width, tall);
      context.drawImage(bitmap, 0, -top);
      const { data } = context.getImageData(0, 0, width, tall);
      for (let y = 0; y < tall; y++) {
        for (let x = 0, at = y * width * 4; x < width; x++, at += 4) {
          luma[x] = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
        }
        rows.add(luma);
      }
    }
    return rows.hash();
  } finally {
    bitmap.close();
  }
}
