// The pixels of a video's frame. Its file stores luma, which is what is wanted: where the browser
// hands that out, it is taken as it is, turned upright, and no canvas is needed. Else it is made from
// the colours that the browser made of it, whose weights then matter: the wrong ones cost 20 bits.

import { canvasIsTrue, drawn } from "./canvas.js";
import { Refused } from "./formats.js";

const PLANAR = /^(?:I4\d\d|NV12)A?(?:P(\d\d))?$/; // formats that begin with a plane of luma; their depth
// The weights of red, green and blue in the luma of two standards.
const BT601 = [0.299, 0.587, 0.114];
const BT709 = [0.2126, 0.7152, 0.0722];

/**
 * Give a frame's pixels, as `hashPixels` takes them. `old` tells whether its codec knows BT.601 alone,
 * `crop` what its header leaves of it, `{ x, y, width, height }`.
 */
export async function pixelsOf(frame, old, crop = null) {
	const planar = PLANAR.exec(frame.format ?? "");
	if (planar) return stored(frame, Number(planar[1] ?? 8), crop);
	if (!canvasIsTrue()) throw new Refused("hidden");
	const matrix = frame.colorSpace?.matrix ?? (old ? "" : "bt709"); // Firefox takes it so, and does not tell
	const [width, height] = [frame.displayWidth ?? frame.width, frame.displayHeight ?? frame.height];
	return drawn(frame, { width, height }, matrix === "bt709" ? BT709 : BT601);
}

/** Read luma from 0 to 255 out of a frame as it is stored, at the range that it is shown with. */
async function stored(frame, depth, crop) {
	const { visibleRect, colorSpace, rotation = 0, flip = false } = frame;
	// Chromium has the whole of what is cropped from the left or the top, and shows a wrong part of it
	const fits = crop && crop.x + crop.width <= frame.codedWidth && crop.y + crop.height <= frame.codedHeight;
	const rect = fits ? crop : visibleRect;
	const bytes = new ArrayBuffer(frame.allocationSize({ rect }));
	const [{ offset, stride }] = await frame.copyTo(bytes, { rect });
	const down = depth > 8 ? stride / 2 : stride;
	const plane = depth > 8 ? new Uint16Array(bytes, offset) : new Uint8Array(bytes, offset);
	const [last, lowest] = [rect.width - 1, (rect.height - 1) * down];
	const lying = rotation % 180 !== 0;
	const [width, height] = lying ? [lowest / down + 1, last + 1] : [last + 1, lowest / down + 1];
	// where the upright picture begins, and the steps to the right and downwards
	let [start, right, below] = {
		0: [0, 1, down],
		90: [lowest, -down, 1],
		180: [lowest + last, -1, -down],
		270: [last, down, -1],
	}[rotation];
	if (flip) [start, right] = [start + (width - 1) * right, -right]; // after it was turned
	const level = 2 ** (depth - 8);
	const [black, scale] = colorSpace.fullRange ? [0, 1 / level] : [16 * level, 255 / 219 / level];

	function read({ left, top, width, height }, row) {
		const luma = new Float64Array(width);
		const data = new Uint8ClampedArray(width * 4);
		for (let y = top; y < top + height; y++) {
			for (let x = 0, at = start + left * right + y * below; x < width; x++, at += right) {
				luma[x] = Math.min(Math.max((plane[at] - black) * scale, 0), 255);
				data.fill(luma[x], 4 * x, 4 * x + 3);
			}
			row(luma, data, 0);
		}
	}

	return { width, height, read };
}
