// From a JPEG file's bytes straight to PDQ's grid, without a canvas: only luma matters, and since
// filtering is linear, each block's DCT coefficients are folded onto the grid without its pixels.
// A file with damaged or missing data is refused. After ITU-T T.81 (baseline and progressive Huffman).

import { checkSize, damaged, orientation, text } from "./formats.js";
import { hashGrid, isSmall, tooSmall, upright } from "./pdq.js";
import { Bits, Frame } from "./jpeg_scan.js";

/** Hash a JPEG; null for a rare kind (CMYK, RGB, arithmetic, 12 bits) that only a browser may know. */
export function hashJpeg(data) {
	const frame = new Reader(data).read();
	if (!frame) return null;
	const { width, height, turned, grid, profile } = frame;
	const found = isSmall(width, height) ? tooSmall() : hashGrid(upright(grid, turned));
	return { ...found, pixels: width * height, profile };
}

/** Marks a JPEG that is left to the browser. */
class Rare extends Error {}

class Reader {
	constructor(data) {
		this.data = data;
		this.at = 2;
		this.turned = 0;
		this.restart = 0;
		this.quant = [];
		this.tables = {};
		this.frame = null;
		this.adobe = null;
		this.profile = []; // from, to
		this.jfif = false;
	}

	read() {
		try {
			this.segments();
		} catch (error) {
			if (error instanceof Rare) return null;
			throw error;
		}
		if (!this.frame?.seen) throw damaged();
		const { width, height } = this.frame;
		if (this.frame.progressive) this.frame.foldStored();
		const { profile, turned } = this;
		return { width, height, profile, turned: turned || 1, grid: this.frame.fold.finish() };
	}

	word(at) {
		if (at + 2 > this.data.length) throw damaged();
		return (this.data[at] << 8) | this.data[at + 1];
	}

	segments() {
		for (;;) {
			let strays = 0;
			while (this.data[this.at] !== 0xff) {
				this.at += 1;
				// some cameras pad by a byte or two
				if (++strays > 2 || this.at >= this.data.length) throw damaged();
			}
			while (this.data[this.at + 1] === 0xff) this.at += 1;
			const marker = this.data[this.at + 1];
			if (marker === undefined || marker === 0) throw damaged();
			this.at += 2;
			if (marker === 0xd9) return;
			if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) continue;
			const end = this.at + this.word(this.at);
			if (end > this.data.length) throw damaged();
			const body = this.data.subarray(this.at + 2, end);
			if (marker === 0xe2 && text(body, 0, 4) === "ICC_") this.profile.push([this.at - 2, end]);
			this.at = end;
			this.segment(marker, body);
		}
	}

	segment(marker, body) {
		const name = text(body, 0, 6);
		if (marker === 0xe0 && name.startsWith("JFIF\0")) this.jfif = true;
		else if (marker === 0xe1 && name === "Exif\0\0") this.turned ||= orientation(body.subarray(6));
		else if (marker === 0xee && name.startsWith("Adobe")) this.adobe = body[11];
		else if (marker === 0xdb) this.quantTables(body);
		else if (marker === 0xc4) this.huffmanTables(body);
		else if (marker === 0xdd) this.restart = (body[0] << 8) | body[1];
		else if (marker === 0xda) this.scan(body);
		else if (marker === 0xdc) throw new Rare();
		else if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc8 && marker !== 0xcc) this.start(marker, body);
	}

	quantTables(body) {
		for (let at = 0; at < body.length; ) {
			const wide = body[at] >> 4;
			const table = new Uint16Array(64);
			if (at + 1 + (wide ? 128 : 64) > body.length) throw damaged();
			for (let k = 0; k < 64; k++) {
				table[k] = wide ? (body[at + 1 + 2 * k] << 8) | body[at + 2 + 2 * k] : body[at + 1 + k];
			}
			this.quant[body[at] & 15] = table;
			at += 1 + (wide ? 128 : 64);
		}
	}

	huffmanTables(body) {
		for (let at = 0; at < body.length; ) {
			const lookup = new Uint16Array(65536); // code's length << 8 | symbol, for every 16 bits ahead
			let symbol = at + 17;
			let code = 0;
			for (let length = 1; length <= 16; length++) {
				for (let n = body[at + length]; n > 0; n--) {
					if (symbol >= body.length || code + (1 << (16 - length)) > 65536) throw damaged();
					lookup.fill((length << 8) | body[symbol++], code, code + (1 << (16 - length)));
					code += 1 << (16 - length);
				}
			}
			this.tables[body[at]] = lookup;
			at = symbol;
		}
	}

	start(marker, body) {
		if (this.frame) throw damaged();
		if (marker > 0xc2 || body[0] !== 8) throw new Rare();
		const height = (body[1] << 8) | body[2];
		const width = (body[3] << 8) | body[4];
		if (!height) throw new Rare();
		checkSize(width, height);
		if (body.length < 6 + 3 * body[5]) throw damaged();
		const components = Array.from({ length: body[5] }, (_, n) => {
			const at = 6 + 3 * n;
			return { id: body[at], h: body[at + 1] >> 4, v: body[at + 1] & 15, quant: body[at + 2] };
		});
		if (components.some(({ h, v }) => !h || !v || h > 4 || v > 4)) throw damaged();
		const ids = String.fromCharCode(...components.map(({ id }) => id));
		const rgb = this.jfif ? false : this.adobe === null ? ids === "RGB" : this.adobe === 0;
		if (components.length !== 1 && (components.length !== 3 || rgb)) throw new Rare();
		const [luma] = components;
		if (components.some(({ h, v }) => h > luma.h || v > luma.v)) throw new Rare();
		if (components.length === 1) luma.h = luma.v = 1;
		this.frame = new Frame(width, height, components, marker === 0xc2, this.turned || 1);
	}

	scan(body) {
		const { frame } = this;
		if (!frame) throw damaged();
		const count = body[0];
		const chosen = Array.from({ length: count }, (_, n) => {
			const component = frame.components.find(({ id }) => id === body[1 + 2 * n]);
			if (!component) throw damaged();
			component.dc = this.tables[body[2 + 2 * n] >> 4];
			component.ac = this.tables[0x10 | (body[2 + 2 * n] & 15)];
			return component;
		});
		const [from, to, shifts] = body.subarray(1 + 2 * count);
		const bits = new Bits(this.data, this.at);
		if (!chosen.includes(frame.luma)) {
			bits.skip(); // nothing but colour
		} else {
			frame.luma.table ??= this.quant[frame.luma.quant];
			if (!frame.luma.table) throw damaged();
			frame.scan(bits, chosen, { from, to, high: shifts >> 4, low: shifts & 15 }, this.restart);
		}
		this.at = bits.at;
	}
}
