// The picture within flat borders, caption bands, bars and a screen's controls;
// nciihash/hashing/trimming.py explains the rule and its constants.

import { BlockMeans } from "./block_means.js";

const SIDE = 512;
const LINES_MIN = 32;
const NEAR = 10;
const MOST = 0.55;
const CONTRAST = 0.3;
const GAP = 0.12;
const KEPT_MIN = 0.1;
const AREA_MIN = 0.08;
const SIDE_MIN = 64;
const ROUNDS = 3;
const STEP = 12;
const STRAIGHT = 0.4;
const BAR_MIN = 0.02;
const OFF_CENTRE = 0.03;
const BLURRED = 0.4;

/** A small copy of block means, in colour. */
export class SmallCopy {
	constructor(width, height) {
		this.step = Math.max(1, Math.floor(Math.max(width, height) / SIDE));
		this.width = width;
		this.height = height;
		this.blocks = new BlockMeans(width, height, this.step);
		this.columns = this.blocks.columns;
		this.rows = this.blocks.rows;
		this.rgb = new Uint8Array(this.rows * this.columns * 3);
		this.filled = 0;
	}

	/** @param {Uint8ClampedArray} data @param {number} at */
	add(data, at) {
		const means = this.blocks.add(data, at);
		if (!means) return;
		this.rgb.set(means, this.filled);
		this.filled += means.length;
	}
}

/** Return the region within a frame, or null. @type {(copy: SmallCopy) => Region?} */
export function trim(copy) {
	const { rows, columns, step, width, height } = copy;
	if (Math.min(rows, columns) < LINES_MIN) return null;
	const { top, left, bottom, right } = innerBox(copy);
	const found = {
		left: left * step,
		top: top * step,
		width: (right === columns ? width : right * step) - left * step,
		height: (bottom === rows ? height : bottom * step) - top * step,
	};
	if (found.width === width && found.height === height) return null;
	const tooSmall = found.width * found.height < AREA_MIN * width * height;
	return tooSmall || Math.min(found.width, found.height) < SIDE_MIN ? null : found;
}

function innerBox(copy) {
	const { rgb, rows, columns } = copy;
	let box = { top: 0, left: 0, bottom: rows, right: columns };
	for (let round = 0; round < ROUNDS; round++) {
		const { top, left, bottom, right } = box;
		const rowsKept = frameEdges(bottom - top, right - left, (y, x) => ((top + y) * columns + left + x) * 3, rgb);
		const [above, below] = [top + rowsKept[0], top + rowsKept[1]];
		const columnsKept = frameEdges(right - left, below - above, (x, y) => ((above + y) * columns + left + x) * 3, rgb);
		box = { top: above, bottom: below, left: left + columnsKept[0], right: left + columnsKept[1] };
		if (box.top === top && box.bottom === bottom && box.left === left && box.right === right) break;
	}
	if (box.bottom - box.top === rows && box.right - box.left === columns) {
		const grey = Float64Array.from({ length: rows * columns }, (_, n) =>
			Math.round(0.299 * rgb[3 * n] + 0.587 * rgb[3 * n + 1] + 0.114 * rgb[3 * n + 2]),
		);
		const rowsKept = blurredBars(rows, columns, (y, x) => grey[y * columns + x]);
		const columnsKept = rowsKept ? null : blurredBars(columns, rows, (x, y) => grey[y * columns + x]);
		if (rowsKept) [box.top, box.bottom] = rowsKept;
		else if (columnsKept) [box.left, box.right] = columnsKept;
	}
	return box;
}

/** Return where, in `count` lines of `length` pixels, the frame ends on either side. */
function frameEdges(count, length, offset, rgb) {
	const start = frameWidth(count, length, offset, rgb);
	const end = count - frameWidth(count, length, (n, k) => offset(count - 1 - n, k), rgb);
	return end - start >= count * KEPT_MIN ? [start, end] : [0, count];
}

/** Count the lines of frame from the first line inwards. */
function frameWidth(count, length, offset, rgb) {
	const gap = Math.max(3, Math.round(count * GAP));
	const share = (line, colour) => {
		let near = 0;
		for (let k = 0; k < length; k++) {
			const at = offset(line, k);
			if (
				Math.abs(rgb[at] - colour[0]) <= NEAR &&
				Math.abs(rgb[at + 1] - colour[1]) <= NEAR &&
				Math.abs(rgb[at + 2] - colour[2]) <= NEAR
			)
				near += 1;
		}
		return near / length;
	};
	let cut = 0;
	while (cut < count * (1 - KEPT_MIN)) {
		const colour = [0, 1, 2].map((c) => median(Float64Array.from({ length }, (_, k) => rgb[offset(cut, k) + c])));
		if (share(cut, colour) < MOST) return cut;
		const shares = Float64Array.from({ length: count - cut }, (_, n) => share(cut + n, colour));
		let last = 0; // the band's last line
		for (let n = 1; n < shares.length && n - last <= gap; n++) if (shares[n] >= MOST) last = n;
		const beyond = shares.subarray(last + 1, last + 4);
		const inside = Math.max(...shares.subarray(Math.max(last - 1, 0), last + 1));
		if (!beyond.length || inside - Math.min(...beyond) < CONTRAST) return cut; // no picture, or a gradual edge
		const [before, after] = [Math.max(cut + last - 1, 0), Math.min(cut + last + 2, count - 1)];
		if (changed(before, after, length, offset, rgb) < CONTRAST) return cut; // a gradient
		cut += last + 1;
	}
	return 0;
}

/** Return the share of pixels that differ from one line to another. */
function changed(before, after, length, offset, rgb) {
	let differ = 0;
	for (let k = 0; k < length; k++) {
		const [one, other] = [offset(before, k), offset(after, k)];
		if ([0, 1, 2].some((c) => Math.abs(rgb[one + c] - rgb[other + c]) > NEAR)) differ += 1;
	}
	return differ / length;
}

/** Find bars without detail on both sides of a sharp picture. */
function blurredBars(count, length, grey) {
	const half = count >> 1;
	const steps = new Float64Array(count - 1);
	const detail = new Float64Array(count);
	for (let n = 0; n < count; n++) {
		for (let k = 0; k < length; k++) {
			if (n + 1 < count && Math.abs(grey(n + 1, k) - grey(n, k)) > STEP) steps[n] += 1;
			if (k + 1 < length) detail[n] += Math.abs(grey(n, k + 1) - grey(n, k));
		}
		if (n + 1 < count) steps[n] /= length;
		detail[n] /= length - 1;
	}
	const start = indexOfMax(steps, 0, half - 2) + 1;
	const end = indexOfMax(steps, half + 2, count - 1) + 1;
	if (Math.min(steps[start - 1], steps[end - 1]) < STRAIGHT || start < BAR_MIN * count) return null;
	if (Math.abs(start - (count - end)) > OFF_CENTRE * count + 1) return null;
	const bars = Float64Array.from([...detail.subarray(0, start - 1), ...detail.subarray(end + 1)]);
	if (!bars.length || median(bars) >= BLURRED * median(detail.slice(start, end))) return null;
	return [start, end];
}

function indexOfMax(values, from, to) {
	let index = from;
	for (let n = from; n < to; n++) if (values[n] > values[index]) index = n;
	return index;
}

function median(values) {
	const sorted = values.sort();
	const middle = sorted.length >> 1;
	return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
