// The first frame of a GIF (GIF89a specification): browsers open no file that lacks its trailer or has
// stray bytes, and show the part of a cut one that is there.

import { checkSize, damaged, viewOf } from "./formats.js";

const CODES = 4096; // of 12 bits, the longest

/** Return a GIF of the first frame alone, if it is complete. @param {Uint8Array<ArrayBuffer>} data */
export function firstOfGif(data) {
	const view = viewOf(data);
	const tableSize = (flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
	const colours = 13 + tableSize(data[10]);
	let control = data.subarray(0, 0);
	for (let at = colours; ; ) {
		const block = data[at];
		if (block === 0x21) {
			const end = blocksEnd(data, at + 2);
			if (data[at + 1] === 0xf9) control = data.subarray(at, end);
			at = end;
		} else if (block === 0x2c && at + 10 < data.length) {
			const [left, top, width, height] = [1, 3, 5, 7].map((offset) => view.getUint16(at + offset, true));
			checkSize(Math.max(view.getUint16(6, true), left + width), Math.max(view.getUint16(8, true), top + height));
			const codes = at + 10 + tableSize(data[at + 9]);
			const end = blocksEnd(data, codes + 1);
			if (countPixels(data.subarray(codes, end), width * height) < width * height) throw damaged();
			return new Blob([data.subarray(0, colours), control, data.subarray(at, end), "\0;"]);
		} else if (block === 0) {
			at += 1; // some programs pad
		} else {
			throw damaged();
		}
	}
}

function blocksEnd(data, at) {
	while (at < data.length && data[at]) at += data[at] + 1;
	return Math.min(at + 1, data.length);
}

/** Count the pixels that LZW codes decode to, up to `most`. */
function countPixels(codes, most) {
	const bits = codes[0];
	if (!(bits >= 1 && bits <= 11)) throw damaged();
	const clear = 1 << bits;
	const lengths = new Uint16Array(CODES).fill(1, 0, clear);
	let [next, size, previous, found, buffer, pending] = [clear + 2, bits + 1, 0, 0, 0, 0];
	for (let at = 1; codes[at]; at += codes[at] + 1) {
		for (const byte of codes.subarray(at + 1, at + 1 + codes[at])) {
			buffer |= byte << pending;
			for (pending += 8; pending >= size; ) {
				const code = buffer & ((1 << size) - 1);
				buffer >>>= size;
				pending -= size;
				if (code === clear) {
					[next, size, previous] = [clear + 2, bits + 1, 0];
					continue;
				}
				if (code === clear + 1) return found;
				if (code > next || (code === next && !previous)) throw damaged();
				// the code being defined repeats the previous one and its first pixel
				if (previous && next < CODES) lengths[next++] = previous + 1;
				previous = lengths[code];
				if (!previous) throw damaged();
				found += previous;
				if (found >= most) return found;
				if (next === 1 << size && size < 12) size += 1;
			}
		}
	}
	return found;
}
