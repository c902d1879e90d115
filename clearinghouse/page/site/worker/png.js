// PNG (W3C, third edition) without a canvas: checksums are verified, transparent parts are white, rows
// are streamed.

import { checkSize, damaged, orientation, text, viewOf } from "./formats.js";
import { GridRows } from "./pdq.js";

const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const DEPTHS = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
const COLOUR_CHUNKS = ["iCCP", "sRGB", "gAMA", "cHRM", "cICP"]; // how the colours are meant
const NONE = new Uint8Array();
const KNOWN = ["IHDR", "PLTE", "IDAT", "IEND"];
// x and y of the first pixel and the steps between pixels in the seven passes of Adam7
const PASSES = [
	[0, 0, 8, 8],
	[4, 0, 8, 8],
	[0, 4, 4, 8],
	[2, 0, 4, 4],
	[0, 2, 2, 4],
	[1, 0, 2, 2],
	[0, 1, 1, 2],
];

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
	let sum = n;
	for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
	return sum;
});

function crc32(data, from, to) {
	let sum = 0xffffffff;
	for (let at = from; at < to; at++) sum = (sum >>> 8) ^ CRC_TABLE[(sum ^ data[at]) & 0xff];
	return ~sum >>> 0;
}

/** Hash a PNG, or the first frame that is shown of it. @type {(data: Uint8Array) => Promise<OwnHash>} */
export async function hashPng(data) {
	const picture = structure(data);
	const rows = new GridRows(picture.width, picture.height, picture.turned);
	const frame = { ...picture, ...picture.shown };
	const source = new InflateReader(frame.packed);
	const canvas = new WhiteCanvas(rows, picture, frame);
	await (picture.interlaced ? readInterlaced(frame, source, canvas) : readRows(frame, source, canvas));
	canvas.end();
	await source.end();
	return { ...rows.hash(), profile: picture.profile };
}

/** Adds the rows of a frame to a white picture. */
class WhiteCanvas {
	constructor(rows, { width, height }, { left = 0, top = 0 }) {
		this.rows = rows;
		this.height = height;
		this.left = left;
		this.line = new Float64Array(width).fill(255);
		for (let y = 0; y < top; y++) rows.add(this.line);
	}

	add(luma) {
		this.line.set(luma, this.left);
		this.rows.add(this.line);
	}

	end() {
		this.line.fill(255);
		while (this.rows.y < this.height) this.rows.add(this.line);
	}
}

function structure(data) {
	const view = viewOf(data);
	const initial = { packed: [], turned: 1, profile: [], palette: NONE, clear: NONE, shown: null };
	const picture = /** @type {Png} */ (/** @type {unknown} */ (initial));
	const control = new AnimationControl();
	const names = [];
	for (let at = 8; names.at(-1) !== "IEND"; ) {
		if (at + 12 > data.length) throw damaged();
		const end = at + 12 + view.getUint32(at);
		if (end > data.length) throw damaged();
		if (crc32(data, at + 4, end - 4) !== view.getUint32(end - 4)) throw damaged();
		const name = text(data, at + 4, at + 8);
		const body = data.subarray(at + 8, end - 4);
		if (name === "IHDR") Object.assign(picture, header(body));
		else if (name === "PLTE") picture.palette = body;
		else if (name === "tRNS") picture.clear = body;
		else if (name === "IDAT") picture.packed.push(body);
		else if (["acTL", "fcTL", "fdAT"].includes(name)) control.take(name, body, picture);
		else if (COLOUR_CHUNKS.includes(name)) picture.profile.push([at, end]);
		else if (name === "eXIf") picture.turned = orientation(body);
		else if (!KNOWN.includes(name) && !(data[at + 4] & 0x20)) throw damaged();
		if (name === "IDAT" || name === "IEND") control.take(name, body, picture);
		names.push(name);
		at = end;
	}
	const one = names[0] === "IHDR" && names.lastIndexOf("IHDR") === 0;
	if (!one || !picture.packed.length || (picture.colour === 3 && !picture.palette.length)) throw damaged();
	picture.luma = lumaReader(picture);
	picture.shown = control.shown;
	return picture;
}

