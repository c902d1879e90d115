// Frames of a video, from the browser's player. Runs in the page, since a worker has no player.

const PATIENCE = 30_000; // milliseconds for one step
const TRIES = 200; // to take the frame that is shown
const PAUSE = 50; // milliseconds between them
const LATER = 0.02; // seconds: exactly between two frames, browsers show now the one, now the other

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

/** Give the frame that a player shows. Where much else goes on it comes a while after its seeking. */
async function shown(video) {
	for (let tries = 1; ; tries++) {
		try {
			return globalThis.VideoFrame
				? new VideoFrame(video)
				: await createImageBitmap(video, { colorSpaceConversion: "none" });
		} catch {
			if (tries === TRIES) throw new Unseen("too_slow");
			await new Promise((resolve) => setTimeout(resolve, PAUSE));
		}
	}
}

/**
 * Show a video to `look(frame, time, seconds)`: a frame, its time, and how long the video is, or 0
 * where nobody knows. It gives the time of the next frame that is due, or null to stop. Frames that
 * come later than asked, as the last one may, are shown as they are.
 */
export async function watch(blob, look) {
	const video = document.createElement("video");
	const address = URL.createObjectURL(blob);
	try {
		video.muted = true;
		video.preload = "auto";
		video.src = address;
		await until(video, "loadeddata", "unplayable");
		if (!video.videoWidth) throw new Unseen("unplayable"); // only its sound is known to this browser
		const { duration } = video;
		for (let time = 0; time !== null && time < duration; ) {
			const sought = until(video, "seeked", "damaged");
			video.currentTime = Math.min(time + LATER, duration);
			await sought;
			if (video.currentTime < time) return; // it was shorter than it said, or never said
			time = await look(await shown(video), time, Number.isFinite(duration) ? duration : 0);
		}
	} finally {
		video.onerror = null;
		video.removeAttribute("src");
		video.load();
		URL.revokeObjectURL(address);
	}
}
