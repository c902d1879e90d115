// The pixels of a video's frame. Where the browser returns luma as it is stored, no canvas is needed;
// else it is computed from colours, by the codec's weights: the wrong ones cost 20 bits.

import { BT601 } from "./altered_views.js";
import { canvasIsTrue, drawn } from "./canvas.js";
import { Refused } from "./formats.js";

const PLANAR = /^(?:I4\d\d|NV12)A?(?:P(\d\d))?$/; // formats that begin with a plane of luma; their depth
const BT709 = [0.2126, 0.7152, 0.0722];

/** Return a frame's pixels, of the part that its header shows. @type {PixelsOf} */
export async function pixelsOf(frame, vp8, crop = null) {
	const planar = PLANAR.exec(frame.format ?? "");
	if (planar) return storedLuma(frame, Number(planar[1] ?? 8), crop);
	if (!canvasIsTrue()) throw new Refused("hidden");
	const matrix = frame.colorSpace?.matrix ?? (vp8 ? "" : "bt709"); // Firefox's default, which it does not report
	const [width, height] = [frame.displayWidth ?? frame.width, frame.displayHeight ?? frame.height];
	return drawn(frame, { width, height }, matrix === "bt709" ? BT709 : BT601);
}

async function storedLuma(frame, depth, crop) {
	const { visibleRect, colorSpace, rotation = 0, flip = false } = frame;
	// Chromium shows a wrong part of a picture that is cropped at the left or the top
	const fits = crop && crop.x + crop.width <= frame.codedWidth && crop.y + crop.height <= frame.codedHeight;
	const rect = fits ? crop : visibleRect;
	const bytes = new ArrayBuffer(frame.allocationSize({ rect }));
	const [{ offset, stride }] = await frame.copyTo(bytes, { rect });
	const down = depth > 8 ? stride / 2 : stride;
	const plane = depth > 8 ? new Uint16Array(bytes, offset) : new Uint8Array(bytes, offset);
	const [last, lowest] = [rect.width - 1, (rect.height - 1) * down];
	const sideways = rotation % 180 !== 0;
	const [width, height] = sideways ? [lowest / down + 1, last + 1] : [last + 1, lowest / down + 1];
	// the first sample of the upright picture, and its steps to the right and down
	let [start, right, below] = {
		0: [0, 1, down],
		90: [lowest, -down, 1],
		180: [lowest + last, -1, -down],
		270: [last, down, -1],
	}[rotation];
	if (flip) [start, right] = [start + (width - 1) * right, -right]; // after the rotation
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
