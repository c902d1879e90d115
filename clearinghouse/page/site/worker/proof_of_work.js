// A proof of work: for each puzzle, a number for which SHA-256(seed, puzzle, number) begins with enough
// zero bits, where the seed is the SHA-256 of the challenge. The browser's own SHA-256 is too slow.

const ROUNDS = 64;
const UINT32 = 2 ** 32;

// SHA-256's constants are fractions of roots of primes (FIPS 180-4, 4.2.2 and 5.3.3).
const PRIMES = [];
for (let n = 2; PRIMES.length < ROUNDS; n++) if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
const fraction = (root) => Math.floor((root - Math.floor(root)) * UINT32);
const INITIAL = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
const CONSTANTS = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));

const words = new Int32Array(ROUNDS);

/** Do some rounds with the block in `words`; functions and arrays in the loop take five times as long. */
function compress(state, first, end) {
	let a = state[0];
	let b = state[1];
	let c = state[2];
	let d = state[3];
	let e = state[4];
	let f = state[5];
	let g = state[6];
	let h = state[7];
	for (let n = first; n < end; n++) {
		if (n > 15) {
			const x = words[n - 15];
			const y = words[n - 2];
			const low = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
			const high = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
			words[n] = (words[n - 16] + low + words[n - 7] + high) | 0;
		}
		const turned = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
		const one = (h + turned + (g ^ (e & (f ^ g))) + CONSTANTS[n] + words[n]) | 0;
		const two = (((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))) + ((a & b) | (c & (a | b)));
		h = g;
		g = f;
		f = e;
		e = (d + one) | 0;
		d = c;
		c = b;
		b = a;
		a = (one + two) | 0;
	}
	state[0] = a;
	state[1] = b;
	state[2] = c;
	state[3] = d;
	state[4] = e;
	state[5] = f;
	state[6] = g;
	state[7] = h;
}

/** Return the SHA-256 of an ASCII text, as eight words. @param {string} text */
export function sha256(text) {
	const bytes = new TextEncoder().encode(text);
	const padded = new DataView(new ArrayBuffer(Math.ceil((bytes.length + 9) / 64) * 64));
	for (const [n, byte] of bytes.entries()) padded.setUint8(n, byte);
	padded.setUint8(bytes.length, 0x80);
	padded.setUint32(padded.byteLength - 4, bytes.length * 8);
	const state = INITIAL.slice();
	for (let at = 0; at < padded.byteLength; at += 64) {
		for (let n = 0; n < 16; n++) words[n] = padded.getInt32(at + 4 * n);
		const before = state.slice();
		compress(state, 0, ROUNDS);
		for (let n = 0; n < 8; n++) state[n] += before[n];
	}
	return state;
}

/** Return the numbers that solve a challenge. @param {Work} work */
export function solve({ challenge, difficulty, puzzles }) {
	const seed = sha256(challenge);
	const start = new Int32Array(8);
	const state = new Int32Array(8);
	const found = [];
	for (let puzzle = 0; puzzle < puzzles; puzzle++) {
		// seed, puzzle and number are 40 bytes: one block with the padding
		words.set(seed);
		words[8] = puzzle;
		words[10] = 0x80000000;
		words.fill(0, 11, 15);
		words[15] = 40 * 8;
		// the number is the tenth word: nine rounds are the same for all
		start.set(INITIAL);
		compress(start, 0, 9);
		for (let number = 0; ; number++) {
			words[9] = number;
			state.set(start);
			compress(state, 9, ROUNDS);
			if (Math.clz32(state[0] + INITIAL[0]) >= difficulty) {
				found.push(number);
				break;
			}
		}
	}
	return found;
}
