// The frames of a video, from the browser's player: workers have none.

const TIMEOUT = 30_000; // milliseconds for one step of the player
const TRIES = 400; // to take the frame that is shown
const TRIES_SAME = 4; // after which a frame with the same time is the new one
const PAUSE = 25; // milliseconds between tries
const OFFSET = 0.004; // seconds: exactly between two frames, browsers show either

/** Why a video cannot be hashed. */
export class VideoError extends Error {
	/** @param {string} code */
	constructor(code) {
		super(code);
		this.code = code;
	}
}

/** Wait for an event; an error event rejects with `code`. */
function eventOf(video, name, code) {
	return new Promise((resolve, reject) => {
		const timer = setTimeout(() => reject(new VideoError("too_slow")), TIMEOUT);
		const then = (act) => (value) => {
			clearTimeout(timer);
			act(value);
		};
		video[`on${name}`] = then(resolve);
		video.onerror = then(() => reject(new VideoError(code)));
	});
}

/** Return the shown frame; for a while after seeking, that is still the one of `last`. */
async function frameOf(video, last) {
	for (let tries = 1; ; tries++) {
		try {
			if (!globalThis.VideoFrame)
				return await createImageBitmap(video, { colorSpaceConversion: "none" });
			const frame = new VideoFrame(video);
			if (frame.timestamp !== last || tries > TRIES_SAME) return frame;
			frame.close();
		} catch {
			if (tries === TRIES) throw new VideoError("too_slow");
		}
		await new Promise((resolve) => setTimeout(resolve, PAUSE));
	}
}

/**
 * Pass the frames that are due to `visit`, and the last one, which stays on the screen.
 * @type {PlayFrames}
 */
export async function playFrames(blob, visit) {
	const video = document.createElement("video");
	const address = URL.createObjectURL(blob);
	try {
		video.muted = true;
		video.preload = "auto";
		video.src = address;
		await eventOf(video, "loadeddata", "unplayable");
		if (!video.videoWidth) throw new VideoError("unplayable"); // the browser can play its sound alone
		const { duration } = video;
		let last = null;
		/** @type {number?} */
		let time = 0;
		for (let over = false; time !== null && !over; ) {
			const seeked = eventOf(video, "seeked", "damaged");
			video.currentTime = Math.min(time + OFFSET, duration);
			await seeked;
			over = time >= duration || video.currentTime < time; // the stated length is too long or missing
			const frame = await frameOf(video, last);
			last = "timestamp" in frame ? frame.timestamp : null;
			time = await visit(frame, time, Number.isFinite(duration) ? duration : 0);
		}
	} finally {
		video.onerror = null;
		video.removeAttribute("src");
		video.load();
		URL.revokeObjectURL(address);
	}
}
