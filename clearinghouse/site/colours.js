// A file without what says how its colours are meant. Fingerprints are made of the numbers in it as
// they are; WebKit, the engine of every browser on an iPhone, converts them whatever it is asked.

import { text } from "./formats.js";

const PROFILE = "ICC_PROFILE\0"; // how such a segment of a JPEG begins
const MEANINGS = ["iCCP", "sRGB", "gAMA", "cHRM", "cICP"]; // chunks of a PNG

/** Give a JPEG or PNG without its colour profile, and any other file as it is. */
export function unprofiled(blob, data, kind) {
	const found = { jpeg: profiles, png: meanings }[kind]?.(data) ?? [];
	let kept = 0;
	const parts = [];
	for (const [from, to] of found) {
		parts.push(data.subarray(kept, from));
		kept = to;
	}
	return kept ? new Blob([...parts, data.subarray(kept)], { type: `image/${kind}` }) : blob;
}

/** Find the segments of a JPEG's profile, before its first scan. */
function profiles(data) {
	const found = [];
	for (let at = 2; at + 4 <= data.length; ) {
		if (data[at] !== 0xff || data[at + 1] === 0xff) {
			at += 1; // between segments there may be some bytes more
			continue;
		}
		if (data[at + 1] === 0xda) break;
		const end = at + 2 + ((data[at + 2] << 8) | data[at + 3]);
		const named = text(data, at + 4, at + 4 + PROFILE.length) === PROFILE;
		if (data[at + 1] === 0xe2 && named) found.push([at, end]);
		at = end;
	}
	return found;
}

/** Find the chunks of a PNG that tell of its colours; they come before its pixels. */
function meanings(data) {
	const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
	const found = [];
	for (let at = 8; at + 12 <= data.length; ) {
		const name = text(data, at + 4, at + 8);
		if (name === "IDAT") break;
		const end = at + 12 + view.getUint32(at);
		if (MEANINGS.includes(name)) found.push([at, end]);
		at = end;
	}
	return found;
}
