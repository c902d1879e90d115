"""Fuzz the sandbox with mutated files: it must not hang, and this process must not crash.

    PYTHONPATH=tests python tests/tools/fuzz_files.py [--minutes 10] [--seed 1] [FOLDER …]

The corpus has generated pictures and videos of every kind, and the files in FOLDERs. A file that
kills the child is counted and its seed printed: the sandbox exists for such files. Anything but an
item or a refusal ends the run with status 1, and the file is written to `fuzz-found`.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

from nciihash.errors import FileRefused
from nciihash.hashing import hasher
from nciihash.media.limits import Limits
from nciihash.sandbox import Sandbox
from nciihash.sandbox.warmup import SAMPLES
from support.file_kinds.animations import Frame, apng, gif
from support.file_kinds.bmps import bmp
from support.file_kinds.jpegs import sound_but_odd
from support.file_kinds.tiffs import kinds, samples, tiff
from support.heifs import aperture, coded, heic, heif
from support.pictures import encode, scene
from support.videos import make_video, moving_frames

SECONDS = 20.0  # limit per file, for pictures and for videos


def corpus(folders):
    """Yield generated files of every kind, and the files in folders that are not too large."""
    frames = moving_frames(8, 96, 64)
    more = [scene(seed=n) for n in (2, 3)]
    yield from SAMPLES.values()
    yield encode(scene(600, 600), "JPEG")
    yield heic(scene())
    yield heif([coded(scene(256, 160), properties=(aperture(100, 60),))])
    yield from (odd for _, odd in islice(sound_but_odd(encode(scene(), "JPEG")), 0, None, 9))
    few = [Frame(scene(seed=n).quantize(60)) for n in (1, 2)]
    yield gif((140, 90), [few[0], Frame(few[1].picture, 10, 5, clear=3)], between=b"\0")
    yield apng((120, 80), [Frame(scene(seed=2))] * 2, hidden=scene())
    yield bmp(scene(), np.zeros((80, 120), np.uint8))
    yield from (tiff(kind, samples(kind)) for kind in islice(kinds(), 0, None, 60))
    for file_format in ("GIF", "WEBP", "PNG", "AVIF", "TIFF"):
        yield encode(scene(), file_format, save_all=True, append_images=more)
    for codec, container in (
        *(("libx264", "mp4"), ("libx265", "mp4"), ("libsvtav1", "webm"), ("libvpx", "webm")),
        *(("prores_ks", "mov"), ("mpeg4", "avi"), ("mpeg2video", "mpegts"), ("flv", "flv")),
    ):
        pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
        yield make_video(frames, codec, container, pix_fmt, rate=24)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.stat().st_size < 1 << 20:
                yield path.read_bytes()


def mutated(data, random):
    """Return a file with random changes: of bytes, lengths and positions, or truncated."""
    out = bytearray(data)
    for _ in range(int(random.geometric(0.3))):
        at = int(random.integers(0, len(out) + 1))
        length = int(min(random.geometric(0.1), 4096))
        match int(random.integers(0, 7)):
            case 0:
                out[at : at + 1] = random.bytes(1)
            case 1:
                out[at : at + length] = random.bytes(length)
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[at : at + length]
            case 4 if len(out) > at + 4:
                lengths = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, len(out))
                out[at : at + 4] = lengths[int(random.integers(0, len(lengths)))].to_bytes(4)
            case 5:
                other = int(random.integers(0, len(out) + 1))
                out[at : at + length] = out[other : other + length]
            case 6 if random.random() < 0.2:
                del out[at:]
        if not out:
            break
    return bytes(out)


def main():
    """Hash mutated files until the time is over, and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    files = list(corpus(options.folders))
    outcomes = Counter()
    seed, slowest = options.seed, 0.0
    end = time.monotonic() + 60 * options.minutes
    limits = Limits(seconds=SECONDS, video_seconds=SECONDS, threads=2)
    with tempfile.TemporaryDirectory() as folder, Sandbox(limits) as box:
        path = Path(folder) / "file"
        while time.monotonic() < end:
            random = np.random.default_rng(seed)
            data = mutated(files[int(random.integers(0, len(files)))], random)
            path.write_bytes(data)
            variants = hasher.VARIANTS[int(random.integers(0, len(hasher.VARIANTS)))]
            start = time.monotonic()
            try:
                box.hash_file(path, variants=variants, fast=bool(random.integers(0, 2)))
                outcomes["hashed"] += 1
            except FileRefused as refusal:
                outcomes[refusal.code] += 1
                if "crash" in str(refusal) or "invalid reply" in str(refusal):
                    outcomes["killed its child"] += 1
                    print(f"seed {seed}: {refusal}", flush=True)
            except BaseException:
                Path("fuzz-found").write_bytes(data)
                print(f"seed {seed} raised an error; the file is in fuzz-found", flush=True)
                raise
            slowest = max(slowest, time.monotonic() - start)
            if slowest > SECONDS + 30:
                sys.exit(f"seed {seed} hung for {slowest:.0f} s")
            seed += 1
    print(f"{seed - options.seed:,} files, the slowest {slowest:.1f} s: {dict(outcomes)}")


if __name__ == "__main__":
    main()
