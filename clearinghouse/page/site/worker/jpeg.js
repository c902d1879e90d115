// JPEG (ITU-T T.81, baseline and progressive Huffman) without a canvas. Since PDQ's filters are linear,
// DCT coefficients of luma are added to its grid without any pixels. Damaged files are refused; those
// that merely violate the standard, as cameras' do, are read by libjpeg's rules.

import { checkSize, damaged, orientation, Refused, text } from "./formats.js";
import { hashGrid, isSmall, tooSmall, upright } from "./pdq.js";
import { BitReader, Frame, nextMarker } from "./jpeg_scan.js";

const ALONE = [0x01, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7]; // markers without a length

// The tables of T.81, annex K.3, which frames of webcams' videos omit.
const STANDARD =
	"AAABBQEBAQEBAQAAAAAAAAAAAQIDBAUGBwgJCgsQAAIBAwMCBAMFBQQEAAABfQECAwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEV" +
	"UtHwJDNicoIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SVlpeY" +
	"mZqio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+gEAAwEBAQEBAQEBAQAAAAAA" +
	"AAECAwQFBgcICQoLEQACAQIEBAMEBwUEBAABAncAAQIDEQQFITEGEkFRB2FxEyIygQgUQpGhscEJIzNS8BVictEKFiQ04SXxFxgZ" +
	"GiYnKCkqNTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqCg4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1" +
	"tre4ubrCw8TFxsfIycrS09TV1tfY2dri4+Tl5ufo6ery8/T19vf4+fo=";

/** Hash a JPEG; null for a complete one that is CMYK or RGB. @type {(data: Uint8Array) => OwnHash?} */
export function hashJpeg(data) {
	const frame = new Reader(data).read();
	if (!frame) return null;
	const { width, height, turned, grid, profile } = frame;
	const found = isSmall(width, height) ? tooSmall() : hashGrid(upright(grid, turned));
	return { ...found, pixels: width * height, profile };
}

class Reader {
	/** `all` reads the chroma scans of a progressive file, too. */
	constructor(data, all = false) {
		this.data = data;
		this.all = all;
		this.at = 2;
		this.turned = 0;
		this.restart = 0;
		this.quant = [];
		this.tables = {};
		this.frame = null;
		this.adobe = null;
		/** @type {number[][]} */
		this.profile = []; // byte ranges
		this.jfif = false;
		this.missing = new Map(); // the low bits of each coefficient that no scan had yet
	}

	read() {
		const ended = this.segments();
		const { frame, profile, turned } = this;
		if (!frame?.seen) throw damaged();
		if (!ended && frame.skipped) return new Reader(this.data, true).read();
		if (!ended && !this.complete()) throw damaged();
		if (!frame.gridSum) return null;
		if (frame.progressive) frame.addCoefficients();
		return { width: frame.width, height: frame.height, profile, turned: turned || 1, grid: frame.gridSum.finish() };
	}

	/** Return whether there is an end marker. */
	segments() {
		for (;;) {
			this.at = nextMarker(this.data, this.at) + 2;
			const marker = this.data[this.at - 1];
			if (marker === 0xd9) return true;
			if (ALONE.includes(marker)) continue;
			const end = this.at + Math.max(2, (this.data[this.at] << 8) | this.data[this.at + 1]);
			if (!(this.at + 2 <= this.data.length && end <= this.data.length)) return false;
			const body = this.data.subarray(this.at + 2, end);
			if (marker === 0xe2 && text(body, 0, 4) === "ICC_") this.profile.push([this.at - 2, end]);
			this.at = end;
			this.segment(marker, body);
		}
	}

	/** Whether the scans had every bit, as far as their headers show. */
	complete() {
		return this.frame?.components.every(({ id }) =>
			Array.from({ length: 64 }, (_, k) => this.missing.get(id * 64 + k)).every((bits) => bits === 0),
		);
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
		else if (marker === 0xd8) throw damaged();
		else if (marker === 0xf7) throw new Refused("unopened"); // JPEG-LS
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

	huffmanTables(body, missing = false) {
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
			if (!missing || !this.tables[body[at]]) this.tables[body[at]] = lookup;
			at = symbol;
		}
	}

	start(marker, body) {
		if (this.frame) throw damaged();
		if (marker > 0xc2 || body[0] !== 8) throw new Refused("unopened"); // lossless, arithmetic, 12 bits
		const height = (body[1] << 8) | body[2];
		const width = (body[3] << 8) | body[4];
		checkSize(width, height);
		if (body.length < 6 + 3 * body[5]) throw damaged();
		const components = Array.from({ length: body[5] }, (_, n) => {
			const at = 6 + 3 * n;
			const [id, sampling, quant] = body.subarray(at);
			return /** @type {Component} */ ({ id, h: sampling >> 4, v: sampling & 15, quant });
		});
		if (components.some(({ h, v }) => !h || !v || h > 4 || v > 4)) throw damaged();
		const ids = String.fromCharCode(...components.map(({ id }) => id));
		const rgb = this.jfif ? false : this.adobe === null ? ids === "RGB" : this.adobe === 0;
		const [luma] = components;
		if (components.length === 1) luma.h = luma.v = 1;
		const ours = components.length === 1 || (components.length === 3 && !rgb);
		const toGrid = ours && components.every(({ h, v }) => h <= luma.h && v <= luma.v);
		const options = { progressive: marker === 0xc2, toGrid, all: this.all || !toGrid };
		this.frame = new Frame(width, height, components, this.turned || 1, options);
	}

	scan(body) {
		const { frame } = this;
		if (!frame) throw damaged();
		const count = body[0];
		const chosen = Array.from({ length: count }, (_, n) => {
			const component = frame.components.find(({ id }) => id === body[1 + 2 * n]);
			if (!component) throw damaged();
			const [dc, ac] = [body[2 + 2 * n] >> 4, 0x10 | (body[2 + 2 * n] & 15)];
			if (!frame.progressive && !(this.tables[dc] && this.tables[ac])) {
				this.huffmanTables(Uint8Array.from(atob(STANDARD), (c) => c.charCodeAt(0)), true);
			}
			component.dc = this.tables[dc];
			component.ac = this.tables[ac];
			return component;
		});
		if (body.length < 4 + 2 * count) throw damaged();
		const [from, to, shifts] = frame.progressive ? body.subarray(1 + 2 * count) : [0, 63, 0];
		for (const { id } of chosen) for (let k = from; k <= to; k++) this.missing.set(id * 64 + k, shifts & 15);
		if (frame.gridSum) {
			frame.luma.table ??= this.quant[frame.luma.quant];
			if (!frame.luma.table) throw damaged();
		}
		const bits = new BitReader(this.data, this.at);
		if (frame.needs(chosen)) {
			frame.scan(bits, chosen, { from, to, high: shifts >> 4, low: shifts & 15 }, this.restart);
		}
		this.at = bits.finish();
	}
}
