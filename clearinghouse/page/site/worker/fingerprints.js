/** Whether a hash is submitted; as in nciihash.signals. @param {Partial<Hash>} hash */
export const isUsable = ({ quality = 0, tied }) => !tied && quality >= 50;

/** Return 64 hexadecimal digits as eight numbers. @param {string} pdq */
export const pack = (pdq) => Uint32Array.from({ length: 8 }, (_, n) => parseInt(pdq.slice(8 * n, 8 * n + 8), 16));

/** Return the Hamming distance, or any above `most`. @param {Uint32Array} one @param {Uint32Array} other */
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

/** @param {string} one @param {string} other */
export const bitsApart = (one, other) => distance(pack(one), pack(other));
