// The scans of a JPEG (ITU-T T.81, annexes F and G), and the sum of its blocks on PDQ's grid.

import { damaged } from "./formats.js";
import { GRID, storedBands } from "./pdq.js";

const STRAY = 8; // bytes that cameras write after a scan
const ZIGZAG = [];
for (let sum = 0; sum < 15; sum++) {
	for (let i = Math.max(0, sum - 7); i <= Math.min(7, sum); i++) {
		ZIGZAG.push(sum % 2 ? i * 8 + (sum - i) : (sum - i) * 8 + i);
	}
}

/** Adds rows of blocks of coefficients to the grid. */
class GridSum {
	constructor(width, height, turned) {
		const { columns, rows } = storedBands(width, height, turned);
		this.columns = blockBands(columns, width);
		this.rows = blockBands(rows, height);
		this.grid = new Float64Array(GRID * GRID);
		this.line = new Float64Array(8 * GRID);
	}

	add(column, index, value) {
		const v = index >> 3;
		const u = index & 7;
		const bands = this.columns[column];
		for (let n = 0; n < bands.length; n++) {
			this.line[v * GRID + bands[n].cell] += value * bands[n].weights[u];
		}
	}

	endRow(row) {
		for (const { cell, weights } of this.rows[row] ?? []) {
			for (let v = 0; v < 8; v++) {
				for (let j = 0; j < GRID; j++) this.grid[cell * GRID + j] += weights[v] * this.line[v * GRID + j];
			}
		}
		this.line.fill(0);
	}

	finish() {
		return this.grid.map((value) => value + 128); // T.81's level shift
	}
}

/** Return, for each block, its cells and their weights for each frequency. */
function blockBands(bands, length) {
	/** @type {{ cell: number, weights: Float64Array }[][]} */
	const blocks = Array.from({ length: Math.ceil(length / 8) }, () => []);
	bands.forEach(({ start, taps }, cell) => {
		for (let block = start >> 3; block <= (start + taps.length - 1) >> 3; block++) {
			const weights = Float64Array.from({ length: 8 }, (_, u) => {
				let sum = 0;
				for (let x = 0; x < 8; x++) {
					const tap = taps[block * 8 + x - start] ?? 0;
					sum += tap * Math.cos(((2 * x + 1) * u * Math.PI) / 16) * (u ? 0.5 : Math.SQRT1_2 / 2);
				}
				return sum;
			});
			blocks[block].push({ cell, weights });
		}
	});
	return blocks;
}

/** Luma is added to the grid scan by scan, unless the file is only checked. */
export class Frame {
	/** @param {Component[]} components */
	constructor(width, height, components, turned, { progressive, toGrid, all }) {
		this.width = width;
		this.height = height;
		this.components = components;
		this.progressive = progressive;
		this.luma = components[0];
		this.gridSum = toGrid ? new GridSum(width, height, turned) : null;
		this.seen = false;
		this.skipped = false;
		const across = Math.max(...components.map(({ h }) => h));
		const down = Math.max(...components.map(({ v }) => v));
		this.mcuColumns = Math.ceil(width / (8 * across));
		this.mcuRows = Math.ceil(height / (8 * down));
		for (const component of components) {
			component.across = Math.ceil(Math.ceil((width * component.h) / across) / 8); // blocks that hold pixels
			component.down = Math.ceil(Math.ceil((height * component.v) / down) / 8);
			component.stride = this.mcuColumns * component.h;
			if (progressive && (all || component === this.luma)) {
				component.coefficients = new Int16Array(component.stride * this.mcuRows * component.v * 64);
			}
		}
	}

	/** Whether a scan is needed: a progressive file's chroma is not. @param {Component[]} chosen */
	needs(chosen) {
		const needed = !this.progressive || chosen.some(({ coefficients }) => coefficients);
		this.skipped ||= !needed;
		return needed;
	}

