// The picture within flat borders, caption bands, bars and the furniture of screens, found by the
// rule of nciihash/hashing/trimming.py, where its reasons and constants are explained.

const SIDE = 512;
const LINES_MIN = 32;
const NEAR = 10;
const MOST = 0.55;
const LEAP = 0.3;
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

/** Collects rows of pixels into a small copy in colour, each of its pixels the mean of a square. */
export class Copy {
	constructor(width, height) {
		this.step = Math.max(1, Math.floor(Math.max(width, height) / SIDE));
		this.width = width;
		this.height = height;
		this.columns = Math.floor(width / this.step);
		this.rows = Math.floor(height / this.step);
		this.rgb = new Uint8Array(this.rows * this.columns * 3);
		this.sums = new Float64Array(this.columns * 3);
		this.y = 0;
	}

	/** Take in the next row, four bytes a pixel from `at` on, of which the fourth is not looked at. */
	add(data, at) {
		const { step, columns, sums } = this;
		if (this.y < this.rows * step) {
			for (let x = 0, out = 0; x < columns; x++, out += 3) {
				for (let k = 0; k < step; k++, at += 4) {
					sums[out] += data[at];
					sums[out + 1] += data[at + 1];
					sums[out + 2] += data[at + 2];
				}
			}
			if ((this.y + 1) % step === 0) {
				const start = (Math.floor(this.y / step) * columns) * 3;
				for (let n = 0; n < sums.length; n++) this.rgb[start + n] = Math.round(sums[n] / (step * step));
				sums.fill(0);
			}
		}
		this.y += 1;
	}
}

/** Find the picture within a frame, as `{ left, top, width, height }`, or null where is no frame. */
export function trim(copy) {
	const { rows, columns, step, width, height } = copy;
	if (Math.min(rows, columns) < LINES_MIN) return null;
	const { top, left, bottom, right } = within(copy);
	const found = { left: left * step, top: top * step };
	found.width = (right === columns ? width : right * step) - found.left;
	found.height = (bottom === rows ? height : bottom * step) - found.top;
	if (found.width === width && found.height === height) return null;
	const tooSmall = found.width * found.height < AREA_MIN * width * height;
	return tooSmall || Math.min(found.width, found.height) < SIDE_MIN ? null : found;
}

function within(copy) {
	const { rgb, rows, columns } = copy;
	let box = { top: 0, left: 0, bottom: rows, right: columns };
	for (let round = 0; round < ROUNDS; round++) {
		const { top, left, bottom, right } = box;
		const level = frame(bottom - top, right - left, (y, x) => ((top + y) * columns + left + x) * 3, rgb);
		const [above, below] = [top + level[0], top + level[1]];
		const upright = frame(right - left, below - above, (x, y) => ((above + y) * columns + left + x) * 3, rgb);
		box = { top: above, bottom: below, left: left + upright[0], right: left + upright[1] };
		if (box.top === top && box.bottom === bottom && box.left === left && box.right === right) break;
	}
	if (box.bottom - box.top === rows && box.right - box.left === columns) {
		const grey = Float64Array.from({ length: rows * columns }, (_, n) =>
			Math.round(0.299 * rgb[3 * n] + 0.587 * rgb[3 * n + 1] + 0.114 * rgb[3 * n + 2]),
		);
		const level = blurredBars(rows, columns, (y, x) => grey[y * columns + x]);
		const upright = level ? null : blurredBars(columns, rows, (x, y) => grey[y * columns + x]);
		if (level) [box.top, box.bottom] = level;
		else if (upright) [box.left, box.right] = upright;
	}
	return box;
}

/** Find where, across `count` lines of `length` pixels, the frame ends on one side and on the other. */
function frame(count, length, place, rgb) {
	const start = edge(count, length, place, rgb);
	const end = count - edge(count, length, (n, k) => place(count - 1 - n, k), rgb);
	return end - start >= count * KEPT_MIN ? [start, end] : [0, count];
}

/** Count the lines of frame from the first line inwards. */
function edge(count, length, place, rgb) {
	const gap = Math.max(3, Math.round(count * GAP));
	const share = (line, colour) => {
		let near = 0;
		for (let k = 0; k < length; k++) {
			const at = place(line, k);
			near +=
				Math.abs(rgb[at] - colour[0]) <= NEAR &&
				Math.abs(rgb[at + 1] - colour[1]) <= NEAR &&
				Math.abs(rgb[at + 2] - colour[2]) <= NEAR;
		}
		return near / length;
	};
	let cut = 0;
	while (cut < count * (1 - KEPT_MIN)) {
		const colour = [0, 1, 2].map((c) => median(Float64Array.from({ length }, (_, k) => rgb[place(cut, k) + c])));
		if (share(cut, colour) < MOST) return cut;
		const shares = Float64Array.from({ length: count - cut }, (_, n) => share(cut + n, colour));
		let last = 0; // the band's last line
		for (let n = 1; n < shares.length && n - last <= gap; n++) if (shares[n] >= MOST) last = n;
		const beyond = shares.subarray(last + 1, last + 4);
		const inside = Math.max(...shares.subarray(Math.max(last - 1, 0), last + 1));
		if (!beyond.length || inside - Math.min(...beyond) < LEAP) return cut; // nothing else, or by and by
		const [before, after] = [Math.max(cut + last - 1, 0), Math.min(cut + last + 2, count - 1)];
		if (leap(before, after, length, place, rgb) < LEAP) return cut; // a colour that drifts
		cut += last + 1;
	}
	return 0;
}

/** Give the share of pixels that differ from one line to another. */
function leap(before, after, length, place, rgb) {
	let differ = 0;
	for (let k = 0; k < length; k++) {
		const [one, other] = [place(before, k), place(after, k)];
		differ += [0, 1, 2].some((c) => Math.abs(rgb[one + c] - rgb[other + c]) > NEAR);
	}
	return differ / length;
}

/** Find bars without detail on both sides of a sharp picture in the middle. */
function blurredBars(count, length, grey) {
	const half = count >> 1;
	const steps = new Float64Array(count - 1);
	const detail = new Float64Array(count);
	for (let n = 0; n < count; n++) {
		for (let k = 0; k < length; k++) {
			if (n + 1 < count) steps[n] += Math.abs(grey(n + 1, k) - grey(n, k)) > STEP;
			if (k + 1 < length) detail[n] += Math.abs(grey(n, k + 1) - grey(n, k));
		}
		if (n + 1 < count) steps[n] /= length;
		detail[n] /= length - 1;
	}
	const start = largest(steps, 0, half - 2) + 1;
	const end = largest(steps, half + 2, count - 1) + 1;
	if (Math.min(steps[start - 1], steps[end - 1]) < STRAIGHT || start < BAR_MIN * count) return null;
	if (Math.abs(start - (count - end)) > OFF_CENTRE * count + 1) return null;
	const bars = Float64Array.from([...detail.subarray(0, start - 1), ...detail.subarray(end + 1)]);
	if (!bars.length || median(bars) >= BLURRED * median(detail.slice(start, end))) return null;
	return [start, end];
}

function largest(values, from, to) {
	let place = from;
	for (let n = from; n < to; n++) if (values[n] > values[place]) place = n;
	return place;
}

function median(values) {
	const sorted = values.sort();
	const middle = sorted.length >> 1;
	return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
