// From pixels of any source to the fingerprints of a picture and its altered views.

import { checkSize } from "./formats.js";
import { GridRows } from "./pdq.js";
import { isUsable } from "./fingerprints.js";
import { SmallCopy, trim } from "./trimming.js";
import { addViews, Cells, DistinctSignals, SUBMITTED } from "./altered_views.js";

const FRAMED = 0.5; // share of the whole; a screenshot's picture is smaller

/**
 * Hash a picture and its altered views; those of a framed picture are of what is within. The whole is
 * omitted if the frame takes more than half: it would match other pictures in such frames.
 * @type {HashPixels}
 */
export function hashPixels(picture, wanted = () => true, views = SUBMITTED) {
	const { width, height } = picture;
	checkSize(width, height);
	const copy = new SmallCopy(width, height);
	const whole = hashRegion(picture, { left: 0, top: 0, width, height }, copy);
	const { pdq, quality, tied } = whole;
	const signals = isUsable(whole) ? [{ value: pdq, quality, variant: "original" }] : [];
	if (!wanted(whole)) return { pdq, quality, tied, signals };
	const region = trim(copy);
	const inner = region && hashRegion(picture, region);
	const others = new DistinctSignals(pdq);
	let { cells } = whole;
	const trimmed = inner && isUsable(inner);
	if (trimmed) {
		cells = inner.cells;
		if (region.width * region.height < FRAMED * width * height) signals.pop();
		others.add("trim", inner);
	}
	// of a plain picture, a border would be all that its views show
	if (signals.length || trimmed) addViews(others, cells, views);
	return { pdq, quality, tied, signals: [...signals, ...others.added] };
}

function hashRegion(picture, region, copy = /** @type {SmallCopy?} */ (null)) {
	const rows = new GridRows(region.width, region.height);
	const cells = new Cells(region.width, region.height, picture.weights);
	picture.read(region, (luma, data, at) => {
		rows.add(luma);
		cells.add(data, at);
		copy?.add(data, at);
	});
	return { ...rows.hash(), cells };
}