/** Finds the first frame where the first image is no part of the animation; invalid ones are ignored. */
class AnimationControl {
	animated = false;
	/** @type {PngFrame?} */
	frame = null;
	/** @type {PngFrame?} */
	shown = null;
	number = 0;
	seen = false;
	done = false;

	take(name, body, { width, height }) {
		if (this.done) return;
		const word = (at) => ((body[at] << 24) | (body[at + 1] << 16) | (body[at + 2] << 8) | body[at + 3]) >>> 0;
		if (name === "acTL") {
			this.animated = body.length === 8 && word(0) > 0;
		} else if (name === "IDAT") {
			this.done = !this.animated;
		} else if (this.frame && name !== "fdAT") {
			this.done = true;
			this.shown = this.frame.packed.length ? this.frame : null;
		} else if (name === "fcTL") {
			const frame = { width: word(4), height: word(8), left: word(12), top: word(16), packed: [] };
			const inside = frame.left + frame.width <= width && frame.top + frame.height <= height;
			const sound = body.length === 26 && word(0) === 0 && frame.width && frame.height && inside;
			this.done = !sound || !this.seen;
			this.frame = frame;
		} else if (name === "fdAT") {
			this.number += 1;
			this.done = !this.frame || word(0) !== this.number;
			this.frame?.packed.push(body.subarray(4));
		}
		this.seen ||= name === "IDAT";
	}
}

function header(body) {
	if (body.length !== 13) throw damaged();
	const view = viewOf(body);
	const [width, height] = [view.getUint32(0), view.getUint32(4)];
	const [depth, colour, packing, filtering, interlaced] = body.subarray(8);
	if (!DEPTHS[colour]?.includes(depth) || packing || filtering || interlaced > 1) throw damaged();
	checkSize(width, height);
	return { width, height, depth, colour, interlaced, bits: depth * CHANNELS[colour] };
}

const onWhite = (colour, alpha) => Math.floor((colour * alpha + 255 * (255 - alpha) + 127) / 255);
const weighted = (red, green, blue) => 0.299 * red + 0.587 * green + 0.114 * blue;

/** Return a function that converts a row to luma on white, 0 to 255. @param {Png} picture */
function lumaReader({ depth, colour, palette, clear }) {
	if (colour === 0 || colour === 3) {
		const seen = (value) => {
			if (colour === 0) {
				const hidden = clear.length >= 2 && ((clear[0] << 8) | clear[1]) === value;
				return hidden ? 255 : depth === 16 ? value >> 8 : (value * 255) / (2 ** depth - 1);
			}
			if (3 * value + 3 > palette.length) throw damaged();
			const alpha = clear[value] ?? 255;
			return weighted(...Array.from(palette.subarray(3 * value, 3 * value + 3), (c) => onWhite(c, alpha)));
		};
		if (depth === 16) {
			return (row, out) => {
				for (let x = 0; x < out.length; x++) out[x] = seen((row[2 * x] << 8) | row[2 * x + 1]);
			};
		}
		const table = new Float64Array(2 ** depth).fill(NaN);
		const each = 8 / depth;
		return (row, out) => {
			for (let x = 0; x < out.length; x++) {
				const shift = 8 - depth * ((x % each) + 1);
				const value = (row[Math.floor(x / each)] >> shift) & (2 ** depth - 1);
				if (Number.isNaN(table[value])) table[value] = seen(value);
				out[x] = table[value];
			}
		};
	}
	const wide = depth / 8; // the high byte is first, and the only one that is used
	const grey = colour === 4;
	const step = CHANNELS[colour] * wide;
	const opaque = colour === 2;
	const hidden = opaque && clear.length >= 6;
	const isHidden = (row, at) => {
		for (let n = 0; n < 6; n++) {
			const byte = wide === 2 ? row[at + n] : n % 2 ? row[at + (n >> 1)] : 0;
			if (clear[n] !== byte) return false;
		}
		return true;
	};
	return (row, out) => {
		for (let x = 0, at = 0; x < out.length; x++, at += step) {
			const red = row[at];
			const green = grey ? red : row[at + wide];
			const blue = grey ? red : row[at + 2 * wide];
			if (opaque) {
				out[x] = hidden && isHidden(row, at) ? 255 : weighted(red, green, blue);
				continue;
			}
			const alpha = row[at + step - wide];
			out[x] =
				alpha === 255
					? weighted(red, green, blue)
					: weighted(onWhite(red, alpha), onWhite(green, alpha), onWhite(blue, alpha));
		}
	};
}

