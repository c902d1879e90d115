// The moments of a video that are worth keeping, by the rule of
// nciihash/hashing/frame_selection.py, which explains it.

import { distance, packed, telling } from "./fingerprints.js";
import { NEAR } from "./altered_views.js";

const EVERY = 0.25; // seconds between looks
const SOON = 1 / 60; // between those at a loop that is shorter
const LOOKS = 2400;
const SAME = 15; // bits
const FRAMES = 512;
const SIGNALS = 2000;

/** The moments of one video so far; `due` is the time of the next look, in seconds. */
export class FrameSelector {
	constructor(seconds) {
		this.every = Math.max(EVERY, seconds / LOOKS);
		this.loop = seconds > 0 && seconds <= EVERY;
		this.due = 0;
		this.last = null;
		this.frames = [];
	}

	/** Tell whether to keep the moment that is looked at: not plain, and unlike the last one kept. */
	take({ pdq, quality, tied }) {
		const own = packed(pdq);
		if (!telling({ quality, tied }) || (this.last && distance(own, this.last) <= SAME)) return false;
		this.last = own;
		return true;
	}

	/** Keep its fingerprints. When there are too many moments, every second one goes, now and later. */
	keep(time, signals) {
		this.frames.push({ time, signals });
		while (this.frames.length > FRAMES) {
			this.every *= 2;
			const seen = new Map();
			for (const frame of this.frames) {
				const place = Math.floor(frame.time / this.every);
				if (!seen.has(place)) seen.set(place, frame);
			}
			this.frames = [...seen.values()];
		}
	}

	/** Tell whether a frame is shown at a moment of a look, or is the last, whose `end` is infinite. */
	shows(start, end) {
		const moment = this.loop ? start : Math.max(this.due, Math.ceil(start / this.every) * this.every);
		if (moment >= end) return false;
		this.next(end === Infinity ? start : moment);
		return true;
	}

	/** End the look at this time. */
	next(time) {
		this.due = this.loop ? time + SOON : (Math.floor(time / this.every) + 1) * this.every;
	}

	/** Give all fingerprints, those of altered copies of so many moments as there is room for. */
	signals() {
		const own = this.frames.length;
		let kept = this.spread(1);
		for (let step = 1; kept.length > SIGNALS && step < own; kept = this.spread(step)) {
			const excess = Math.floor((kept.length - own) / Math.max(1, SIGNALS - own));
			step = Math.max(step + 1, step * excess);
		}
		return kept;
	}

	/** Give each moment's first fingerprint, and of every `step`-th those others that say more. */
	spread(step) {
		const known = this.frames.map(({ signals: [first] }) => packed(first.value));
		return this.frames.flatMap(({ signals: [first, ...others] }, n) => {
			const fresh = n % step ? [] : others.map((signal) => ({ signal, words: packed(signal.value) }));
			const far = fresh.filter(({ words }) => known.every((other) => distance(words, other, NEAR) > NEAR));
			known.push(...far.map(({ words }) => words));
			return [first, ...far.map(({ signal }) => signal)];
		});
	}
}
