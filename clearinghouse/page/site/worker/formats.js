// What a file is, by its content, never by its name; and the few bytes of structure we read.

export const PIXELS_MAX = 100_000_000;
export const BYTES_MAX = 256 * 2 ** 20;

/** Why a file could not be fingerprinted; `code` names the sentence that she reads. */
export class Refused extends Error {
	constructor(code) {
		super(code);
		this.code = code;
	}
}

export const damaged = () => new Refused("damaged");

export const text = (data, from, to) => String.fromCharCode(...data.subarray(from, to));
const starts = (data, prefix) => text(data, 0, prefix.length) === prefix;

const AVIF = ["avif", "avis"];
const HEIC = ["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "msf1"];
const VIDEO_BOXES = ["ftyp", "moov", "mdat", "wide", "pnot", "skip", "free"];
const BOXES = [...VIDEO_BOXES, "meta", "moof", "sidx", "styp", "uuid"];
const MATROSKA = "\x1aE\xdf\xa3";
const VIDEO_STARTS = ["OggS", "FLV\x01", "\0\0\x01\xba", "\0\0\x01\xb3", "0&\xb2u\x8ef\xcf\x11"];
const PICTURES = [
	["\xff\xd8", "jpeg"],
	["\x89PNG\r\n\x1a\n", "png"],
	["GIF87a", "gif"],
	["GIF89a", "gif"],
	["BM", "bmp"],
	["II*\0", "tiff"],
	["MM\0*", "tiff"],
	["II+\0", "tiff"],
	["MM\0+", "tiff"],
	["\xff\x0a", "other"], // JPEG XL
	["\0\0\0\x0cJXL ", "other"],
	["\0\0\0\x0cjP  ", "other"], // JPEG 2000
];

export const FILMS = ["mp4", "webm", "film"]; // the last stands for all other kinds of video

/** Name a file's kind from its first kilobyte; refuse what is neither picture nor video. */
export function detect(data) {
	if (!data.length) throw new Refused("empty");
	if (starts(data, MATROSKA)) return "webm";
	if (VIDEO_STARTS.some((prefix) => starts(data, prefix))) return "film";
	if (VIDEO_BOXES.includes(text(data, 4, 8))) return mediaFile(data);
	if (starts(data, "RIFF")) {
		if (text(data, 8, 12) === "WEBP") return "webp";
		if (text(data, 8, 12) === "AVI ") return "film";
	}
	const known = PICTURES.find(([prefix]) => starts(data, prefix));
	if (known) return known[1];
	if (data[0] === 0x47 && data[188] === 0x47 && data[376] === 0x47) return "film";
	throw new Refused("not_picture");
}

function mediaFile(data) {
	if (text(data, 4, 8) !== "ftyp") return "mp4";
	const size = Math.min(new DataView(data.buffer, data.byteOffset).getUint32(0), 512, data.length);
	const brands = [text(data, 8, 12)];
	for (let i = 16; i + 4 <= size; i += 4) brands.push(text(data, i, i + 4));
	if (brands.some((brand) => AVIF.includes(brand))) return "avif";
	if (brands.some((brand) => HEIC.includes(brand))) return "heic";
	return "mp4";
}

export function checkSize(width, height) {
	if (!width || !height) throw damaged();
	if (width * height > PIXELS_MAX) throw new Refused("too_large");
}

/**
 * Refuse a file that the browser will decode if it is cut off or too large, as far as its structure
 * tells: browsers show the part of a cut picture that is there, and its fingerprint would be wrong.
 * Of a video, `data` is not needed, since it may be larger than memory.
 */
export async function checkStructure(kind, blob, data = new Uint8Array()) {
	const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
	try {
		if (kind === "webp") checkWebp(view, data);
		if (kind === "gif") checkGif(view, data);
		if (kind === "bmp") checkBmp(view, data);
		if (["avif", "heic", "mp4"].includes(kind)) await checkBoxes(blob, kind);
		if (kind === "webm") await checkSegment(blob);
	} catch (error) {
		throw error instanceof RangeError ? damaged() : error;
	}
}

function checkWebp(view, data) {
	if (view.getUint32(4, true) + 8 > data.length) throw damaged();
	const chunk = text(data, 12, 16);
	const three = (at) => (view.getUint16(at, true) | (view.getUint8(at + 2) << 16)) + 1;
	if (chunk === "VP8X") checkSize(three(24), three(27));
	if (chunk === "VP8 ") checkSize(view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff);
	if (chunk === "VP8L") {
		const sides = view.getUint32(21, true);
		checkSize((sides & 0x3fff) + 1, ((sides >> 14) & 0x3fff) + 1);
	}
}

function checkGif(view, data) {
	checkSize(view.getUint16(6, true), view.getUint16(8, true));
	const table = (flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
	let at = 13 + table(view.getUint8(10));
	let frames = 0;
	for (;;) {
		const block = view.getUint8(at);
		if (block === 0x3b && frames) return;
		if (block === 0x2c) {
			frames += 1;
			at += 11 + table(view.getUint8(at + 9));
		} else if (block === 0x21) {
			at += 2;
		} else {
			throw damaged();
		}
		for (let size = view.getUint8(at); size; size = view.getUint8(at)) at += size + 1;
		at += 1;
	}
}

function checkBmp(view, data) {
	const old = view.getUint32(14, true) === 12;
	const width = old ? view.getUint16(18, true) : Math.abs(view.getInt32(18, true));
	const height = old ? view.getUint16(20, true) : Math.abs(view.getInt32(22, true));
	checkSize(width, height);
	const depth = view.getUint16(old ? 24 : 28, true);
	const packed = !old && ![0, 3, 6].includes(view.getUint32(30, true));
	const needed = packed ? 0 : Math.ceil((width * depth) / 32) * 4 * height;
	if (view.getUint32(10, true) + needed > data.length) throw damaged();
}

const head = async (blob, at) => new Uint8Array(await blob.slice(at, at + 16).arrayBuffer());

async function checkBoxes(blob, kind) {
	let seen = kind !== "mp4"; // a video without its table of contents lacks its end
	for (let at = 0; at < blob.size; ) {
		const start = await head(blob, at);
		const name = text(start, 4, 8);
		if (!BOXES.includes(name)) return; // some cameras write words of their own at the end
		const view = new DataView(start.buffer);
		const size = view.getUint32(0);
		const long = size === 1 ? Number(view.getBigUint64(8)) : size;
		if (long === 0) return; // to the end of the file
		if (long < 8 || at + long > blob.size) throw damaged();
		at += long;
		seen ||= name === "moov";
	}
	if (!seen) throw damaged();
}

/** Matroska's header and the one segment after it, each with its length (RFC 8794). */
async function checkSegment(blob) {
	let at = 0;
	for (let part = 0; part < 2; part++) {
		const [first, ...more] = (await head(blob, at)).subarray(4);
		const bytes = Math.clz32(first) - 23;
		const size = more.slice(0, bytes - 1).reduce((sum, byte) => sum * 256 + byte, first & (255 >> bytes));
		if (size === 2 ** (7 * bytes) - 1) return; // not known, as of what was recorded by a browser
		at += 4 + bytes + size;
	}
	if (at > blob.size) throw damaged();
}

/** Read the orientation, 1 to 8, from an EXIF block; 1 when it is absent or garbage. */
export function orientation(block) {
	const little = starts(block, "II");
	if (!little && !starts(block, "MM")) return 1;
	const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
	try {
		const start = view.getUint32(4, little);
		const count = Math.min(view.getUint16(start, little), 512);
		for (let i = 0; i < count; i++) {
			const at = start + 2 + 12 * i;
			if (view.getUint16(at, little) !== 0x0112) continue;
			const kind = view.getUint16(at + 2, little);
			const value = kind === 3 ? view.getUint16(at + 8, little) : view.getUint32(at + 8, little);
			const sound = [3, 4].includes(kind) && view.getUint32(at + 4, little) === 1;
			return sound && value >= 1 && value <= 8 ? value : 1;
		}
	} catch (error) {
		if (!(error instanceof RangeError)) throw error;
	}
	return 1;
}
