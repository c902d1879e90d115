// Whether a video is complete, since a browser plays what it finds, and what its header crops;
// nciihash/media/structure.py explains the rules.

import { damaged, RARER_BOXES, Refused, text, VIDEO_BOXES, viewOf } from "./formats.js";

const PIECE = 2 ** 18;
const HEADER_MAX = 2 ** 24; // bytes of a box that is read as a whole
const GAP = 0.25; // seconds that may be missing between two fragments
const BOXES = [...VIDEO_BOXES, ...RARER_BOXES, "mfra"];

/** Return a function that reads ranges of a large file. */
function reader(blob) {
	let from = 0;
	let buffer = new Uint8Array();
	return async (at, length) => {
		if (at < from || at + length > from + buffer.length) {
			from = at;
			buffer = new Uint8Array(await blob.slice(at, at + Math.max(length, PIECE)).arrayBuffer());
		}
		return buffer.subarray(at - from, at - from + length);
	};
}

/** Return a box's name, the start of its content and its end; nothing if there is none. */
function boxIn(data, at, size) {
	if (data.length < 8) return {};
	const view = viewOf(data);
	const short = view.getUint32(0);
	const long = short === 1 && data.length >= 16 ? Number(view.getBigUint64(8)) : short || size - at;
	const start = short === 1 ? 16 : 8;
	return long < start ? {} : { name: text(data, 4, 8), start: at + start, end: at + long };
}

/** Return the content of each box with a name within another. */
function boxesIn(data, wanted) {
	const found = [];
	for (let at = 0; at + 8 <= data.length; ) {
		const { name, start, end } = boxIn(data.subarray(at, at + 16), at, data.length);
		if (!name || end > data.length) break;
		if (name === wanted) found.push(data.subarray(start, end));
		at = end;
	}
	return found;
}

const boxesAt = (data, ...path) => path.reduce((boxes, name) => boxes.flatMap((box) => boxesIn(box, name)), [data]);

/** Refuse a video with a missing part; return what its header crops, or null. @type {CheckVideo} */
export async function checkVideo(kind, blob) {
	try {
		if (kind === "webm") await checkWebm(blob);
		return kind === "mp4" ? cropOf(await checkMp4(blob)) : null;
	} catch (error) {
		throw error instanceof RangeError ? damaged() : error;
	}
}

/** Refuse an MP4 that is cut off or lacks a fragment. Return its header, `moov`. */
async function checkMp4(blob) {
	const read = reader(blob);
	let movie = null;
	let fragments = null;
	let fragmentCount = 0;
	let pending = false;
	for (let at = 0; at < blob.size; ) {
		const head = await read(at, 16);
		const { name, start, end } = boxIn(head, at, blob.size);
		if (!name || (end > blob.size && !BOXES.includes(name))) {
			if (fragmentCount && head.length >= 8 && head.some((byte) => byte)) throw damaged();
			break; // some cameras append data of their own
		}
		if (end > blob.size) throw damaged();
		if (name === "moov" || name === "moof") {
			const content = (await read(start, Math.min(end - start, HEADER_MAX))).slice();
			if (name === "moov") {
				movie = content;
				fragments = new Fragments(content);
			} else if (!fragments) throw new Refused("unplayable"); // a segment of a stream
			else fragments.add(content);
			if (name === "moof") fragmentCount += 1;
		}
		pending = name === "moof" || (pending && name !== "mdat");
		at = end;
	}
	if (!movie || pending) throw damaged();
	return movie;
}

/** Return a track's number in `tkhd`, its time scale in `mdhd`. */
const fieldAfterTimes = (box) => viewOf(box).getUint32(box[0] === 1 ? 20 : 12);

/** Where each track should continue, to detect missing fragments. */
class Fragments {
	/** @type {number?} */
	#number = null;
	#tracks = new Map();

	constructor(movie) {
		for (const track of boxesIn(movie, "trak")) {
			const [header] = boxesIn(track, "tkhd");
			const [media] = boxesAt(track, "mdia", "mdhd");
			if (header && media) this.#tracks.set(fieldAfterTimes(header), { scale: fieldAfterTimes(media), duration: 0, due: null });
		}
		for (const entry of boxesAt(movie, "mvex", "trex")) {
			const track = this.#tracks.get(viewOf(entry).getUint32(4));
			if (track) track.duration = viewOf(entry).getUint32(12);
		}
	}

