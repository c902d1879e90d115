// From pixels, wherever they come from, to the fingerprints of a picture and its altered copies.

import { checkSize } from "./formats.js";
import { Rows } from "./pdq.js";
import { telling } from "./fingerprints.js";
import { Copy, trim } from "./trimming.js";
import { alteredCopies, Cells } from "./altered_views.js";

const FRAMED = 0.5; // of the whole: what is left of a screenshot is less

/**
 * Hash a picture and its altered copies: `{ pdq, quality, tied, signals }`.
 * Where it has a frame or is a screenshot, the copies are of the picture within; the whole is left
 * out where the frame takes more than half, since other pictures' frames look like it. `wanted` is
 * told the whole's fingerprint, and answers whether there is use for the copies.
 *
 * `picture` has `width`, `height`, and `read(region, row)`, which calls `row(luma, data, at)` for each
 * row of a region from its top: its luma, and its colours from `at` on in bytes of four a pixel.
 */
export function hashPixels(picture, wanted = () => true) {
	const { width, height } = picture;
	checkSize(width, height);
	const copy = new Copy(width, height);
	const whole = look(picture, { left: 0, top: 0, width, height }, copy);
	const { pdq, quality, tied } = whole;
	const signals = telling(whole) ? [{ value: pdq, quality, variant: "original" }] : [];
	if (!wanted(whole)) return { pdq, quality, tied, signals };
	const region = trim(copy);
	const inner = region && look(picture, region);
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
}

/** Look at a region: its fingerprint, and the small copy for its views. */
function look(picture, region, copy = null) {
	const rows = new Rows(region.width, region.height);
	const cells = new Cells(region.width, region.height);
	picture.read(region, (luma, data, at) => {
		rows.add(luma);
		cells.add(luma);
		copy?.add(data, at);
	});
	return { ...rows.hash(), cells };
}
