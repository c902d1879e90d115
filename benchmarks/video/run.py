"""Videos: the recall of altered copies, and the cost of hashing relative to decoding.

    python -m benchmarks.video.run [--videos FOLDER] [--seconds 10] [--rounds 3] [--out NAME]

Each video is altered and re-encoded, and the frames of the copy are searched among those of the
original, as `nciihash match` does: once without variants on either side, and once with trimmed
queries and with the variants of the original's frames that a submission has. Frames of a copy are
counted in intervals of a quarter second. Without --videos, the videos are simulated: a window pans
over scikit-image's photos. The cost is processor time on one thread, the fastest of several rounds
in which the methods take turns.
"""

import os

# before NumPy is imported: one core
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import reporting
from nciihash import vpdq
from nciihash.hashing import hasher
from nciihash.media.limits import Limits
from nciihash.signals import Item, Variant

Pixels = NDArray[np.uint8]
Alter = Callable[[Pixels], Pixels]

LIMITS: Final = Limits(threads=1)
PHOTOS: Final = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "hubble_deep_field.jpg",
)
SHOT: Final = 2.5  # seconds between cuts
TIMED: Final = 20.0  # seconds, the length of the videos that are timed


def same(frame: Pixels) -> Pixels:
    """Return the frame unchanged."""
    return frame


def cropped(share: float) -> Alter:
    """Crop a share of each side."""

    def alter(frame: Pixels) -> Pixels:
        height, width = frame.shape[:2]
        y, x = int(height * share), int(width * share)
        return frame[y : height - y, x : width - x]

    return alter


def mirrored(frame: Pixels) -> Pixels:
    """Mirror horizontally."""
    return frame[:, ::-1]