	scan(bits, chosen, spectrum, restart) {
		const { luma } = this;
		this.seen ||= chosen.includes(luma);
		const [single] = chosen.length === 1 ? chosen : [];
		const wide = single ? single.across : this.mcuColumns;
		const high = single ? single.down : this.mcuRows;
		const decode = this.progressive ? this.progression(bits, spectrum) : null;
		const toGrid = !decode && this.gridSum && chosen.includes(luma);
		// one row of coefficients for each row of blocks in the current row of MCUs
		const lines = single ? 1 : luma.v;
		const rows = Array.from({ length: lines }, () => new Int32Array(toGrid ? luma.stride * 64 : 0));
		for (const component of chosen) component.prediction = 0;
		this.eobRun = 0;
		let left = restart;
		for (let y = 0; y < high; y++) {
			for (let x = 0; x < wide; x++) {
				if (restart && left === 0) {
					bits.restart();
					for (const component of chosen) component.prediction = 0;
					this.eobRun = 0;
					left = restart;
				}
				left -= 1;
				for (const component of chosen) {
					const across = single ? 1 : component.h;
					const down = single ? 1 : component.v;
					for (let v = 0; v < down; v++) {
						for (let h = 0; h < across; h++) {
							const column = x * across + h;
							if (decode) {
								decode(component, ((y * down + v) * component.stride + column) * 64);
							} else {
								this.baseline(bits, component, toGrid && component === luma ? rows[v] : null, column * 64);
							}
						}
					}
				}
			}
			if (bits.overrun) throw damaged();
			for (let v = 0; toGrid && v < lines; v++) this.addRow(y * lines + v, rows[v]);
		}
	}

	addRow(y, row, from = 0) {
		const { gridSum, luma } = this;
		if (!gridSum) return;
		for (let x = 0; x < luma.across; x++) {
			for (let k = 0; k < 64; k++) {
				const value = row[from + x * 64 + k];
				if (value) gridSum.add(x, ZIGZAG[k], value * luma.table[k]);
			}
		}
		gridSum.endRow(y);
		if (!this.progressive) row.fill(0);
	}

	addCoefficients() {
		const { down, coefficients, stride } = this.luma;
		for (let y = 0; y < down; y++) this.addRow(y, coefficients, y * stride * 64);
	}

	baseline(bits, component, row, at) {
		const { dc, ac } = component;
		if (!dc || !ac) throw damaged();
		const size = bits.symbol(dc);
		component.prediction += size ? bits.signed(size) : 0;
		if (row) row[at] = component.prediction;
		for (let k = 1; k < 64; k++) {
			const symbol = bits.symbol(ac);
			const length = symbol & 15;
			if (length) {
				k += symbol >> 4;
				const value = bits.signed(length);
				if (k > 63) throw damaged();
				if (row) row[at + k] = value;
			} else if (symbol === 0xf0) {
				k += 15;
			} else {
				break;
			}
		}
	}

	progression(bits, { from, to, high, low }) {
		if (from > to || to > 63 || low > 13) throw damaged();
		if (from === 0 && high === 0) {
			return (component, at) => {
				const { dc, coefficients } = component;
				if (!dc) throw damaged();
				const size = bits.symbol(dc);
				component.prediction += size ? bits.signed(size) : 0;
				if (coefficients) coefficients[at] = component.prediction << low;
			};
		}
		if (from === 0) {
			return ({ coefficients }, at) => {
				const bit = bits.take(1);
				if (coefficients) coefficients[at] |= bit << low;
			};
		}
		return high === 0
			? (component, at) => this.first(bits, component, at, from, to, low)
			: (component, at) => this.refine(bits, component, at, from, to, 1 << low);
	}

	first(bits, { ac, coefficients }, at, from, to, low) {
		if (!ac) throw damaged();
		if (this.eobRun) {
			this.eobRun -= 1;
			return;
		}
		for (let k = from; k <= to; k++) {
			const symbol = bits.symbol(ac);
			const zeros = symbol >> 4;
			const length = symbol & 15;
			if (length) {
				k += zeros;
				if (k > 63) throw damaged();
				coefficients[at + k] = bits.signed(length) * (1 << low);
			} else if (zeros === 15) {
				k += 15;
			} else {
				this.eobRun = (1 << zeros) + bits.take(zeros) - 1;
				break;
			}
		}
	}