	add(fragment) {
		const [header] = boxesIn(fragment, "mfhd");
		const number = header ? viewOf(header).getUint32(4) : 0;
		const skipped = this.#number !== null && number > this.#number + 1;
		this.#number = number;
		for (const part of boxesIn(fragment, "traf")) {
			const [[head], [begin]] = [boxesIn(part, "tfhd"), boxesIn(part, "tfdt")];
			const track = head && this.#tracks.get(viewOf(head).getUint32(4));
			if (!track || !begin) continue;
			const flags = viewOf(head).getUint32(0);
			const at = 8 + (flags & 1 ? 8 : 0) + (flags & 2 ? 4 : 0);
			const duration = flags & 8 ? viewOf(head).getUint32(at) : track.duration;
			const start = begin[0] ? Number(viewOf(begin).getBigUint64(4)) : viewOf(begin).getUint32(4);
			if (skipped && track.due !== null && start - track.due > GAP * track.scale) throw damaged();
			track.due = start + boxesIn(part, "trun").reduce((sum, run) => sum + durationOf(run, duration), 0);
		}
	}
}

function durationOf(run, duration) {
	const view = viewOf(run);
	const [flags, count] = [view.getUint32(0), view.getUint32(4)];
	if (!(flags & 0x100)) return count * duration;
	const step = 4 * [0x100, 0x200, 0x400, 0x800].filter((bit) => flags & bit).length;
	let sum = 0;
	for (let at = 8 + (flags & 1 ? 4 : 0) + (flags & 4 ? 4 : 0); at + 4 <= run.length; at += step) {
		sum += view.getUint32(at);
	}
	return sum;
}

const HEAD = 0x1a45dfa3; // EBML, which start a file
const STRAY = 12; // bytes; no block of pictures is that short
const SEGMENT = 0x18538067;
const CLUSTER = 0x1f43b675;
const TRACKS = 0x1654ae6b;
const IN_SEGMENT = [
	...[0x114d9b74, 0x1549a966, TRACKS, CLUSTER, 0x1c53bb6b, 0x1043a770, 0x1254c367, 0x1941a469],
	...[0xe7, 0xa3, 0xa0, 0xab, 0xa7, 0x5854, 0xaf, 0xec, 0xbf], // and in a cluster
];

/** Return an element's id, the start of its content and its end, Infinity if unknown. */
function elementIn(data, at) {
	const width = Math.clz32(data[0] ?? 0) - 23;
	const bytes = Math.clz32(data[width] ?? 0) - 23;
	if (width > 4 || bytes > 8 || data.length < width + bytes) return { id: 0, end: 0 };
	const number = (sum, byte) => sum * 256 + byte;
	const first = data[width] & (2 ** (8 - bytes) - 1);
	const length = [...data.subarray(width + 1, width + bytes)].reduce(number, first);
	const start = at + width + bytes;
	const known = length < 2 ** (7 * bytes) - 1;
	return { id: data.subarray(0, width).reduce(number, 0), start, end: known ? start + length : Infinity };
}

/** Refuse a Matroska file that is cut off or has bytes that are no element. */
async function checkWebm(blob) {
	const read = reader(blob);
	const next = async (at) => elementIn(await read(at, 12), at);
	for (let at = 0; at < blob.size; ) {
		const { id, start, end } = await next(at);
		if (id === SEGMENT) {
			if (end !== Infinity && end > blob.size) throw damaged();
			return checkElements(blob, next, read, start, end === Infinity);
		}
		if (end <= at || end > blob.size) throw damaged();
		at = end;
	}
}

async function checkElements(blob, next, read, first, endless) {
	const { size } = blob;
	for (let at = first; at < size; ) {
		const { id, start, end } = await next(at);
		const known = IN_SEGMENT.includes(id);
		if (id === TRACKS && end - start < HEADER_MAX) checkTracks(await read(start, end - start));
		if (!endless && (!known || id === CLUSTER)) return;
		if (!known && id !== HEAD && (await isPadding(blob, at))) return;
		if (!known || (end === Infinity ? id !== CLUSTER : end > size)) throw damaged();
		at = end === Infinity ? start : end;
	}
}