/** Yield the rows of a picture, or of one pass. */
async function* rowsOf(source, width, height, bits) {
	const step = Math.max(1, bits >> 3);
	let above = new Uint8Array(Math.ceil((width * bits) / 8));
	let row = above.slice();
	for (let y = 0; y < height; y++) {
		if (source.ready <= row.length) await source.need(1 + row.length);
		unfilter(source.byte(), source.take(row), above, step);
		yield row;
		[above, row] = [row, above];
	}
}

async function readRows({ width, height, bits, luma }, source, rows) {
	const out = new Float64Array(width);
	for await (const row of rowsOf(source, width, height, bits)) {
		luma(row, out);
		rows.add(out);
	}
}

async function readInterlaced({ width, height, bits, luma }, source, rows) {
	const whole = new Float32Array(width * height);
	for (const [left, top, right, down] of PASSES) {
		const across = Math.ceil((width - left) / right);
		if (across < 1) continue;
		const out = new Float64Array(across);
		let at = top * width + left;
		for await (const row of rowsOf(source, across, Math.ceil((height - top) / down), bits)) {
			luma(row, out);
			for (let x = 0; x < across; x++) whole[at + x * right] = out[x];
			at += down * width;
		}
	}
	for (let y = 0; y < height; y++) rows.add(whole.subarray(y * width, (y + 1) * width));
}

function unfilter(kind, row, above, step) {
	if (kind > 4) throw damaged();
	const length = row.length;
	if (kind === 1) for (let x = step; x < length; x++) row[x] += row[x - step];
	if (kind === 2) for (let x = 0; x < length; x++) row[x] += above[x];
	if (kind === 3) {
		for (let x = 0; x < length; x++) row[x] += ((x < step ? 0 : row[x - step]) + above[x]) >> 1;
	}
	if (kind === 4) {
		for (let x = 0; x < length; x++) {
			const a = x < step ? 0 : row[x - step];
			const b = above[x];
			const c = x < step ? 0 : above[x - step];
			const pa = Math.abs(b - c);
			const pb = Math.abs(a - c);
			const pc = Math.abs(a + b - 2 * c);
			row[x] += pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
		}
	}
}

/** Decompressed bytes; reading beyond their end means that the file is cut. */
class InflateReader {
	constructor(pieces) {
		const stream = new Blob(pieces).stream().pipeThrough(new DecompressionStream("deflate"));
		this.reader = stream.getReader();
		this.chunks = [];
		this.ready = 0; // bytes in the chunks
		this.at = 0; // offset in the first
	}

	async need(count) {
		while (this.ready < count) {
			const { done, value } = await this.read();
			if (done) throw damaged();
			this.chunks.push(value);
			this.ready += value.length;
		}
	}

	async read() {
		try {
			return await this.reader.read();
		} catch {
			throw damaged(); // browsers throw different errors
		}
	}

	byte() {
		return this.take(new Uint8Array(1))[0];
	}

	take(out) {
		for (let filled = 0; filled < out.length; ) {
			const [first] = this.chunks;
			const part = first.subarray(this.at, this.at + out.length - filled);
			out.set(part, filled);
			filled += part.length;
			this.at += part.length;
			if (this.at === first.length) {
				this.chunks.shift();
				this.at = 0;
			}
		}
		this.ready -= out.length;
		return out;
	}

	/** Read to the end, where the checksum is verified. */
	async end() {
		for (let got = await this.read(); !got.done; got = await this.read());
	}
}
