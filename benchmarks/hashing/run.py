"""Time hashing from path to hash, compared with other programs, and compare the hash bits.

    .venv/bin/python -m benchmarks.hashing.run                     # half a minute
    .venv/bin/python -m benchmarks.hashing.run --photos FOLDER … --rounds 9 --out results/hashing

All programs run in one process, on one core; in each round, every program hashes every file. A
ratio is the median over files and rounds of one program's processor time divided by another's in
the same round, which depends less on the load of the machine than the times do. The files are
12-megapixel JPEGs, made by enlarging photos and adding camera-like grain; photos of 8 to 20
megapixels from the folders; and photos at their original size. Without --photos, scikit-image's
photos are used. Programs that are not installed are skipped.

The bits of exact mode are compared with `pdqhash` from the same pixels, for every readable picture;
those of fast mode with exact mode, for every large JPEG.
"""

import os

# before NumPy is imported: one core for every program
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final

import cv2
import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import folders, reporting
from benchmarks.hashing import peers, report
from nciihash import pdq
from nciihash.hashing.hasher import hash_bytes, hash_file
from nciihash.sandbox import Sandbox
from nciihash.signals import Hashed, Variant

Results = dict[str, Any]
Pixels = NDArray[np.uint8]

LARGE: Final = (4000, 3000)
BUNDLED: Final = ("astronaut", "coffee", "chelsea", "rocket", "camera", "retina", "page", "brick")
SIZES: Final = ((128, 96), (512, 384), (1024, 768), (2048, 1536), (4000, 3000))
UNSURE: Final = 2e-3  # a smaller gap at the median is below the noise of single precision
PACKAGES: Final = (
    *("numpy", "opencv-python-headless", "pillow", "simplejpeg", "pdqhash", "threatexchange"),
    *("imagehash", "perception"),
)


def pictures(photos: Sequence[Path]) -> Iterator[tuple[str, Pixels]]:
    """Yield every picture in the folders, upright, or scikit-image's without folders."""
    if not photos:
        from skimage import data

        for name in BUNDLED:
            pixels = np.asarray(Image.fromarray(getattr(data, name)()).convert("RGB"))
            yield f"{name} (scikit-image)", pixels
        return
    yield from ((path.name, pixels) for path, pixels in folders.pictures(*photos))


