// A proof of work, which the service asks for while many cases are being opened: for each puzzle a
// number is found for which SHA-256(seed, puzzle, number) begins with enough zero bits, the seed
// being the SHA-256 of the challenge. The browser's own SHA-256 answers too slowly for that.

const ROUNDS = 64;
const SPECIAL = 2 ** 32; // fractions of roots are written with 32 bits

// SHA-256's constants are fractions of the roots of the first primes (FIPS 180-4, 4.2.2 and 5.3.3).
const PRIMES = [];
for (let n = 2; PRIMES.length < ROUNDS; n++) if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
const fraction = (root) => Math.floor((root - Math.floor(root)) * SPECIAL);
const START = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
const ADDED = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));

const words = new Int32Array(ROUNDS);

const turn = (x, n) => (x >>> n) | (x << (32 - n));

/** Take one block, whose sixteen words stand in `words`, into a state of eight words. */
function compress(state) {
	for (let n = 16; n < ROUNDS; n++) {
		const [x, y] = [words[n - 15], words[n - 2]];
		const low = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
		const high = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
		words[n] = (words[n - 16] + low + words[n - 7] + high) | 0;
	}
	let [a, b, c, d, e, f, g, h] = state;
	for (let n = 0; n < ROUNDS; n++) {
		const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ADDED[n] + words[n]) | 0;
		const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
		h = g;
		g = f;
		f = e;
		e = (d + one) | 0;
		d = c;
		c = b;
		b = a;
		a = (one + two) | 0;
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
}

/** Give the eight words of the SHA-256 of a text in plain letters and digits. */
export function sha256(text) {
	const bytes = new TextEncoder().encode(text);
	const padded = new DataView(new ArrayBuffer(Math.ceil((bytes.length + 9) / 64) * 64));
	bytes.forEach((byte, n) => padded.setUint8(n, byte));
	padded.setUint8(bytes.length, 0x80);
	padded.setUint32(padded.byteLength - 4, bytes.length * 8);
	const state = START.slice();
	for (let at = 0; at < padded.byteLength; at += 64) {
		for (let n = 0; n < 16; n++) words[n] = padded.getInt32(at + 4 * n);
		compress(state);
	}
	return state;
}

/** Find the numbers that solve a challenge. */
export function solve({ challenge, difficulty, puzzles }) {
	const seed = sha256(challenge);
	const state = START.slice();
	const found = [];
	for (let puzzle = 0; puzzle < puzzles; puzzle++) {
		for (let number = 0; ; number++) {
			// seed, puzzle and number are forty bytes, which leave room for the padding of the one block
			words.set(seed);
			words[8] = puzzle;
			words[9] = number;
			words[10] = 0x80000000;
			words.fill(0, 11, 15);
			words[15] = 40 * 8;
			state.set(START);
			compress(state);
			if (Math.clz32(state[0]) >= difficulty) {
				found.push(number);
				break;
			}
		}
	}
	return found;
}