def portrait(frame: Pixels) -> Pixels:
    """Crop to a phone's portrait format, 9:16."""
    height, width = frame.shape[:2]
    crop_width = min(width, height * 9 // 16)
    left = (width - crop_width) // 2
    return frame[:, left : left + crop_width]


def barred(frame: Pixels) -> Pixels:
    """Add black bars above and below, together half as high as the picture."""
    height = frame.shape[0]
    return np.pad(frame, ((height // 4, height // 4), (0, 0), (0, 0)))


def halved(frame: Pixels) -> Pixels:
    """Halve width and height."""
    height, width = frame.shape[:2]
    return np.asarray(Image.fromarray(frame).resize((width // 2, height // 2)))


# name: edit of the frames, part of the video, speed, constant rate factor of H.264
COPIES: Final[dict[str, tuple[Alter, tuple[float, float], float, int]]] = {
    "re-encoded, small": (same, (0, 1), 1.0, 35),
    "half the size": (halved, (0, 1), 1.0, 28),
    "trimmed to the middle": (same, (0.3, 0.7), 1.0, 28),
    "a quarter of the length": (same, (0.45, 0.7), 1.0, 30),
    "25 % faster": (same, (0, 1), 1.25, 28),
    "20 % slower": (same, (0, 1), 0.8, 28),
    "cropped by 5 %": (cropped(0.05), (0, 1), 1.0, 28),
    "cropped by 10 %": (cropped(0.10), (0, 1), 1.0, 28),
    "cropped by 15 %": (cropped(0.15), (0, 1), 1.0, 28),
    "mirrored": (mirrored, (0, 1), 1.0, 28),
    "mirrored and trimmed": (mirrored, (0.3, 0.7), 1.0, 28),
    "cropped to 9:16": (portrait, (0, 1), 1.0, 28),
    "bars above and below": (barred, (0, 1), 1.0, 28),
}


def read(data: bytes) -> tuple[list[Pixels], float]:
    """Decode a whole video: RGB frames, and frames per second."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        frames = [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for frame in container.decode(stream)
        ]
        return frames, float(stream.average_rate or 25)


def write(frames: Iterator[Pixels], rate: float, crf: int) -> bytes:
    """Encode frames as H.264 in MP4."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(rate), options={"crf": str(crf)})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.options = {"crf": str(crf), "preset": "veryfast"}
        for number, pixels in enumerate(frames):
            even = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
            if number == 0:
                stream.height, stream.width = even.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def pan(
    photo: Path, seconds: float, rate: int, size: tuple[int, int], seed: int, drift: float = 0.4
) -> bytes:
    """Simulate a video: a window pans over a photo and jumps every `SHOT` seconds.

    `drift` is the share of the distance to a random target that it covers between jumps.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    picture = Image.open(photo).convert("RGB")
    zoom = 1.8 * max(width / picture.width, height / picture.height)
    big = np.asarray(picture.resize((int(picture.width * zoom), int(picture.height * zoom))))

    def frames() -> Iterator[Pixels]:
        margins = np.array([big.shape[0] - height, big.shape[1] - width])
        for number in range(int(seconds * rate)):
            if number % int(SHOT * rate) == 0:
                start, end = (rng.random(2) * margins for _ in range(2))
            along = number % int(SHOT * rate) / (SHOT * rate)
            top, left = (start + (end - start) * along * drift).astype(int)
            yield big[top : top + height, left : left + width]

    return write(frames(), rate, 20)


def group(name: str) -> str:
    """Return the subject of a video by its name; videos of one subject count as related."""
    return re.split(r"[-_.0-9]", name)[0]


def compare(query: Item, bank: Item) -> vpdq.Comparison:
    """Compare the frames of two videos."""
    return vpdq.compare(vpdq.group_by_frame(query.hashes), vpdq.group_by_frame(bank.hashes))


def recall(videos: dict[str, bytes]) -> tuple[list[dict[str, object]], dict[str, int]]:
    """Search the frames of each video's copies in the original and in all unrelated videos."""
    plain = {name: hasher.hash_bytes(data) for name, data in videos.items()}
    standard = {name: hasher.hash_bytes(data, variants="standard") for name, data in videos.items()}
    counts = {copy: np.zeros(8) for copy in COPIES}
    false, nearest = 0, 256
    for name, data in videos.items():
        frames, rate = read(data)
        for copy, (alter, (start, end), speed, crf) in COPIES.items():
            part = frames[int(start * len(frames)) : int(end * len(frames))]
            chosen = np.arange(0, len(part) - 0.01, speed).astype(int)
            encoded = write((alter(part[index]) for index in chosen), rate, crf)
            trimmed = hasher.hash_bytes(encoded, variants="match", limits=LIMITS)
            originals = tuple(h for h in trimmed.hashes if h.variant is Variant.ORIGINAL)
            query = replace(trimmed, hashes=originals)
            first, second = compare(query, plain[name]), compare(trimmed, standard[name])
            counts[copy] += [
                value
                for each in (first, second)
                for value in (
                    each.query.found,
                    each.query.frames,
                    each.bank.fraction,
                    each.query.found > 0,
                )
            ]
            for other, item in standard.items():
                if group(other) != group(name):
                    unrelated = compare(trimmed, item)
                    false += unrelated.query.found
                    nearest = min(nearest, unrelated.distance)
        print(
            f"  {name}: {plain[name].frames} frames, {len(standard[name].hashes)} hashes",
            file=sys.stderr,
        )
    rows: list[dict[str, object]] = []
    for copy, sums in counts.items():
        row: dict[str, object] = {"name": copy}
        for kind, (found, frames_of_copy, of_original, copies) in zip(
            ("plain", "standard"), sums.reshape(2, 4).tolist(), strict=True
        ):
            row[kind] = {
                "films": copies / len(videos),
                "recall": found / frames_of_copy,
                "of the original": of_original / len(videos),
            }
        rows.append(row)
    return rows, {"frames": int(false), "nearest": int(nearest)}


def cost(data: bytes, rounds: int) -> list[dict[str, object]]:
    """Measure the processor time of decoding and of each set of variants, taking turns."""

    def decode() -> None:
        with av.open(io.BytesIO(data), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for _ in container.decode(stream):
                pass

    methods: dict[str, Callable[[], object]] = {"decoding alone": decode}
    for variants in ("none", "match", "standard"):
        methods[variants] = partial(hasher.hash_bytes, data, variants=variants, limits=LIMITS)
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, run in methods.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    best = {name: min(seconds) for name, seconds in times.items()}
    decoding = best["decoding alone"]
    return [
        {"way": name, "seconds": seconds, "of the decode": seconds / decoding}
        for name, seconds in best.items()
    ]


def markdown(results: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    lines = [
        f"{results['films']} videos, each altered and re-encoded. Columns: the share of copies",
        "with at least one frame that is found, of the copies' frames that are found, and of the",
        "originals' frames that are found; first without variants, then with the standard set of",
        "variants of the originals' frames and trimmed queries.",
        "",
        (
            "| copy | copies | copy's frames | original's frames | copies, standard "
            "| copy's frames, standard | original's frames, standard |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["copies"]:
        shares = [share for kind in ("plain", "standard") for share in row[kind].values()]
        lines.append(f"| {row['name']} | " + " | ".join(f"{s:.0%}" for s in shares) + " |")
    strangers = results["strangers"]
    lines += [
        "",
        (
            f"Frames that match an unrelated video: {strangers['frames']}; nearest: "
            f"{strangers['nearest']} bits."
        ),
        "",
        f"Processor time on one thread for {TIMED:g} s of 1080p30 H.264, best of several rounds:",
        "",
        "| video | variants | seconds | relative to decoding |",
        "|---|---|--:|--:|",
    ]
    for video in results["costs"]:
        for method in video["ways"]:
            lines.append(
                f"| {video['name']} | {method['way']} | {method['seconds']:.2f} "
                f"| {method['of the decode']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, help="a folder of videos")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="length of the simulated videos"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to write NAME.json and NAME.md")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    from skimage.data import data_dir

    photos = [Path(data_dir) / name for name in PHOTOS]
    if options.videos:
        files = sorted(path for path in options.videos.iterdir() if path.is_file())
        videos = {path.name: path.read_bytes() for path in files}
    else:
        videos = {
            path.stem: pan(path, options.seconds, 30, (640, 360), seed)
            for seed, path in enumerate(photos)
            if path.exists()
        }
    costs = [
        {
            "name": name,
            "ways": cost(pan(photos[1], TIMED, 30, (1920, 1080), 7, drift), options.rounds),
        }
        for name, drift in (("fast motion", 0.4), ("little motion", 0.04))
    ]
    rows, strangers = recall(videos)
    results = {"films": len(videos), "copies": rows, "strangers": strangers, "costs": costs}
    results |= reporting.environment(["av", "numpy", "opencv-python-headless"])
    text = markdown(results)
    print(text)
    if options.out:
        reporting.write(options.out, results, text)


if __name__ == "__main__":
    main()
