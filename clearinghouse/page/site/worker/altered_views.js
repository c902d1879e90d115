// Fingerprints of altered views of a picture: crops, borders, small rotations, its mirror image; by the
// formulas of nciihash/hashing/altered_views.py, from one small copy of cell means.

import { BlockMeans } from "./block_means.js";
import { GRID, hashGrid } from "./pdq.js";
import { distance, isUsable, pack } from "./fingerprints.js";

const CELLS = 256; // of the small copy, along each axis
const BUSY_MIN = 0.3;
export const BT601 = [0.299, 0.587, 0.114]; // the weights of red, green and blue in luma
export const NEAR = 10; // bits: nearer fingerprints find much the same copies

const all = (share, more = {}) => ({ cut: [share, share, share, share], ...more });

/** nciihash/hashing/variants.py explains the choice. @type {Record<string, View>} */
export const STANDARD = {
	mirror: { mirror: true },
	ccw3: { turn: -3 },
	cw3: { turn: 3 },
	crop10: all(0.1),
	crop02: all(0.02),
	crop05: all(0.05),
	cut9x16: { shape: 9 / 16 },
	cut3x4: { shape: 3 / 4 },
	crop13: all(0.13),
	crop07: all(0.07),
	"ccw3-cut": { turn: -3, filled: true },
	"cw3-cut": { turn: 3, filled: true },
	top04: { cut: [0, 0.04, 0, 0] },
	cut4x3: { shape: 4 / 3 },
	cut1x1: { shape: 1 },
	bottom09: { cut: [0, 0, 0, 0.09] },
	"border07-white": all(-0.07, { fill: 255 }),
	"mirror-crop04": all(0.04, { mirror: true }),
	"border10-black": all(-0.1),
	cut16x9: { shape: 16 / 9 },
	"pad4x3-black": { shape: 4 / 3, pad: true },
};

// left, top, right and bottom of parts, in twentieths, as digits of base 21
const PARTS = `
	top-left 00aa top-right a0ka bottom-left 0aak bottom-right aakk left-half 00ak right-half a0kk
	top-half 00ka bottom-half 0akk inner01 33hh inner02 44gg inner03 63ih inner04 32he inner05 23eh
	inner06 36hi inner07 35hf inner08 55ff inner09 26ei inner10 22ee inner11 62ie inner12 66ii
	inner13 53fh inner14 36he inner15 34he inner16 52fe inner17 56fi`;

/** @type {Record<string, View>} */
export const THOROUGH = {};
for (const name of "mirror ccw3 cw3 cut1x1 cut3x4 cut4x3 cut9x16 cut16x9 crop02 crop05 crop10 crop07 crop13".split(" "))
	THOROUGH[name] = STANDARD[name];
for (const [, name, box] of PARTS.matchAll(/(\S+) (\S+)/g)) {
	const [left, top, right, bottom] = Array.from(box, (digit) => parseInt(digit, 21) / 20);
	THOROUGH[name] = { cut: [left, top, 1 - right, 1 - bottom] };
}

/** The set that is submitted, unless another one is chosen. */
export const SUBMITTED = STANDARD;

/** Reduces rows of pixels to the small copy of luma; `weights` are those of the colours. */
export class Cells {
	constructor(width, height, weights = BT601) {
		this.weights = weights;
		this.blocks = new BlockMeans(width, height, Math.max(1, Math.floor(Math.min(width, height) / (2 * CELLS))));
		const { columns, rows } = this.blocks;
		this.columns = Math.min(CELLS, columns);
		this.rows = Math.min(CELLS, rows);
		this.shape = width / height;
		this.luma = new Float64Array(this.rows * this.columns);
		this.spans = Array.from({ length: columns }, (_, x) => span(x, columns, this.columns));
		this.y = 0;
	}

	/** @param {Uint8ClampedArray} data @param {number} at */
	add(data, at) {
		const means = this.blocks.add(data, at);
		if (!means) return;
		const [red, green, blue] = this.weights;
		const line = new Float64Array(this.columns);
		for (let x = 0, n = 0; x < this.blocks.columns; x++, n += 3) {
			const { cell, share, scale } = this.spans[x];
			const luma = (red * means[n] + green * means[n + 1] + blue * means[n + 2]) * scale;
			line[cell] += luma * share;
			if (share < 1) line[cell + 1] += luma * (1 - share);
		}
		const { cell, share, scale } = span(this.y++, this.blocks.rows, this.rows);
		for (let x = 0; x < this.columns; x++) {
			this.luma[cell * this.columns + x] += line[x] * share * scale;
			if (share < 1) this.luma[(cell + 1) * this.columns + x] += line[x] * (1 - share) * scale;
		}
	}
}

/** Return a pixel's cell, the share of it in that cell (the rest is in the next), and its weight. */
function span(n, length, cells) {
	const scale = cells / length;
	const cell = Math.min(Math.floor(n * scale + 1e-9), cells - 1);
	const share = Math.min((cell + 1 - n * scale) / scale, 1);
	return { cell, share: cell + 1 < cells ? share : 1, scale };
}

/** Add the views of a set. @type {AddViews} */
export function addViews(signals, cells, views) {
	quarterTurns(signals, gridOf(cells, {}));
	for (const [variant, view] of Object.entries(views)) {
		const grid = gridOf(cells, view);
		const hash = hashGrid(view.mirror ? mirrored(grid) : grid);
		if (variant in STANDARD || hash.busy >= BUSY_MIN) signals.add(variant, hash);
	}
}

