// PDQ as in nciihash/pdq.py: filter and decimate both axes, a 16 x 16 cosine transform, a bit for each
// coefficient. The filters are linear, so that rows of luma are added as they come.

export const GRID = 64;
const SIDE = 16;
const SIDE_MIN = 5; // pixels; smaller pictures have an all-zero hash of quality 0
const TIE = 1e-6; // coefficients that differ by less at the median tie
const STEP_MARGIN = 1e-9; // against rounding

// Without the constant row; the reference has the factor in single precision.
const COSINES = Float64Array.from({ length: SIDE * GRID }, (_, n) => {
	const i = Math.floor(n / GRID);
	const j = n % GRID;
	return Math.cos((Math.PI / 2 / GRID) * (i + 1) * (2 * j + 1)) * Math.fround(Math.sqrt(2 / GRID));
});

/**
 * Return the weights of 64 cells on an axis: two box filters, each output divided by the samples under its
 * window, then one sample for each cell. @type {Bands}
 */
export function bands(length, reversed = false) {
	const window = Math.ceil(length / (2 * GRID));
	const after = window >> 1;
	const before = window - after - 1;
	const under = (i) => [Math.max(i - before, 0), Math.min(i + after + 1, length)];
	return Array.from({ length: GRID }, (_, i) => {
		const [first, last] = under(Math.floor(((i + 0.5) * length) / GRID));
		const start = under(first)[0];
		const stop = under(last - 1)[1];
		const taps = new Float64Array(stop - start);
		for (let j = first; j < last; j++) {
			const [from, to] = under(j);
			for (let k = from; k < to; k++) taps[k - start] += 1 / ((last - first) * (to - from));
		}
		return reversed ? { start: length - stop, taps: taps.reverse() } : { start, taps };
	});
}

/** Return the bands of a picture as its file stores it; `turned` is the EXIF orientation. @type {StoredBands} */
export function storedBands(width, height, turned) {
	return {
		columns: bands(width, [2, 3, 7, 8].includes(turned)),
		rows: bands(height, [3, 4, 6, 7].includes(turned)),
	};
}

/** @param {Float64Array} grid @param {number} turned */
export function upright(grid, turned) {
	return turned < 5 ? grid : grid.map((_, n) => grid[(n % GRID) * GRID + Math.floor(n / GRID)]);
}

/** Reduces rows of luma to the grid. */
export class GridRows {
	constructor(width, height, turned = 1) {
		this.turned = turned;
		this.small = isSmall(width, height);
		const { columns, rows } = storedBands(width, height, turned);
		this.columns = columns;
		this.grid = new Float64Array(GRID * GRID);
		/** @type {{ cell: number, weight: number }[][]} */
		this.cells = Array.from({ length: height }, () => []);
		rows.forEach(({ start, taps }, cell) => {
			for (const [k, weight] of taps.entries()) this.cells[start + k].push({ cell, weight });
		});
		this.y = 0;
	}

	add(luma) {
		const cells = this.cells[this.y++];
		if (!cells.length) return;
		for (let column = 0; column < GRID; column++) {
			const { start, taps } = this.columns[column];
			let sum = 0;
			for (let k = 0; k < taps.length; k++) sum += taps[k] * luma[start + k];
			for (const { cell, weight } of cells) this.grid[cell * GRID + column] += weight * sum;
		}
	}

	hash() {
		return this.small ? tooSmall() : hashGrid(upright(this.grid, this.turned));
	}
}

/** Return the hash of a picture with a side under 5 pixels. @returns {GridHash} */
export function tooSmall() {
	return { pdq: "0".repeat(64), quality: 0, busy: 0, tied: true, grid: null };
}

export function isSmall(width, height) {
	return Math.min(width, height) < SIDE_MIN;
}

/** Hash an upright 64 x 64 grid of luma. @param {Float64Array} grid @returns {GridHash} */
export function hashGrid(grid) {
	const coefficients = transform(grid);
	const median = sorted(coefficients)[127];
	let pdq = "";
	for (let digit = 63; digit >= 0; digit--) {
		let value = 0;
		for (let bit = 3; bit >= 0; bit--) value = value * 2 + Number(coefficients[digit * 4 + bit] > median);
		pdq += value.toString(16);
	}
	return { pdq, ...detail(grid), tied: gap(coefficients) < TIE, grid };
}

function transform(grid) {
	const half = new Float64Array(SIDE * GRID);
	const whole = new Float64Array(SIDE * SIDE);
	for (let i = 0; i < SIDE; i++) {
		for (let k = 0; k < GRID; k++) {
			const cosine = COSINES[i * GRID + k];
			for (let j = 0; j < GRID; j++) half[i * GRID + j] += cosine * grid[k * GRID + j];
		}
		for (let j = 0; j < SIDE; j++) {
			let sum = 0;
			for (let k = 0; k < GRID; k++) sum += half[i * GRID + k] * COSINES[j * GRID + k];
			whole[i * SIDE + j] = sum;
		}
	}
	return whole;
}

function sorted(values) {
	return values.slice().sort();
}

/** Return the smallest step at the median in all eight rotations and reflections. */
function gap(coefficients) {
	const patterns = [
		() => 1,
		(i) => (i % 2 ? 1 : -1),
		(_, j) => (j % 2 ? 1 : -1),
		(i, j) => ((i + j) % 2 ? -1 : 1),
	];
	return Math.min(
		...patterns.map((sign) => {
			const flipped = coefficients.map((b, n) => b * sign(Math.floor(n / SIDE), n % SIDE));
			const order = sorted(flipped);
			return order[128] - order[127];
		}),
	);
}

function detail(grid) {
	let [sum, large] = [0, 0];
	const add = (difference) => {
		const percent = Math.floor(Math.abs((difference * 100) / 255) + STEP_MARGIN);
		sum += percent;
		large += Number(percent > 0);
	};
	for (let i = 0; i < GRID; i++) {
		for (let j = 0; j < GRID; j++) {
			const here = grid[i * GRID + j];
			if (i + 1 < GRID) add(here - grid[(i + 1) * GRID + j]);
			if (j + 1 < GRID) add(here - grid[i * GRID + j + 1]);
		}
	}
	return { quality: Math.min(Math.floor(sum / 90), 100), busy: large / (2 * GRID * (GRID - 1)) };
}
