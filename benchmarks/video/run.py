"""Videos: which altered copies are found, and what hashing costs beside decoding.

    python -m benchmarks.video.run [--videos FOLDER] [--seconds 10] [--rounds 3] [--out NAME]

Each video is altered, encoded anew, and its frames are looked for among those of the original, as
`nciihash match` does: without trimming, where the original is hashed as it is; with trimming, where
it has the altered copies of frames that a submission has. A copy's frames are counted by moments of
a quarter second. Without --videos, films are made from scikit-image's photos, over which a window
wanders. The cost is processor time on one thread, each way in turn, the best of some rounds.
"""

import os

# before NumPy is loaded: one core, as every device has
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
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
SHOT: Final = 2.5  # seconds
TIMED: Final = 20.0  # seconds of the film whose cost is taken


def same(frame: Pixels) -> Pixels:
    """Alter nothing."""
    return frame


def cropped(share: float) -> Alter:
    """Cut a share away on each side."""

    def alter(frame: Pixels) -> Pixels:
        height, width = frame.shape[:2]
        y, x = int(height * share), int(width * share)
        return frame[y : height - y, x : width - x]

    return alter


def mirrored(frame: Pixels) -> Pixels:
    """Exchange left and right."""
    return frame[:, ::-1]


def upright(frame: Pixels) -> Pixels:
    """Cut to a phone's upright shape."""
    height, width = frame.shape[:2]
    wide = min(width, height * 9 // 16)
    left = (width - wide) // 2
    return frame[:, left : left + wide]


def barred(frame: Pixels) -> Pixels:
    """Add black bars, half as high as the picture together."""
    height = frame.shape[0]
    return np.pad(frame, ((height // 4, height // 4), (0, 0), (0, 0)))


def halved(frame: Pixels) -> Pixels:
    """Halve width and height."""
    height, width = frame.shape[:2]
    return np.asarray(Image.fromarray(frame).resize((width // 2, height // 2)))


# name: alteration, part of the film, how much faster, constant rate factor of H.264
COPIES: Final[dict[str, tuple[Alter, tuple[float, float], float, int]]] = {
    "saved anew, small": (same, (0, 1), 1.0, 35),
    "half the size": (halved, (0, 1), 1.0, 28),
    "trimmed to the middle": (same, (0.3, 0.7), 1.0, 28),
    "a quarter of it": (same, (0.45, 0.7), 1.0, 30),
    "faster by a quarter": (same, (0, 1), 1.25, 28),
    "slower by a quarter": (same, (0, 1), 0.8, 28),
    "cropped by 5 %": (cropped(0.05), (0, 1), 1.0, 28),
    "cropped by 10 %": (cropped(0.10), (0, 1), 1.0, 28),
    "cropped by 15 %": (cropped(0.15), (0, 1), 1.0, 28),
    "mirrored": (mirrored, (0, 1), 1.0, 28),
    "mirrored and trimmed": (mirrored, (0.3, 0.7), 1.0, 28),
    "cut to 9:16": (upright, (0, 1), 1.0, 28),
    "bars above and below": (barred, (0, 1), 1.0, 28),
}


def read(data: bytes) -> tuple[list[Pixels], float]:
    """Decode a whole video: RGB frames and frames a second."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
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


def wander(
    photo: Path, seconds: float, rate: int, size: tuple[int, int], seed: int, drift: float = 0.4
) -> bytes:
    """Make a film: a window that drifts over a photo, fast or not, and jumps every few seconds."""
    random = np.random.default_rng(seed)
    width, height = size
    picture = Image.open(photo).convert("RGB")
    zoom = 1.8 * max(width / picture.width, height / picture.height)
    big = np.asarray(picture.resize((int(picture.width * zoom), int(picture.height * zoom))))

    def frames() -> Iterator[Pixels]:
        room = np.array([big.shape[0] - height, big.shape[1] - width])
        for number in range(int(seconds * rate)):
            if number % int(SHOT * rate) == 0:
                start, end = (random.random(2) * room for _ in range(2))
            along = number % int(SHOT * rate) / (SHOT * rate)
            top, left = (start + (end - start) * along * drift).astype(int)
            yield big[top : top + height, left : left + width]

    return write(frames(), rate, 20)


def group(name: str) -> str:
    """Tell what a film shows by its file's name, so that no film is a stranger to its copy."""
    return re.split(r"[-_.0-9]", name)[0]


def share(query: Item, bank: Item) -> vpdq.Comparison:
    """Compare the frames of two films."""
    return vpdq.compare(vpdq.group_by_frame(query.hashes), vpdq.group_by_frame(bank.hashes))


def recall(films: dict[str, bytes]) -> tuple[list[dict[str, object]], dict[str, int]]:
    """Look for each film's copies among its frames, and for strangers among all others'."""
    plain = {name: hasher.hash_bytes(data) for name, data in films.items()}
    rich = {name: hasher.hash_bytes(data, variants="standard") for name, data in films.items()}
    counts = {copy: np.zeros(8) for copy in COPIES}
    false, nearest = 0, 256
    for name, data in films.items():
        frames, rate = read(data)
        for copy, (alter, (start, end), faster, crf) in COPIES.items():
            part = frames[int(start * len(frames)) : int(end * len(frames))]
            places = (np.arange(0, len(part) - 0.01, faster)).astype(int)
            made = write((alter(part[place]) for place in places), rate, crf)
            trimmed = hasher.hash_bytes(made, variants="match", limits=LIMITS)
            whole = tuple(h for h in trimmed.hashes if h.variant is Variant.ORIGINAL)
            query = replace(trimmed, hashes=whole)
            ours, theirs = share(query, plain[name]), share(trimmed, rich[name])
            counts[copy] += [
                *(ours.query.found, ours.query.frames, ours.bank.fraction, ours.query.found > 0),
                *(theirs.query.found, theirs.query.frames, theirs.bank.fraction),
                theirs.query.found > 0,
            ]
            for other, bank in rich.items():
                if group(other) != group(name):
                    stranger = share(trimmed, bank)
                    false += stranger.query.found
                    nearest = min(nearest, stranger.distance)
        print(
            f"  {name}: {plain[name].frames} frames, {len(rich[name].hashes)} hashes",
            file=sys.stderr,
        )
    rows: list[dict[str, object]] = []
    for copy, (found, of, bank, copies, found_more, of_more, bank_more, more) in counts.items():
        rows.append(
            {
                "name": copy,
                "plain": {
                    "films": copies / len(films),
                    "recall": found / of,
                    "of the original": bank / len(films),
                },
                "standard": {
                    "films": more / len(films),
                    "recall": found_more / of_more,
                    "of the original": bank_more / len(films),
                },
            }
        )
    return rows, {"frames": int(false), "nearest": int(nearest)}


def cost(data: bytes, rounds: int) -> list[dict[str, object]]:
    """Take the processor time of each way, in turn."""

    def decode() -> None:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for _ in container.decode(stream):
                pass

    ways: dict[str, Callable[[], object]] = {"decoding alone": decode}
    for variants in ("none", "match", "standard"):
        ways[variants] = lambda variants=variants: hasher.hash_bytes(
            data, variants=variants, limits=LIMITS
        )
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            start = time.process_time()
            run()
            times[way].append(time.process_time() - start)
    best = {way: min(all) for way, all in times.items()}
    alone = best["decoding alone"]
    return [
        {"way": way, "seconds": took, "of the decode": took / alone} for way, took in best.items()
    ]


def markdown(results: dict[str, Any]) -> str:
    """Write the tables."""
    lines = [
        f"{results['films']} films, each altered and encoded anew. Shares of the copies of which a",
        "frame is found, of the copies' frames, and of the originals': as they are, and with the",
        "standard altered copies of the originals' frames and trimmed queries.",
        "",
        "| copy | copies | its frames | original's | copies, standard | its frames | original's |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["copies"]:
        shares = [share for kind in ("plain", "standard") for share in row[kind].values()]
        lines.append(f"| {row['name']} | " + " | ".join(f"{s:.0%}" for s in shares) + " |")
    strangers = results["strangers"]
    lines += [
        "",
        f"Frames near another film: {strangers['frames']}; nearest: {strangers['nearest']} bits.",
        "",
        f"{TIMED:g} s of 1080p30 H.264, seconds of one processor, the best of some rounds:",
        "",
        "| film | hashing | seconds | of the decode's |",
        "|---|---|--:|--:|",
    ]
    for film in results["costs"]:
        for way in film["ways"]:
            lines.append(
                f"| {film['name']} | {way['way']} | {way['seconds']:.2f} "
                f"| {way['of the decode']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, help="a folder of videos")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the films that are made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to write NAME.json and NAME.md")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    from skimage import data_dir

    photos = [Path(data_dir) / name for name in PHOTOS]
    if options.videos:
        files = sorted(path for path in options.videos.iterdir() if path.is_file())
        films = {path.name: path.read_bytes() for path in files}
    else:
        films = {
            path.stem: wander(path, options.seconds, 30, (640, 360), seed)
            for seed, path in enumerate(photos)
            if path.exists()
        }
    costs = [
        {
            "name": name,
            "ways": cost(wander(photos[1], TIMED, 30, (1920, 1080), 7, drift), options.rounds),
        }
        for name, drift in (("moves fast", 0.4), ("moves little", 0.04))
    ]
    rows, strangers = recall(films)
    results = {"films": len(films), "copies": rows, "strangers": strangers, "costs": costs}
    results |= reporting.setting(["av", "numpy", "opencv-python-headless"])
    text = markdown(results)
    print(text)
    if options.out:
        reporting.write(options.out, results, text)


if __name__ == "__main__":
    main()
