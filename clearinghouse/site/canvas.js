// Pixels by way of the browser's own decoder and a canvas, in strips: for files that are neither JPEG
// nor PNG, and for the altered copies of all. Some private browsers alter what a canvas reads back;
// that is found out first.

import { checkSize, Refused } from "./formats.js";
import { Rows } from "./pdq.js";
import { telling } from "./prints.js";
import { Copy, trim } from "./trimming.js";
import { alteredCopies, Cells } from "./views.js";

const STRIP = 128;
const SIDE = 64;
const NOISE = 8; // levels; a browser that hides the canvas is off by far more
const FRAMED = 0.5; // of the whole: what is left of a screenshot is less

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

/** Hash a file that the browser can open, as `hashBitmap` does; `Refused("unopened")` if it can't. */
export async function hashByCanvas(blob) {
	if (!canvasIsTrue()) throw new Refused("blocked");
	let bitmap;
	try {
		bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
	} catch {
		throw new Refused("unopened");
	}
	return hashBitmap(bitmap, () => true);
}

/**
 * Hash a bitmap and its altered copies, `{ pdq, quality, tied, signals }`, and close it.
 * Where the picture has a frame or is a screenshot, the copies are of the picture within; the whole
 * is left out where the frame takes more than half, since other pictures' frames look like it.
 * `wanted` is asked whether there is use for the copies, and told the whole's fingerprint.
 */
export function hashBitmap(bitmap, wanted) {
	try {
		const { width, height } = bitmap;
		checkSize(width, height);
		const copy = new Copy(width, height);
		const whole = look(bitmap, { left: 0, top: 0, width, height }, copy);
		const { pdq, quality, tied } = whole;
		const signals = telling(whole) ? [{ value: pdq, quality, variant: "original" }] : [];
		if (!wanted(whole)) return { pdq, quality, tied, signals };
		const region = trim(copy);
		const inner = region && look(bitmap, region);
		const known = [{ value: pdq }];
		let { cells } = whole;
		if (inner && telling(inner)) {
			cells = inner.cells;
			if (region.width * region.height < FRAMED * width * height) signals.pop();
			signals.push({ value: inner.pdq, quality: inner.quality, variant: "trim" });
			known.push(signals.at(-1));
		}
		// of a plain picture, a border would be all that can be seen in its copies
		if (signals.length) signals.push(...alteredCopies(cells, known));
		return { pdq, quality, tied, signals };
	} finally {
		bitmap.close();
	}
}

/** Look at a part of a picture strip by strip: its fingerprint, and the small copy for its views. */
function look(bitmap, { left, top, width, height }, copy = null) {
	const rows = new Rows(width, height);
	const cells = new Cells(width, height);
	const context = canvas(width, Math.min(STRIP, height));
	const luma = new Float64Array(width);
	context.fillStyle = "#fff";
	for (let from = 0; from < height; from += STRIP) {
		const tall = Math.min(STRIP, height - from);
		context.fillRect(0, 0, width, tall);
		context.drawImage(bitmap, -left, -top - from);
		const { data } = context.getImageData(0, 0, width, tall);
		for (let y = 0; y < tall; y++) {
			for (let x = 0, at = y * width * 4; x < width; x++, at += 4) {
				luma[x] = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
			}
			rows.add(luma);
			cells.add(luma);
			copy?.add(data, y * width * 4);
		}
	}
	return { ...rows.hash(), cells };
}
