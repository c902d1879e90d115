// Frames of a video, from the player, which no worker has.

const PATIENCE = 30_000; // milliseconds for one step
const TRIES = 400; // to take the frame that is shown
const HELD = 4; // after which it is no new one
const PAUSE = 25; // milliseconds between them
const LATER = 0.004; // seconds: exactly between two frames, browsers show either

/** Why a video cannot be looked at; `code` names the sentence that she reads. */
export class Unseen extends Error {
	constructor(code) {
		super(code);
		this.code = code;
	}
}

/** Wait until something happens to the player; an error then means `code`. */
function until(video, happening, code) {
	return new Promise((resolve, reject) => {
		const timer = setTimeout(() => reject(new Unseen("too_slow")), PATIENCE);
		const then = (act) => (value) => {
			clearTimeout(timer);
			act(value);
		};
		video[`on${happening}`] = then(resolve);
		video.onerror = then(() => reject(new Unseen(code)));
	});
}

/** Give the frame that a player shows, which for a while after seeking is still that of `last`. */
async function shown(video, last) {
	for (let tries = 1; ; tries++) {
		try {
			if (!globalThis.VideoFrame)
				return await createImageBitmap(video, { colorSpaceConversion: "none" });
			const frame = new VideoFrame(video);
			if (frame.timestamp !== last || tries > HELD) return frame;
			frame.close();
		} catch {
			if (tries === TRIES) throw new Unseen("too_slow");
		}
		await new Promise((resolve) => setTimeout(resolve, PAUSE));
	}
}

/**
 * Show a video to `look(frame, time, seconds)`: a frame, its time, and how long the video is, 0 if
 * unknown. It gives the time of the next frame that is due, or null to stop. The last frame, which
 * players leave on the screen, is shown in any case.
 */
export async function watch(blob, look) {
	const video = document.createElement("video");
	const address = URL.createObjectURL(blob);
	try {
		video.muted = true;
		video.preload = "auto";
		video.src = address;
		await until(video, "loadeddata", "unplayable");
		if (!video.videoWidth) throw new Unseen("unplayable"); // the browser knows its sound alone
		const { duration } = video;
		let last = null;
		for (let time = 0, over = false; time !== null && !over; ) {
			const sought = until(video, "seeked", "damaged");
			video.currentTime = Math.min(time + LATER, duration);
			await sought;
			over = time >= duration || video.currentTime < time; // shorter than it said, or never said
			const frame = await shown(video, last);
			last = frame.timestamp ?? null;
			time = await look(frame, time, Number.isFinite(duration) ? duration : 0);
		}
	} finally {
		video.onerror = null;
		video.removeAttribute("src");
		video.load();
		URL.revokeObjectURL(address);
	}
}
