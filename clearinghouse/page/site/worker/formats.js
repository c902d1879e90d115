// What a file is, by its content and never by its name.

export const PIXELS_MAX = 100_000_000;
export const BYTES_MAX = 256 * 2 ** 20;

/** Why a file cannot be hashed. */
export class Refused extends Error {
	/** @param {string} code */
	constructor(code) {
		super(code);
		this.code = code;
	}
}

export const damaged = () => new Refused("damaged");

/** @param {Uint8Array} data @param {number} from @param {number} to */
export const text = (data, from, to) => String.fromCharCode(...data.subarray(from, to));
/** @param {Uint8Array} data */
export const viewOf = (data) => new DataView(data.buffer, data.byteOffset, data.byteLength);
const startsWith = (data, prefix) => text(data, 0, prefix.length) === prefix;

const AVIF = ["avif", "avis"];
const HEIC = ["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "msf1"];
export const VIDEO_BOXES = ["ftyp", "moov", "mdat", "wide", "pnot", "skip", "free"];
export const RARER_BOXES = "styp uuid moof sidx ssix emsg prft pdin meta udta junk PICT thum".split(" ");
const BOXES = [...VIDEO_BOXES, "meta", "moof", "sidx", "styp", "uuid"];
const MXF = "\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02";
const MATROSKA = "\x1aE\xdf\xa3";
const VIDEO_STARTS = [
	...["OggS", "FLV\x01", "0&\xb2u\x8ef\xcf\x11", "\x1f\x07\0\x3f", "\x1f\x07\0\xbf", "DKIF", "\x12\0\n"],
	...["\xba", "\xbb", "\xbd", "\xc0", "\xe0", "\xb3", "\xb0"].map((byte) => `\0\0\x01${byte}`), // MPEG
	...[".RMF", "FWS", "CWS", "\xb7\xd8\0 7I\xda\x11", "#EXTM3U"], // obsolete formats, and playlists
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

export const VIDEOS = ["mp4", "webm", "video"]; // the last for all other kinds of video

/** Return a file's kind, by its first 4096 bytes. @param {Uint8Array} data */
export function detect(data) {
	if (!data.length) throw new Refused("empty");
	if (startsWith(data, MATROSKA)) return "webm";
	if (VIDEO_STARTS.some((prefix) => startsWith(data, prefix))) return "video";
	if (BARE.test(text(data, 0, 12))) return "video";
	if (hasBoxes(data)) return mediaFile(data);
	if (startsWith(data, "RIFF")) {
		if (text(data, 8, 12) === "WEBP") return "webp";
		if (text(data, 8, 12) === "AVI ") return "video";
	}
	const known = PICTURES.find(([prefix]) => startsWith(data, prefix));
	if (known) return known[1];
	if (isTransportStream(data) || text(data, 0, data.length).includes(MXF)) return "video";
	throw new Refused("not_picture");
}

const uint32 = (data, at) => viewOf(data).getUint32(at);

function hasBoxes(data) {
	const name = text(data, 4, 8);
	if (VIDEO_BOXES.includes(name)) return true;
	const size = RARER_BOXES.includes(name) ? uint32(data, 0) : 0;
	return size === 1 || (size >= 8 && size < 0x20202020); // letters and spaces would be more
}

/** Whether it is a transport stream, cut anywhere: packets of 188 bytes, 192 (AVCHD) or 204. */
function isTransportStream(data) {
	return [188, 192, 204].some((stride) => {
		const count = Math.max(0, Math.min(stride, data.length - 4 * stride - 3));
		return Array.from({ length: count }, (_, start) => start).some((start) =>
			[0, 1, 2, 3, 4]
				.map((number) => start + number * stride)
				.every((at) => data[at] === 0x47 && !(data[at + 1] & 0x80) && data[at + 3] & 0x30),
		);
	});
}

function mediaFile(data) {
	let at = 0;
	while (at + 16 <= data.length && text(data, at + 4, at + 8) !== "ftyp") {
		const size = uint32(data, at);
		if (size < 8) return "mp4";
		at += size;
	}
	if (at + 16 > data.length) return "mp4";
	const end = Math.min(at + Math.min(uint32(data, at), 512), data.length);
	const brands = [text(data, at + 8, at + 12)];
	for (let i = at + 16; i + 4 <= end; i += 4) brands.push(text(data, i, i + 4));
	if (brands.some((brand) => AVIF.includes(brand))) return "avif";
	if (brands.some((brand) => HEIC.includes(brand))) return "heic";
	return "mp4";
}

/** @param {number} width @param {number} height */
export function checkSize(width, height) {
	if (!width || !height) throw damaged();
	if (width * height > PIXELS_MAX) throw new Refused("too_large");
}

/**
 * Refuse a file that is cut off or too large: browsers show the part of a picture that is there, and its
 * fingerprint would be wrong.
 * @type {CheckStructure}
 */
export async function checkStructure(kind, blob, data) {
	const view = viewOf(data);
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

/** Remove a BMP's alpha that is zero everywhere or has no meaning: browsers differ. @type {OpaqueBmp} */
export function opaqueBmp(blob, data) {
	const view = viewOf(data);
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
		if (!BOXES.includes(name)) return; // some cameras append data of their own
		const view = new DataView(start.buffer);
		const size = view.getUint32(0);
		const length = size === 1 ? Number(view.getBigUint64(8)) : size;
		if (length === 0) return; // to the end of the file
		if (length < 8 || at + length > blob.size) throw damaged();
		at += length;
	}
}

/** Return an EXIF block's orientation; 1 if it is absent or invalid. @param {Uint8Array} block */
export function orientation(block) {
	const little = startsWith(block, "II");
	if (!little && !startsWith(block, "MM")) return 1;
	const view = viewOf(block);
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
