// Means of square blocks of pixels, rounded as OpenCV rounds them in nciihash.

export class BlockMeans {
	constructor(width, height, step) {
		this.step = step;
		this.columns = Math.floor(width / step);
		this.rows = Math.floor(height / step);
		this.sums = new Float64Array(this.columns * 3);
		this.y = 0;
	}

	/**
	 * Add a row, from byte `at` on, and return the row of blocks that it completes, if any.
	 * @param {Uint8ClampedArray} data @param {number} at
	 */
	add(data, at) {
		const { step, columns, sums } = this;
		if (this.y++ >= this.rows * step) return null;
		for (let x = 0, out = 0; x < columns; x++, out += 3) {
			for (let k = 0; k < step; k++, at += 4) {
				sums[out] += data[at];
				sums[out + 1] += data[at + 1];
				sums[out + 2] += data[at + 2];
			}
		}
		if (this.y % step) return null;
		const scale = Math.fround(1 / (step * step));
		// halves up in blocks of 2 x 2, else to even, as adding 2^52 does
		const rounded = (sum) => (step === 2 ? (sum + 2) >> 2 : Math.fround(sum * scale) + 2 ** 52 - 2 ** 52);
		const means = new Uint8Array(sums.map(rounded));
		sums.fill(0);
		return means;
	}
}