def synthetic() -> Iterator[tuple[str, Pixels]]:
    """Yield edge cases that photos do not cover: flat, striped, noisy, tiny and long pictures."""
    random = np.random.default_rng(1)
    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    y, x = np.mgrid[:300, :400]
    for name, grey in (
        ("flat", np.full((300, 400), 128)),
        ("ramp", np.tile(ramp, (300, 1))),
        ("ramp, slanted", (x + y) % 256),
        ("half black, half white", (x >= 200) * 255),
        ("stripes", (x // 16 % 2) * 255),
        ("chequers", ((x // 20 + y // 20) % 2) * 255),
        ("noise", random.integers(0, 256, (300, 400))),
        ("noise, 8x8", random.integers(0, 256, (8, 8))),
        ("noise, 5x700", random.integers(0, 256, (5, 700))),
        ("noise, 64x64", random.integers(0, 256, (64, 64))),
        ("rings", np.hypot(x - 150, y - 130) % 64 * 4),
    ):
        yield f"{name} (synthetic)", np.repeat(grey.astype(np.uint8)[..., None], 3, 2)


def enlarge(pixels: Pixels) -> bytes:
    """Return a 12-megapixel JPEG like a phone's: with grain, 4:2:0, quality 90."""
    size = LARGE if pixels.shape[1] >= pixels.shape[0] else LARGE[::-1]
    big = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC), np.float32)
    grain = np.random.default_rng(0).normal(0, 4, big.shape[:2]).astype(np.float32)
    out = io.BytesIO()
    noisy = np.clip(big + grain[..., None], 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(out, "JPEG", quality=90, subsampling=2)
    return out.getvalue()


def write_files(folder: Path, photos: Sequence[Path], count: int) -> dict[str, list[Path]]:
    """Write the files to be timed; return them by kind: enlarged, large originals, small."""
    files: dict[str, list[Path]] = {"12 megapixels": [], "photos of 8 to 20 megapixels": []}
    files["photos as they are"] = []
    for number, (_, pixels) in enumerate(pictures(photos)):
        megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
        if 8 <= megapixels <= 20:
            continue
        kept = files["photos as they are"]
        if number % 3 == 0 and min(pixels.shape[:2]) >= 300 and len(kept) < 4 * count:
            path = folder / f"small{number}.jpg"
            Image.fromarray(pixels).save(path, quality=88)
            kept.append(path)
            if len(files["12 megapixels"]) < count:
                path = folder / f"large{number}.jpg"
                path.write_bytes(enlarge(pixels))
                files["12 megapixels"].append(path)
    for path in (path for path in folders.files_in(*photos) if path.suffix == ".jpg"):
        with Image.open(path) as picture:
            large = 8e6 <= picture.width * picture.height <= 20e6
        if large and len(files["photos of 8 to 20 megapixels"]) < count:
            files["photos of 8 to 20 megapixels"].append(path)
    if photos and not files["12 megapixels"]:  # nothing to enlarge: use scikit-image's photos
        files["12 megapixels"] = write_files(folder, (), count)["12 megapixels"]
    return {name: paths for name, paths in files.items() if paths}


def race(programs: Sequence[peers.Program], files: Sequence[Path], rounds: int) -> Results:
    """Time all programs on all files, alternating between the programs."""
    times = np.empty((rounds, len(files), len(programs)))
    for path in files:  # warm-up: lazy imports and caches
        for program in programs:
            program.run(path)
    for turn in range(rounds):
        for number, path in enumerate(files):
            for column, program in enumerate(programs):
                times[turn, number, column] = program.time(path)
    by_name = {program.name: times[:, :, column] for column, program in enumerate(programs)}
    lines = []
    for name, seconds in by_name.items():
        ratios = {
            other: float(np.median(by_name[other] / seconds))
            for other in (peers.REFERENCE, peers.IMAGEHASH, peers.LIMIT, peers.FAST)
            if other in by_name
        }
        lines.append({"way": name, "seconds": float(np.median(seconds)), "times as fast": ratios})
    sizes = [path.stat().st_size for path in files]
    return {"files": len(files), "bytes": sum(sizes) / len(sizes), "ways": lines}


def from_pixels(photos: Sequence[Pixels], rounds: int) -> list[Results]:
    """Time PDQ without decoding, from pixels of several sizes."""
    lines = []
    for size in SIZES:
        theirs, ours = [], []
        for photo in photos:
            rgb = np.ascontiguousarray(Image.fromarray(photo).resize(size))
            for _ in range(rounds):
                theirs.append(_processor_time(partial(pdqhash.compute, rgb)))
                ours.append(_processor_time(partial(pdq.hash_pixels, rgb)))
        ratio = median(a / b for a, b in zip(theirs, ours, strict=True))
        line = {"pixels": f"{size[0]}x{size[1]}", "pdqhash": median(theirs)}
        lines.append(line | {"nciihash": median(ours), "ratio": ratio})
    return lines


def _processor_time(run: Callable[[], object]) -> float:
    start = process_time()
    run()
    return process_time() - start


def gap(rgb: Pixels) -> float:
    """Return the smallest gap at the median over the dihedral variants, in double precision."""
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    grid = pdq.operator(rgb.shape[0]) @ luma @ pdq.operator(rgb.shape[1]).T
    row, column = np.arange(1, 17)[:, None], 2 * np.arange(64) + 1
    cosines = np.sqrt(2 / 64) * np.cos(np.pi / 128 * row * column)
    whole = cosines @ grid @ cosines.T
    sign = np.where(np.arange(16) % 2 == 0, -1.0, 1.0)
    signs = (np.ones((16, 16)), sign[:, None] * np.ones(16), np.ones((16, 1)) * sign)
    ranked = [np.sort((whole * s).ravel()) for s in (*signs, np.outer(sign, sign))]
    return float(min(r[128] - r[127] for r in ranked))


def exact_bits(sources: Iterator[tuple[str, Pixels]]) -> Results:
    """Compare the exact hash with `pdqhash` from the same pixels."""
    result: Results = {"pictures": 0, "equal": 0, "ties": [], "unsure": [], "others": []}
    for name, rgb in sources:
        rgb = np.ascontiguousarray(rgb)
        bits, quality = pdqhash.compute(rgb)
        turned, _ = pdqhash.compute_dihedral(rgb)
        packed, own = pdq.hash_pixels(rgb)
        theirs = np.packbits(np.array([bits, *turned], np.uint8), axis=1)
        ours = np.concatenate([packed[None], pdq.dihedral(rgb)])
        distances = np.bitwise_count(theirs ^ ours).sum(axis=1)
        result["pictures"] += 1
        tied = pdq.analyse(rgb).tied
        if tied:
            result["ties"].append(name)
        if not distances.any() and own == quality:
            result["equal"] += 1
        elif not tied:
            mismatch = {"name": name, "bits": int(distances.max()), "quality": [quality, own]}
            unsure = gap(rgb) < UNSURE and own == quality
            result["unsure" if unsure else "others"].append(mismatch)
    return result


def fast_bits(sources: Iterator[tuple[str, bytes]]) -> Results:
    """Compare fast hashes with exact ones, for JPEGs and for their altered copies."""
    own: list[int] = []
    copies: list[int] = []
    worst = ("", -1)
    for name, data in sources:
        exact = hash_bytes(data, variants="standard")
        fast = hash_bytes(data, variants="standard", fast=True)
        if exact.hashes[0].plain or not fast.reduced:
            continue
        by_variant = {hashed.variant: hashed for hashed in fast.hashes}
        distances = {
            hashed.variant: _distance(hashed, by_variant[hashed.variant])
            for hashed in exact.hashes
            if hashed.variant in by_variant
        }
        if (bits := distances.pop(Variant.ORIGINAL, None)) is not None:
            own.append(bits)
            worst = max(worst, (name, bits), key=lambda pair: pair[1])
        copies += distances.values()
    return {
        "pictures": len(own),
        "mean": float(np.mean(own)),
        "max": max(own),
        "worst": worst[0],
        "histogram": np.bincount(own).tolist(),
        "copies": len(copies),
        "copies, mean": float(np.mean(copies)),
        "copies, max": max(copies),
    }


def _distance(a: Hashed, b: Hashed) -> int:
    return (int.from_bytes(a.signal.value) ^ int.from_bytes(b.signal.value)).bit_count()


def jpegs(photos: Sequence[Path], large: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield large JPEGs: those given, the folders' own, and all their pictures in three widths."""
    for path in large:
        yield path.name, path.read_bytes()
    for path in (path for path in folders.files_in(*photos) if path.suffix in {".jpg", ".jpeg"}):
        yield path.name, path.read_bytes()
    for name, pixels in pictures(photos):
        for width in (600, 1400, 2500):
            picture = Image.fromarray(pixels)
            height = max(1, round(width * picture.height / picture.width))
            if min(width, height) < 512:
                continue
            out = io.BytesIO()
            picture.resize((width, height), Image.Resampling.LANCZOS).save(out, "JPEG", quality=85)
            yield f"{name}, {width} wide", out.getvalue()


def main() -> None:
    """Run the benchmark, and write the tables, the results and the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=Path, nargs="+", default=[], help="folders of photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=4, help="large files of each kind")
    parser.add_argument("--out", type=Path, help="where to write NAME.json, NAME.md and NAME.png")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    results: Results = reporting.environment(PACKAGES) | {"races": {}}
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        files = write_files(Path(folder), options.photos, options.files)
        programs = peers.installed_programs(sandbox)
        for name, paths in files.items():
            results["races"][name] = race(programs, paths, options.rounds)
        counts = [len(hash_file(p, variants="full").hashes) for p in files["12 megapixels"]]
        results["full set"] = sum(counts) / len(counts)
        sample = [pixels for _, pixels in pictures(options.photos)][:: 40 if options.photos else 2]
        results["pixels"] = from_pixels(sample[:4], options.rounds)
        results["exact"] = exact_bits(
            source for each in (pictures(options.photos), synthetic()) for source in each
        )
        results["fast"] = fast_bits(jpegs(options.photos, files["12 megapixels"]))
    text = report.markdown(results)
    print(text)
    if options.out:
        reporting.write(options.out, results, text)
        report.plot(results, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
