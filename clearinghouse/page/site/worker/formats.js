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
const RARER_BOXES = "styp uuid moof sidx ssix emsg prft pdin meta udta junk PICT thum".split(" ");
const BOXES = [...VIDEO_BOXES, "meta", "moof", "sidx", "styp", "uuid"];
const MXF = "\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02";
const MATROSKA = "\x1aE\xdf\xa3";
const VIDEO_STARTS = [
	...["OggS", "FLV\x01", "0&\xb2u\x8ef\xcf\x11", "\x1f\x07\0\x3f", "\x1f\x07\0\xbf", "DKIF", "\x12\0\n"],
	...["\xba", "\xbb", "\xbd", "\xc0", "\xe0", "\xb3", "\xb0"].map((byte) => `\0\0\x01${byte}`), // MPEG
	...[".RMF", "FWS", "CWS", "\xb7\xd8\0 7I\xda\x11", "#EXTM3U"], // what nobody reads any more, and playlists
];
const BARE = /^\0{2,8}\x01(?:[\x27\x47\x67\x06\x09]|[\x40\x42\x46\x4e]\x01)/; // H.264 and HEVC
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

/** Name a file's kind from its first four kilobytes; refuse what is neither picture nor video. */
export function detect(data) {
	if (!data.length) throw new Refused("empty");
	if (starts(data, MATROSKA)) return "webm";
	if (VIDEO_STARTS.some((prefix) => starts(data, prefix))) return "film";
	if (BARE.test(text(data, 0, 12))) return "film";
	if (hasBoxes(data)) return mediaFile(data);
	if (starts(data, "RIFF")) {
		if (text(data, 8, 12) === "WEBP") return "webp";
		if (text(data, 8, 12) === "AVI ") return "film";
	}
	const known = PICTURES.find(([prefix]) => starts(data, prefix));
	if (known) return known[1];
	if (holdsPackets(data) || text(data, 0, data.length).includes(MXF)) return "film";
	throw new Refused("not_picture");
}

const long = (data, at) => new DataView(data.buffer, data.byteOffset).getUint32(at);

function hasBoxes(data) {
	const name = text(data, 4, 8);
	if (VIDEO_BOXES.includes(name)) return true;
	const size = RARER_BOXES.includes(name) ? long(data, 0) : 0;
	return size === 1 || (size >= 8 && size < 0x20202020); // which text would be, at least
}

/** Tell a transport stream, wherever it was cut: packets of 188 bytes, 192 in AVCHD, or 204. */
function holdsPackets(data) {
	return [188, 192, 204].some((stride) => {
		const starts = Math.max(0, Math.min(stride, data.length - 4 * stride - 3));
		return Array.from({ length: starts }, (_, start) => start).some((start) =>
			[0, 1, 2, 3, 4]
				.map((number) => start + number * stride)
				.every((at) => data[at] === 0x47 && !(data[at + 1] & 0x80) && data[at + 3] & 0x30),
		);
	});
}

function mediaFile(data) {
	let at = 0;
	while (at + 16 <= data.length && text(data, at + 4, at + 8) !== "ftyp") {
		const size = long(data, at);
		if (size < 8) return "mp4";
		at += size;
	}
	if (at + 16 > data.length) return "mp4";
	const end = Math.min(at + Math.min(long(data, at), 512), data.length);
	const brands = [text(data, at + 8, at + 12)];
	for (let i = at + 16; i + 4 <= end; i += 4) brands.push(text(data, i, i + 4));
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
 */
export async function checkStructure(kind, blob, data = new Uint8Array()) {
	const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
	try {
		if (kind === "webp") checkWebp(view, data);
		if (kind === "bmp") checkBmp(view, data);
		if (["avif", "heic"].includes(kind)) await checkBoxes(blob);
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

/**
 * Write alpha out of a BMP's header where nothing would be seen by it, as many programs leave it, and
 * where the header gives it no meaning; browsers differ.
 */
export function opaqueBmp(blob, data) {
	const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
	if (data.length < 70) return blob;
	const packing = view.getUint32(30, true);
	if (view.getUint32(14, true) < 56 || view.getUint16(28, true) !== 32 || ![0, 3].includes(packing)) return blob;
	const mask = view.getUint32(66, true);
	const end = data.length - 3;
	let at = packing ? view.getUint32(10, true) : end;
	while (at < end && !(view.getUint32(at, true) & mask)) at += 4;
	return at < end ? blob : new Blob([data.subarray(0, 66), new Uint8Array(4), data.subarray(70)]);
}

const head = async (blob, at) => new Uint8Array(await blob.slice(at, at + 16).arrayBuffer());

async function checkBoxes(blob) {
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
	}
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