/** Return the views that need only the picture's own grid. @type {TurnedCopies} */
export function turnedCopies(grid, pdq) {
	const signals = new DistinctSignals(pdq);
	quarterTurns(signals, grid);
	signals.add("mirror", hashGrid(mirrored(grid)));
	return signals.added;
}

function quarterTurns(signals, grid) {
	const clockwise = (old) => old.map((_, n) => old[(GRID - 1 - (n % GRID)) * GRID + Math.floor(n / GRID)]);
	let turned = grid;
	for (const variant of ["rotate90", "rotate180", "rotate270"]) {
		turned = clockwise(turned);
		signals.add(variant, hashGrid(turned));
	}
}

const mirrored = (grid) => grid.map((_, n) => grid[n - (n % GRID) + GRID - 1 - (n % GRID)]);

/** Fingerprints that are usable, and far enough from the picture's own and from each other. */
export class DistinctSignals {
	/** @type {Signal[]} */
	added = [];

	/** @param {string} pdq */
	constructor(pdq) {
		this.hashes = [pack(pdq)];
	}

	add(variant, { pdq, quality, tied }) {
		const hash = pack(pdq);
		if (!isUsable({ quality, tied }) || this.hashes.some((known) => distance(known, hash) <= NEAR)) return;
		this.hashes.push(hash);
		this.added.push({ value: pdq, quality, variant });
	}
}

function gridOf(cells, view) {
	const { columns, rows } = cells;
	const luma = view.turn ? turnedLuma(cells, view) : cells.luma;
	const [left, width, top, height] = viewport(view, cells.shape);
	const across = samples(left, width, columns);
	const down = samples(top, height, rows);
	const grid = new Float64Array(GRID * GRID);
	const line = new Float64Array(columns);
	for (let i = 0; i < GRID; i++) {
		line.fill(0);
		for (let y = down[i].first; y < down[i].last; y++) {
			for (let x = 0; x < columns; x++) line[x] += down[i].weights[y] * luma[y * columns + x];
		}
		for (let j = 0; j < GRID; j++) {
			let sum = (view.fill ?? 0) * (1 - down[i].inside * across[j].inside);
			for (let x = across[j].first; x < across[j].last; x++) sum += across[j].weights[x] * line[x];
			grid[i * GRID + j] = sum;
		}
	}
	return grid;
}

/** Return start and length, across and down, of what a view shows, as shares. */
function viewport({ cut = [0, 0, 0, 0], shape = 0, pad = false }, own) {
	let [left, top] = cut;
	let width = 1 - left - cut[2];
	let height = 1 - top - cut[3];
	if (shape) {
		const now = (own * width) / height;
		if (now > shape !== pad) {
			left += (width * (1 - shape / now)) / 2;
			width *= shape / now;
		} else {
			top += (height * (1 - now / shape)) / 2;
			height *= now / shape;
		}
	}
	return [left, width, top, height];
}

/** Return each sample's weights on the cells of an axis, and its share within. */
function samples(start, length, cells) {
	const half = length / (2 * GRID);
	return Array.from({ length: GRID }, (_, i) => {
		const centre = start + ((i + 0.5) / GRID) * length;
		const at = (k) => Math.min(Math.max((k / cells - centre) / half, -1), 1);
		const weights = new Float64Array(cells);
		let inside = 0;
		let first = cells;
		let last = 0;
		const end = Math.min(Math.ceil((centre + half) * cells), cells);
		for (let k = Math.max(Math.floor((centre - half) * cells), 0); k < end; k++) {
			const from = at(k);
			const to = at(k + 1);
			const area = (t) => t - (t * Math.abs(t)) / 2; // under the triangle
			const moment = (t) => (t * t) / 2 - Math.abs(t) ** 3 / 3;
			const weight = area(to) - area(from);
			const middle = (k + 0.5) / cells;
			const lever = ((half * (moment(to) - moment(from)) + (centre - middle) * weight) * cells) / 2;
			const before = Math.max(k - 1, 0);
			const after = Math.min(k + 1, cells - 1);
			weights[k] += weight;
			weights[after] += lever;
			weights[before] -= lever;
			inside += weight;
			first = Math.min(first, before);
			last = Math.max(last, after + 1);
		}
		return { weights, inside, first, last };
	});
}

/** Rotate the small copy in the picture's own proportions. */
function turnedLuma({ luma, rows, columns, shape }, { turn, filled = false, fill = 0 }) {
	const angle = (turn * Math.PI) / 180;
	const zoom = filled ? Math.cos(angle) + Math.max(shape, 1 / shape) * Math.sin(Math.abs(angle)) : 1;
	const [cosine, sine] = [Math.cos(angle) / zoom, Math.sin(angle) / zoom];
	const xy = ((sine / shape) * columns) / rows;
	const yx = (-sine * shape * rows) / columns;
	const [midX, midY] = [(columns - 1) / 2, (rows - 1) / 2];
	const at = (x, y) => (x < 0 || y < 0 || x >= columns || y >= rows ? fill : luma[y * columns + x]);
	const out = new Float64Array(luma.length);
	for (let y = 0; y < rows; y++) {
		for (let x = 0; x < columns; x++) {
			const fromX = midX + cosine * (x - midX) + xy * (y - midY);
			const fromY = midY + yx * (x - midX) + cosine * (y - midY);
			const [left, top] = [Math.floor(fromX), Math.floor(fromY)];
			const [right, below] = [fromX - left, fromY - top];
			out[y * columns + x] =
				(at(left, top) * (1 - right) + at(left + 1, top) * right) * (1 - below) +
				(at(left, top + 1) * (1 - right) + at(left + 1, top + 1) * right) * below;
		}
	}
	return out;
}
