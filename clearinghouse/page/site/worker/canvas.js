// Pixels from the browser's own decoder and a canvas, strip by strip. Some private browsers alter what a
// canvas returns; that is checked first.

import { Refused } from "./formats.js";
import { BT601 } from "./altered_views.js";
import { hashPixels } from "./pixels.js";

const STRIP = 128; // rows
const SIDE = 64;
const NOISE = 8; // levels; private browsers alter pixels by far more

function canvas(width, height) {
	const surface = new OffscreenCanvas(width, height);
	const context = surface.getContext("2d", { willReadFrequently: true });
	if (!context) throw new Refused("blocked");
	return context;
}

/** Whether the canvas returns what was drawn. */
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

/** @param {Blob} blob */
export async function hashByCanvas(blob, views) {
	if (!canvasIsTrue()) throw new Refused("blocked");
	let bitmap;
	try {
		bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
	} catch {
		throw new Refused("unopened");
	}
	try {
		return hashPixels(drawn(bitmap, bitmap), () => true, views);
	} finally {
		bitmap.close();
	}
}

/** Return the pixels of anything that a canvas can draw, on white. @type {Drawn} */
export function drawn(image, { width, height }, weights = BT601) {
	const [red, green, blue] = weights;

	function read({ left, top, width, height }, row) {
		const context = canvas(width, Math.min(STRIP, height));
		const luma = new Float64Array(width);
		context.fillStyle = "#fff";
		for (let from = 0; from < height; from += STRIP) {
			const tall = Math.min(STRIP, height - from);
			context.fillRect(0, 0, width, tall);
			context.drawImage(image, -left, -top - from);
			const { data } = context.getImageData(0, 0, width, tall);
			for (let y = 0; y < tall; y++) {
				for (let x = 0, at = y * width * 4; x < width; x++, at += 4) {
					luma[x] = red * data[at] + green * data[at + 1] + blue * data[at + 2];
				}
				row(luma, data, y * width * 4);
			}
		}
	}
	return { width, height, read, weights };
}
