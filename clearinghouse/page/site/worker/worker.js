// Hashes files, or solves a proof of work. Its policy allows no connection, so that it can send nothing.
// The page plays a video and passes its frames.

import { hashAnimation } from "./animation.js";
import { hashByCanvas } from "./canvas.js";
import { BYTES_MAX, checkStructure, damaged, detect, opaqueBmp, Refused, VIDEOS } from "./formats.js";
import { checkVideo } from "./video_structure.js";
import { pixelsOf } from "./frame_pixels.js";
import { firstOfGif } from "./gif.js";
import { hashJpeg } from "./jpeg.js";
import { hashPng } from "./png.js";
import { bitsApart, isUsable } from "./fingerprints.js";
import { FrameSelector } from "./frame_selection.js";
import { SUBMITTED, THOROUGH, turnedCopies } from "./altered_views.js";
import { solve } from "./proof_of_work.js";

const HEAD = 4096;
const SUPPORTED = ["jpeg", "png", "gif", "bmp", "webp", "avif"]; // every browser opens undamaged ones
const BITMAP_MAX = 50_000_000; // pixels that a phone has memory for
const ANIMATION_MAX = 60_000; // milliseconds for a file, after which no more frames are hashed
const AGREE = 8; // bits between two readings of a file

/** @type {FrameSelector?} */
let selector = null; // of the video that is being played
/** @type {Crop?} */
let crop = null; // of its header
let vp8 = false;

async function bytes(blob) {
	try {
		return new Uint8Array(await blob.arrayBuffer());
	} catch {
		throw new Refused("unreadable"); // moved, deleted, or too large for memory
	}
}

async function startVideo(kind, blob, head) {
	crop = await checkVideo(kind, blob);
	selector = null;
	vp8 = new TextDecoder("latin1").decode(head).includes("V_VP8");
}

async function hashImage(kind, blob, path, views) {
	if (blob.size > BYTES_MAX) throw new Refused("too_large");
	const data = await bytes(blob);
	if (path !== "canvas") {
		const own = await { png: hashPng, jpeg: hashJpeg }[kind]?.(data);
		if (own && (path === "bytes" || own.pixels > BITMAP_MAX)) return withoutCanvas(own);
		if (own) {
			const plain = withoutProfile(blob, data, own.profile);
			return checkedByCanvas(own, kind, kind === "jpeg" ? withEndMarker(plain) : plain, views);
		}
	}
	await checkStructure(kind, blob, data);
	try {
		return await hashByCanvas(normalised(kind, blob, data), views);
	} catch (error) {
		if (error instanceof Refused && error.code === "unopened") {
			throw new Refused(kind === "heic" ? "heic" : SUPPORTED.includes(kind) ? "damaged" : "unopened");
		}
		throw error;
	}
}

/** Append an end marker: Chromium opens no JPEG without it, and a second one does no harm. */
const withEndMarker = (blob) => new Blob([blob, Uint8Array.of(0xff, 0xd9)]);

/** Rewrite a file that browsers show differently. */
function normalised(kind, blob, data) {
	if (kind === "jpeg") return withEndMarker(blob);
	if (kind === "bmp") return opaqueBmp(blob, data);
	return kind === "gif" ? firstOfGif(data) : blob;
}

/** Remove the colour profile: WebKit would convert by it. */
function withoutProfile(blob, data, profile) {
	const ends = [0, ...profile.map(([, end]) => end)];
	const parts = ends.map((end, n) => data.subarray(end, profile[n]?.[0]));
	return profile.length ? new Blob(parts) : blob;
}

/**
 * Hash the browser's pixels, which are a few bits better than our reading of a JPEG, if both agree: they do
 * not where a canvas is altered or colours are converted.
 */
async function checkedByCanvas(own, kind, blob, views) {
	try {
		const seen = await hashByCanvas(blob, views);
		if (bitsApart(own.pdq, seen.pdq) > AGREE) return withoutCanvas(own);
		if (kind === "jpeg") return seen;
		// our reading of a PNG is exact
		const { pdq, quality, tied } = own;
		const signals = seen.signals.map((signal) =>
			signal.variant === "original" ? { ...signal, value: pdq, quality } : signal,
		);
		return { pdq, quality, tied, signals };
	} catch {
		return withoutCanvas(own);
	}
}

function withoutCanvas({ pdq, quality, tied, grid }) {
	const original = { value: pdq, quality, variant: "original" };
	const signals = isUsable({ quality, tied }) ? [original, ...turnedCopies(grid, pdq)] : [];
	return { pdq, quality, tied, signals };
}

async function hashFrame(frame, time, seconds) {
	try {
		if (time === 0) selector = new FrameSelector(seconds);
		if (!selector) throw damaged();
		selector.hash(await pixelsOf(frame, vp8, crop), time);
		selector.next(time);
		return { due: selector.due };
	} finally {
		frame.close();
	}
}

async function replyTo({ blob, path, thorough, frame, time, seconds, work }) {
	if (work) return { nonces: solve(work) };
	if (frame) return hashFrame(frame, time, seconds);
	let found;
	if (blob) {
		const until = performance.now() + ANIMATION_MAX;
		const head = await bytes(blob.slice(0, HEAD));
		const kind = detect(head);
		if (VIDEOS.includes(kind)) {
			await startVideo(kind, blob, head);
			return { video: true }; // the page plays it
		}
		const image = await hashImage(kind, blob, path, thorough ? THOROUGH : SUBMITTED);
		found = (path ? null : await hashAnimation(kind, blob, until)) ?? { media: "image", ...image };
	} else {
		if (!selector) throw damaged(); // there was no frame
		found = selector.item();
	}
	return found.signals.length ? { found } : { code: "too_plain", found };
}

addEventListener("message", async ({ data: { id, ...message } }) => {
	try {
		postMessage({ id, ...(await replyTo(message)) });
	} catch (error) {
		const memory = error instanceof RangeError;
		postMessage({ id, code: error instanceof Refused ? error.code : memory ? "too_large" : "failed" });
	}
});
