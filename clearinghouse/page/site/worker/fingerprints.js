// What can be told from fingerprints alone.

/** Tell whether one says enough about its picture; nciihash.signals has the bound. */
export const telling = ({ quality, tied }) => !tied && quality >= 50;

/** Read a fingerprint's 64 digits as eight numbers. */
export const packed = (pdq) => Uint32Array.from({ length: 8 }, (_, n) => parseInt(pdq.slice(8 * n, 8 * n + 8), 16));

/** Count the bits in which two packed fingerprints differ; beyond `most` it does not matter how many. */
export function distance(one, other, most = 256) {
	let bits = 0;
	for (let n = 0; n < 8 && bits <= most; n++) {
		let d = one[n] ^ other[n];
		d -= (d >>> 1) & 0x55555555;
		d = (d & 0x33333333) + ((d >>> 2) & 0x33333333);
		bits += Math.imul((d + (d >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
	}
	return bits;
}

export const apart = (one, other) => distance(packed(one), packed(other));