/** Whether only NULs follow a complete element, or too few bytes for another. */
async function isPadding(blob, at) {
	if (blob.size - at >= HEADER_MAX) return false;
	const data = new Uint8Array(await blob.slice(at - 1).arrayBuffer());
	if (data.length <= STRAY) return !IN_SEGMENT.some((id) => parseInt(id.toString(16).slice(0, 2), 16) === data[1]);
	// a NUL before them may belong to an element that was cut off and filled up
	return data[0] !== 0 && data.subarray(1).every((byte) => !byte);
}

/** Refuse tracks of which players show different ones: Chromium takes the first, others the default. */
function checkTracks(data) {
	const defaults = [];
	for (const entry of elements(data)) {
		if (entry.id !== 0xae) continue;
		const parts = [...elements(entry.content)];
		const value = (id, missing) => parts.find((part) => part.id === id)?.content.at(-1) ?? missing;
		if (value(0x83) === 1) defaults.push(value(0x88, 1) !== 0);
	}
	if (!defaults[0] && defaults.includes(true)) throw new Refused("unplayable");
}

function* elements(data) {
	for (let at = 0; at < data.length; ) {
		const { id, start, end } = elementIn(data.subarray(at, at + 12), at);
		if (!id || end > data.length) return;
		yield { id, content: data.subarray(start, end) };
		at = end;
	}
}

/** Return H.264's crop in `moov` if it is at the left or the top, which Chromium shows wrongly; else null. */
function cropOf(movie) {
	const tracks = boxesIn(movie, "trak").filter((track) => boxesAt(track, "mdia", "minf", "vmhd").length);
	const enabled = tracks.find((track) => boxesIn(track, "tkhd")[0]?.[3] & 1) ?? tracks[0];
	const [described] = enabled ? boxesAt(enabled, "mdia", "minf", "stbl", "stsd") : [];
	if (!described) return null;
	const entries = described.subarray(8);
	const [entry] = [...boxesIn(entries, "avc1"), ...boxesIn(entries, "avc3")];
	const [config] = entry ? boxesIn(entry.subarray(78), "avcC") : [];
	if (!config || !(config[5] & 31)) return null;
	return cropIn(config.subarray(8, 8 + viewOf(config).getUint16(6)));
}

const WITH_CHROMA = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/** Return the crop in a sequence parameter set (ITU-T H.264, 7.3.2.1.1). */
function cropIn(unit) {
	const { bits, number, signed } = bitReader(unit.subarray(1));
	const profile = bits(8);
	bits(16);
	number();
	let chroma = 1;
	if (WITH_CHROMA.includes(profile)) {
		chroma = number();
		if (chroma === 3 && bits(1)) chroma = 0;
		number();
		number();
		bits(1);
		if (bits(1)) return null; // scaling lists, which no camera writes
	}
	number();
	const order = number();
	if (order === 0) number();
	if (order === 1) {
		bits(1);
		signed();
		signed();
		for (let left = number(); left > 0 && left < 256; left--) signed();
	}
	number();
	bits(1);
	const [columns, rows] = [number() + 1, number() + 1];
	const frames = bits(1);
	if (!frames) bits(1);
	bits(1);
	if (!bits(1)) return null;
	const across = chroma === 1 || chroma === 2 ? 2 : 1;
	const down = (chroma === 1 ? 2 : 1) * (2 - frames);
	const [left, right, top, bottom] = [across, across, down, down].map((unit) => unit * number());
	if (!left && !top) return null;
	const height = 16 * rows * (2 - frames) - top - bottom;
	return { x: left, y: top, width: 16 * columns - left - right, height };
}

/** Read bits and Exp-Golomb codes (9.1), without emulation prevention bytes (7.4.1). */
function bitReader(unit) {
	const data = unit.filter((byte, at) => !(byte === 3 && at > 1 && !unit[at - 1] && !unit[at - 2]));
	let at = 0;
	const bits = (count) => {
		let value = 0;
		for (; count > 0; count--, at++) value = value * 2 + (((data[at >> 3] ?? 0xff) >> (7 - (at & 7))) & 1);
		return value;
	};
	const number = () => {
		let zeros = 0;
		while (!bits(1)) zeros += 1;
		return 2 ** zeros - 1 + bits(zeros);
	};
	return { bits, number, signed: number };
}
