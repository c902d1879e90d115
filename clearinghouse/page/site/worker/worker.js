// Fingerprints one file at a time, or solves a proof of work. Its policy allows no connection, so that
// it can send nothing. The page plays a video and passes its frames.

import { ofAnimation } from "./animation.js";
import { hashByCanvas } from "./canvas.js";
import { BYTES_MAX, checkStructure, damaged, detect, FILMS, opaqueBmp, Refused } from "./formats.js";
import { checkFilm } from "./film_structure.js";
import { pixelsOf } from "./frame_pixels.js";
import { firstOfGif } from "./gif.js";
import { hashJpeg } from "./jpeg.js";
import { hashPixels } from "./pixels.js";
import { hashPng } from "./png.js";
import { apart, telling } from "./fingerprints.js";
import { FrameSelector } from "./frame_selection.js";
import { turnedCopies } from "./altered_views.js";
import { solve } from "./proof_of_work.js";

const HEAD = 4096;
const SHOWN = ["jpeg", "png", "gif", "bmp", "webp", "avif"]; // every browser opens these when sound
const BITMAP_MAX = 50_000_000; // pixels that a phone still has memory for
const ANIMATION_MAX = 60_000; // milliseconds for a file, after which no more frames are looked at
const AGREE = 8; // bits between two readings of a file

let reel = null; // of the video that is being played
let crop = null; // what its header leaves of each picture, where that is known
let old = false; // whether its codec is VP8, which knows one standard of colours

async function bytes(blob) {
	try {
		return new Uint8Array(await blob.arrayBuffer());
	} catch {
		throw new Refused("unreadable"); // moved or deleted since it was chosen, or not enough memory
	}
}

async function hash(blob, path) {
	const start = await bytes(blob.slice(0, HEAD));
	const kind = detect(start);
	if (FILMS.includes(kind)) {
		crop = await checkFilm(kind, blob);
		reel = null;
		old = new TextDecoder("latin1").decode(start).includes("V_VP8");
		throw new Refused("video"); // which the page takes for a request to play it
	}
	if (blob.size > BYTES_MAX) throw new Refused("too_large");
	const data = await bytes(blob);
	if (path !== "canvas") {
		const own = await { png: hashPng, jpeg: hashJpeg }[kind]?.(data);
		if (own && (path === "bytes" || own.pixels > BITMAP_MAX)) return alone(own);
		if (own) {
			const sound = unprofiled(blob, data, own.profile);
			return agreed(own, kind, kind === "jpeg" ? ended(sound) : sound);
		}
	}
	await checkStructure(kind, blob, data);
	try {
		return await hashByCanvas(shownAlike(kind, blob, data));
	} catch (error) {
		if (error instanceof Refused && error.code === "unopened") {
			throw new Refused(kind === "heic" ? "heic" : SHOWN.includes(kind) ? "damaged" : "unopened");
		}
		throw error;
	}
}

/** Put an end marker after a JPEG, without which Chromium opens none; after another it does no harm. */
const ended = (blob) => new Blob([blob, Uint8Array.of(0xff, 0xd9)]);

/** Write a file that breaks its standard as every browser shows it. */
function shownAlike(kind, blob, data) {
	if (kind === "jpeg") return ended(blob);
	if (kind === "bmp") return opaqueBmp(blob, data);
	return kind === "gif" ? firstOfGif(data) : blob;
}

/** Leave out the colour profile, by which WebKit, as on every iPhone, converts unasked. */
function unprofiled(blob, data, profile) {
	const ends = [0, ...profile.map(([, end]) => end)];
	const parts = ends.map((end, n) => data.subarray(end, profile[n]?.[0]));
	return profile.length ? new Blob(parts) : blob;
}

/**
 * Prefer the browser's pixels to our own reading of a JPEG, which is a few bits off, while both agree:
 * an altered canvas, or converted colours, do not pass. Ours found the file sound.
 */
async function agreed(own, kind, blob) {
	try {
		const seen = await hashByCanvas(blob);
		if (apart(own.pdq, seen.pdq) > AGREE) return alone(own);
		if (kind === "jpeg") return seen;
		// our reading of a PNG is exact
		const { pdq, quality, tied } = own;
		const signals = seen.signals.map((signal) =>
			signal.variant === "original" ? { ...signal, value: pdq, quality } : signal,
		);
		return { pdq, quality, tied, signals };
	} catch {
		return alone(own);
	}
}

/** What can be said without the browser's pixels: the picture as it is, turned and mirrored. */
function alone({ pdq, quality, tied, grid }) {
	const original = { value: pdq, quality, variant: "original" };
	const signals = telling({ quality, tied }) ? [original, ...turnedCopies(grid, [original])] : [];
	return { pdq, quality, tied, signals };
}

/** Look at a frame of a video, and say when the next one is due. */
async function look(frame, time, seconds) {
	try {
		if (time === 0) reel = new FrameSelector(seconds);
		let kept = false;
		const { signals } = hashPixels(await pixelsOf(frame, old, crop), (own) => (kept = reel.take(own)));
		if (kept) reel.keep(time, signals);
		reel.next(time);
		return { due: reel.due };
	} finally {
		frame.close();
	}
}

function ofFilm() {
	if (!reel) throw damaged(); // there was no frame
	const { every, frames } = reel;
	return { media: "video", signals: reel.signals(), moments: frames.length, every };
}

async function answer({ blob, path, frame, time, seconds, work }) {
	if (work) return { nonces: solve(work) };
	if (frame) return look(frame, time, seconds);
	const until = performance.now() + ANIMATION_MAX;
	const still = blob && { media: "image", ...(await hash(blob, path)) };
	const found = still ? ((path ? null : await ofAnimation(blob, until)) ?? still) : ofFilm();
	return found.signals.length ? { found } : { code: "too_plain", found };
}

addEventListener("message", async ({ data: { id, ...asked } }) => {
	try {
		postMessage({ id, ...(await answer(asked)) });
	} catch (error) {
		const memory = error instanceof RangeError;
		postMessage({ id, code: error instanceof Refused ? error.code : memory ? "too_large" : "failed" });
	}
});
