// The moments of a video that are worth keeping; nciihash/hashing/frame_selection.py has the reasons.

import { distance, isUsable, pack } from "./fingerprints.js";
import { NEAR } from "./altered_views.js";
import { hashPixels } from "./pixels.js";

const EVERY = 0.25; // seconds between two frames that are hashed
const LOOP_STEP = 1 / 60; // seconds, of a loop that is shorter
const LOOKS = 2400; // frames of a video that are hashed
const SAME = 15; // bits
const FRAMES = 512;
const SIGNALS = 2000;

/** The moments of one video; `due` is the time of the next frame to hash, in seconds. */
export class FrameSelector {
	/** @type {Uint32Array?} */
	last = null;
	/** @type {{ time: number, signals: Signal[] }[]} */
	frames = [];
	due = 0;

	/** @param {number} seconds the video's length, 0 if unknown */
	constructor(seconds) {
		this.every = Math.max(EVERY, seconds / LOOKS);
		this.loop = seconds > 0 && seconds <= EVERY;
	}

	/** @param {Picture} picture @param {number} time */
	hash(picture, time) {
		let kept = false;
		const { signals } = hashPixels(picture, (whole) => (kept = this.take(whole)));
		if (kept && signals.length) this.keep(time, signals);
	}

	/** Whether a frame is usable, and unlike the last one kept. @param {Hash} hash */
	take({ pdq, quality, tied }) {
		const hash = pack(pdq);
		if (!isUsable({ quality, tied }) || (this.last && distance(hash, this.last) <= SAME)) return false;
		this.last = hash;
		return true;
	}

	/** Beyond FRAMES, drop every second moment from now on. @param {number} time @param {Signal[]} signals */
	keep(time, signals) {
		this.frames.push({ time, signals });
		while (this.frames.length > FRAMES) {
			this.every *= 2;
			const seen = new Map();
			for (const frame of this.frames) {
				const interval = Math.floor(frame.time / this.every);
				if (!seen.has(interval)) seen.set(interval, frame);
			}
			this.frames = [...seen.values()];
		}
	}

	/** Whether a frame is due; the last one's `end` is infinite. @param {number} start @param {number} end */
	shows(start, end) {
		const moment = this.loop ? start : Math.max(this.due, Math.ceil(start / this.every) * this.every);
		if (moment >= end) return false;
		this.next(end === Infinity ? start : moment);
		return true;
	}

	/** @param {number} time */
	next(time) {
		this.due = this.loop ? time + LOOP_STEP : (Math.floor(time / this.every) + 1) * this.every;
	}

	/** @returns {Item} */
	item() {
		return { media: "video", signals: this.signals(), moments: this.frames.length, every: this.every };
	}

	/** Return the fingerprints, with views of as many moments as SIGNALS allows. */
	signals() {
		const own = this.frames.length;
		let kept = this.spread(1);
		for (let step = 1; kept.length > SIGNALS && step < own; kept = this.spread(step)) {
			const excess = Math.floor((kept.length - own) / Math.max(1, SIGNALS - own));
			step = Math.max(step + 1, step * excess);
		}
		return kept;
	}

	/** Return the moments, and the distinct views of every `step`-th. */
	spread(step) {
		const known = this.frames.map(({ signals: [first] }) => pack(first.value));
		return this.frames.flatMap(({ signals: [first, ...others] }, n) => {
			const views = n % step ? [] : others.map((signal) => ({ signal, hash: pack(signal.value) }));
			const far = views.filter(({ hash }) => known.every((other) => distance(hash, other, NEAR) > NEAR));
			known.push(...far.map(({ hash }) => hash));
			return [first, ...far.map(({ signal }) => signal)];
		});
	}
}
