// The scans of a JPEG: bits, coefficients, and the folding of their blocks onto PDQ's grid.
// After ITU-T T.81, sections F and G (baseline and progressive Huffman).

import { damaged } from "./formats.js";
import { GRID, storedBands } from "./pdq.js";

const ZIGZAG = [];
for (let sum = 0; sum < 15; sum++) {
	for (let i = Math.max(0, sum - 7); i <= Math.min(7, sum); i++) {
		ZIGZAG.push(sum % 2 ? i * 8 + (sum - i) : (sum - i) * 8 + i);
	}
}

/** Folds blocks of coefficients onto the grid, one row of blocks after the other. */
class Fold {
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

/** Give, for each block of eight pixels, the cells it reaches and their weights on its frequencies. */
function blockBands(bands, length) {
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

/** The picture of a JPEG: its luma, folded onto the grid scan by scan. */
export class Frame {
	constructor(width, height, components, progressive, turned) {
		Object.assign(this, { width, height, components, progressive });
		[this.luma] = components;
		this.fold = new Fold(width, height, turned);
		this.seen = false;
		this.wide = Math.ceil(width / (8 * this.luma.h));
		this.high = Math.ceil(height / (8 * this.luma.v));
		this.across = Math.ceil(width / 8); // blocks that hold pixels
		this.down = Math.ceil(height / 8);
		this.stride = this.wide * this.luma.h;
		if (progressive) this.stored = new Int16Array(this.stride * this.high * this.luma.v * 64);
	}

	scan(bits, chosen, spectrum, restart) {
		this.seen = true;
		const { luma } = this;
		const alone = chosen.length === 1;
		const wide = alone ? this.across : this.wide;
		const high = alone ? this.down : this.high;
		const decode = this.progressive ? this.progression(bits, spectrum) : null;
		// one row of coefficients for each row of blocks in the row of units that is being read
		const lines = alone ? 1 : luma.v;
		const rows = Array.from({ length: lines }, () => new Int32Array(this.progressive ? 0 : this.stride * 64));
		for (const component of chosen) component.before = 0;
		this.run = 0;
		let left = restart;
		for (let y = 0; y < high; y++) {
			for (let x = 0; x < wide; x++) {
				if (restart && left === 0) {
					bits.restart();
					for (const component of chosen) component.before = 0;
					this.run = 0;
					left = restart;
				}
				left -= 1;
				for (const component of chosen) {
					const across = alone ? 1 : component.h;
					const down = alone ? 1 : component.v;
					for (let v = 0; v < down; v++) {
						for (let h = 0; h < across; h++) {
							const column = x * across + h;
							if (decode) {
								decode(component, ((y * down + v) * this.stride + column) * 64, component === luma);
							} else {
								this.baseline(bits, component, component === luma ? rows[v] : null, column * 64);
							}
						}
					}
				}
			}
			if (bits.overrun) throw damaged();
			if (!decode) rows.forEach((row, v) => this.foldRow(y * lines + v, row));
		}
		bits.end();
	}

	foldRow(y, row, from = 0) {
		const { table } = this.luma;
		for (let x = 0; x < this.across; x++) {
			for (let k = 0; k < 64; k++) {
				const value = row[from + x * 64 + k];
				if (value) this.fold.add(x, ZIGZAG[k], value * table[k]);
			}
		}
		this.fold.endRow(y);
		if (!this.progressive) row.fill(0);
	}

	foldStored() {
		for (let y = 0; y < this.down; y++) this.foldRow(y, this.stored, y * this.stride * 64);
	}

	baseline(bits, component, row, at) {
		const { dc, ac } = component;
		if (!dc || !ac) throw damaged();
		const size = bits.symbol(dc);
		component.before += size ? bits.signed(size) : 0;
		if (row) row[at] = component.before;
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
		const { stored } = this;
		if (from > to || to > 63 || low > 13) throw damaged();
		if (from === 0 && high === 0) {
			return (component, at, keep) => {
				if (!component.dc) throw damaged();
				const size = bits.symbol(component.dc);
				component.before += size ? bits.signed(size) : 0;
				if (keep) stored[at] = component.before << low;
			};
		}
		if (from === 0) {
			return (_, at, keep) => {
				const bit = bits.take(1);
				if (keep) stored[at] |= bit << low;
			};
		}
		return high === 0
			? (component, at) => this.first(bits, component.ac, at, from, to, low)
			: (component, at) => this.refine(bits, component.ac, at, from, to, 1 << low);
	}

	first(bits, ac, at, from, to, low) {
		if (!ac) throw damaged();
		if (this.run) {
			this.run -= 1;
			return;
		}
		for (let k = from; k <= to; k++) {
			const symbol = bits.symbol(ac);
			const zeros = symbol >> 4;
			const length = symbol & 15;
			if (length) {
				k += zeros;
				if (k > 63) throw damaged();
				this.stored[at + k] = bits.signed(length) * (1 << low);
			} else if (zeros === 15) {
				k += 15;
			} else {
				this.run = (1 << zeros) + bits.take(zeros) - 1;
				break;
			}
		}
	}

	refine(bits, ac, at, from, to, step) {
		if (!ac) throw damaged();
		const { stored } = this;
		const correct = (n) => {
			if (bits.take(1) && !(stored[n] & step)) stored[n] += stored[n] > 0 ? step : -step;
		};
		let k = from;
		if (!this.run) {
			for (; k <= to; k++) {
				const symbol = bits.symbol(ac);
				let zeros = symbol >> 4;
				let value = 0;
				if (symbol & 15) {
					value = bits.take(1) ? step : -step;
				} else if (zeros < 15) {
					this.run = (1 << zeros) + bits.take(zeros);
					break;
				}
				for (; k <= to; k++) {
					if (stored[at + k]) correct(at + k);
					else if (--zeros < 0) break;
				}
				if (value) {
					if (k > 63) throw damaged();
					stored[at + k] = value;
				}
			}
		}
		if (this.run) {
			for (; k <= to; k++) if (stored[at + k]) correct(at + k);
			this.run -= 1;
		}
	}
}

/** Reads bits of a scan. At a marker it gives zeros, and `overrun` tells whether any were used. */
export class Bits {
	constructor(data, at) {
		this.data = data;
		this.at = at;
		this.buffer = 0;
		this.count = 0;
		this.padding = 0;
	}

	fill() {
		while (this.count <= 24) {
			const byte = this.data[this.at];
			if (byte === 0xff && this.data[this.at + 1] !== 0) {
				this.padding += 8;
				this.buffer <<= 8;
			} else if (byte === undefined) {
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
		this.end();
		const marker = this.data[this.at + 1];
		if (this.data[this.at] !== 0xff || marker < 0xd0 || marker > 0xd7) throw damaged();
		this.at += 2;
	}

	/** End a stretch of the scan; more than a stray byte or two before the marker is damage. */
	end() {
		if (this.overrun || this.count - this.padding >= 24) throw damaged();
		this.count = this.buffer = this.padding = 0;
	}

	/** Pass over the scan to the next marker that is no restart. */
	skip() {
		for (; this.at < this.data.length; this.at++) {
			const next = this.data[this.at + 1];
			if (this.data[this.at] === 0xff && next && (next < 0xd0 || next > 0xd7)) return;
		}
		throw damaged();
	}
}