	refine(bits, { ac, coefficients }, at, from, to, step) {
		if (!ac) throw damaged();
		const correct = (n) => {
			if (bits.take(1) && !(coefficients[n] & step)) coefficients[n] += coefficients[n] > 0 ? step : -step;
		};
		let k = from;
		if (!this.eobRun) {
			for (; k <= to; k++) {
				const symbol = bits.symbol(ac);
				let zeros = symbol >> 4;
				let value = 0;
				if (symbol & 15) {
					value = bits.take(1) ? step : -step;
				} else if (zeros < 15) {
					this.eobRun = (1 << zeros) + bits.take(zeros);
					break;
				}
				for (; k <= to; k++) {
					if (coefficients[at + k]) correct(at + k);
					else if (--zeros < 0) break;
				}
				if (value) {
					if (k > 63) throw damaged();
					coefficients[at + k] = value;
				}
			}
		}
		if (this.eobRun) {
			for (; k <= to; k++) if (coefficients[at + k]) correct(at + k);
			this.eobRun -= 1;
		}
	}
}

/** Return the offset of the next marker, as libjpeg finds it, or the data's length. */
export function nextMarker(data, at) {
	for (; ; at++) {
		at = data.indexOf(0xff, at);
		if (at < 0 || at + 1 >= data.length) return data.length;
		if (data[at + 1] !== 0 && data[at + 1] !== 0xff) return at;
	}
}

/** Reads the bits of a scan; zeros after a marker, with `overrun` true once any were used. */
export class BitReader {
	constructor(data, at) {
		this.data = data;
		this.start = at;
		this.at = at;
		this.buffer = 0;
		this.count = 0;
		this.padding = 0;
	}

	fill() {
		while (this.count <= 24) {
			const byte = this.data[this.at];
			if (byte === undefined || (byte === 0xff && this.data[this.at + 1] !== 0)) {
				this.padding += 8;
				this.buffer <<= 8;
			} else {
				this.at += byte === 0xff ? 2 : 1;
				this.buffer = (this.buffer << 8) | byte;
			}
			this.count += 8;
		}
	}

	get overrun() {
		return this.count < this.padding;
	}

	symbol(lookup) {
		if (this.count < 16) this.fill();
		const found = lookup[(this.buffer >>> (this.count - 16)) & 0xffff];
		if (!found) throw damaged();
		this.count -= found >> 8;
		return found & 0xff;
	}

	take(length) {
		if (this.count < length) this.fill();
		this.count -= length;
		return (this.buffer >>> this.count) & ((1 << length) - 1);
	}

	signed(length) {
		const value = this.take(length);
		return value < 1 << (length - 1) ? value - (1 << length) + 1 : value;
	}

	restart() {
		// more than a stray byte or two before the marker means damage
		if (this.overrun || this.count - this.padding >= 24) throw damaged();
		this.count = this.buffer = this.padding = 0;
		const marker = this.data[this.at + 1];
		if (this.data[this.at] !== 0xff || marker < 0xd0 || marker > 0xd7) throw damaged();
		this.at += 2;
	}

	/**
	 * Return the offset of the marker after the scan. A few stray bytes before it, or one byte repeated, are
	 * ignored, unless the scan read into them: then a broken copy was filled up. More mean damage.
	 */
	finish() {
		const { data, start } = this;
		if (this.overrun) throw damaged();
		let used = this.at;
		for (let unread = (this.count - this.padding) >> 3; unread > 0; unread--) {
			used -= data[used - 1] === 0 && data[used - 2] === 0xff ? 2 : 1;
		}
		let next = nextMarker(data, this.at);
		while (data[next + 1] >= 0xd0 && data[next + 1] <= 0xd7) next = nextMarker(data, next + 2);
		let end = next;
		while (end > used && data[end - 1] === 0xff) end -= 1;
		const fill = next === data.length ? 0 : data[end - 1];
		let from = end;
		while (from > start && data[from - 1] === fill) from -= 1;
		if (fill === 0 && from < end && data[from - 1] === 0xff) from += 1; // a stuffed byte
		if ((next === data.length || used < end) && from < used) throw damaged();
		if (used > start && end - used > STRAY && from > used) throw damaged();
		return next;
	}
}
