// The frames of an animated picture that are worth keeping, where the browser hands out any but the
// first; by the rules of nciihash/hashing/frame_selection.py.

import { canvasIsTrue, drawn } from "./canvas.js";
import { BYTES_MAX, detect } from "./formats.js";
import { FrameSelector } from "./frame_selection.js";
import { hashPixels } from "./pixels.js";

const HEAD = 4096;
const KINDS = { gif: "image/gif", webp: "image/webp", avif: "image/avif", png: "image/png" };
const SHORTEST = 20; // milliseconds: browsers show what claims to be shorter for 100

/**
 * Give `{ media, signals, moments, every }` of an animation; null of a still, or what cannot be read.
 * Where it takes longer than `until`, by the clock of `performance`, the frames so far are all.
 */
export async function ofAnimation(blob, until) {
	const type = KINDS[detect(new Uint8Array(await blob.slice(0, HEAD).arrayBuffer()))];
	if (!type || !globalThis.ImageDecoder || blob.size > BYTES_MAX) return null;
	const data = await blob.arrayBuffer();
	const decoder = new ImageDecoder({ data, type, preferAnimation: true, colorSpaceConversion: "none" });
	try {
		await Promise.all([decoder.completed, decoder.tracks.ready]);
		const { frameCount } = decoder.tracks.selectedTrack;
		if (frameCount < 2 || !canvasIsTrue()) return null;
		let reel = new FrameSelector(0);
		if ((await fill(reel, decoder, frameCount, until)) < reel.every) {
			// a loop that is shorter than the time between looks shows each of its frames
			await fill((reel = new FrameSelector(reel.every)), decoder, frameCount, until);
		}
		return { media: "video", signals: reel.signals(), moments: reel.frames.length, every: reel.every };
	} catch {
		return null;
	} finally {
		decoder.close();
	}
}

/** Look at the frames that are due, and give when the last one appears, in seconds; Infinity if time is up. */
async function fill(reel, decoder, count, until) {
	let start = 0;
	for (let frameIndex = 0; frameIndex < count; frameIndex++) {
		if (frameIndex && performance.now() > until) return Infinity;
		let image;
		try {
			({ image } = await decoder.decode({ frameIndex }));
		} catch (error) {
			if (frameIndex < 2) throw error;
			return start; // what is damaged after that ends it
		}
		const shown = (image.duration ?? 0) / 1000;
		const end = frameIndex + 1 < count ? start + (shown >= SHORTEST ? shown : 100) / 1000 : Infinity;
		if (reel.shows(start, end)) {
			let kept = false;
			const size = { width: image.displayWidth, height: image.displayHeight };
			const { signals } = hashPixels(drawn(image, size), (own) => (kept = reel.take(own)));
			if (kept) reel.keep(start, signals);
		}
		image.close();
		if (end === Infinity) return start;
		start = end;
	}
	return start;
}
