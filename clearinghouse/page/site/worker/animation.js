// The frames of an animated picture, in browsers that decode more than the first one.

import { canvasIsTrue, drawn } from "./canvas.js";
import { BYTES_MAX } from "./formats.js";
import { FrameSelector } from "./frame_selection.js";

const KINDS = { gif: "image/gif", webp: "image/webp", avif: "image/avif", png: "image/png" };
const SHORTEST = 20; // milliseconds: browsers show frames with a shorter duration for 100

/** Hash an animation as a video; null of anything else. @type {HashAnimation} */
export async function hashAnimation(kind, blob, until) {
	const type = KINDS[kind];
	if (!type || !globalThis.ImageDecoder || blob.size > BYTES_MAX) return null;
	const data = await blob.arrayBuffer();
	const decoder = new ImageDecoder({ data, type, preferAnimation: true, colorSpaceConversion: "none" });
	try {
		await Promise.all([decoder.completed, decoder.tracks.ready]);
		const count = decoder.tracks.selectedTrack?.frameCount ?? 0;
		if (count < 2 || !canvasIsTrue()) return null;
		let selector = new FrameSelector(0);
		if ((await select(selector, decoder, count, until)) < selector.every) {
			// of a loop that is shorter than the interval, hash each frame
			selector = new FrameSelector(selector.every);
			await select(selector, decoder, count, until);
		}
		return selector.item();
	} catch {
		return null;
	} finally {
		decoder.close();
	}
}

/** Hash the frames that are due; return the last one's time in seconds, or Infinity at `until`. */
async function select(selector, decoder, count, until) {
	let start = 0;
	for (let frameIndex = 0; frameIndex < count; frameIndex++) {
		if (frameIndex && performance.now() > until) return Infinity;
		let image;
		try {
			({ image } = await decoder.decode({ frameIndex }));
		} catch (error) {
			if (frameIndex < 2) throw error;
			return start; // a later damaged frame ends the animation
		}
		const duration = (image.duration ?? 0) / 1000;
		const end = frameIndex + 1 < count ? start + (duration >= SHORTEST ? duration : 100) / 1000 : Infinity;
		if (selector.shows(start, end)) {
			selector.hash(drawn(image, { width: image.displayWidth, height: image.displayHeight }), start);
		}
		image.close();
		if (end === Infinity) return start;
		start = end;
	}
	return start;
}
