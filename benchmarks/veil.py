"""Measure what a veiled list gives away, how many candidates it makes, and what it costs.

    .venv/bin/python benchmarks/veil.py --photos FOLDER --out benchmarks/results/veil

Giving away: a linear inverse (ridge regression from bits, as -1 and 1, to thumbnails of 32 x 32
pixels) learns on crops of two thirds of the photos and is judged on photos that it never saw, by
the correlation with the true thumbnail and by how often the true one is the nearest of all. From
one hash, and from a set of altered copies of it. Candidates and time: strangers, which match
nothing, against banks of crops of other photos put together anew, as in benchmarks/search.py, and
against random bits. A better inverse than a linear one exists; what is told here is a lower bound.
"""

import argparse
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", NCIIHASH_REQUIRE_KERNEL="1")

import numpy as np
import reporting
import search_peers as peers
from numpy.typing import NDArray
from PIL import Image

from nciihash import Index, pdq
from nciihash.hasher import hash_image
from nciihash.index import search
from nciihash.signals import Variant
from nciihash.variants import hash_variants
from nciihash.veil import VEILS, positions, veil_pdq

SIDE = 32
# Copies that nearly every picture has, so that each place of a set holds the same kind of copy.
SET = (Variant.ORIGINAL, Variant.ROTATE90, Variant.CROP10, Variant.CROP07, Variant.TOP04,
       Variant.BOTTOM09, Variant.CUT1X1, Variant.BORDER07_WHITE)  # fmt: skip
Floats = NDArray[np.float32]
Results = dict[str, Any]


def thumbnail(pixels: peers.Packed) -> Floats:
    """Give the brightness of a picture in 32 x 32 cells, as one row of mean 0."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    row = np.asarray(small, dtype=np.float32).ravel()
    return row - row.mean()


def crops(photos: list[peers.Packed], count: int, rng: np.random.Generator) -> list[peers.Packed]:
    """Cut pieces out of photos, small enough to be hashed quickly."""
    made = []
    while len(made) < count:
        photo = photos[rng.integers(len(photos))]
        size = [max(64, int(side * rng.uniform(0.4, 1.0))) for side in photo.shape[:2]]
        size = [min(one, side) for one, side in zip(size, photo.shape, strict=False)]
        top, left = (
            rng.integers(0, side - one + 1) for one, side in zip(size, photo.shape, strict=False)
        )
        crop = Image.fromarray(photo[top : top + size[0], left : left + size[1]])
        crop.thumbnail((256, 256))
        pixels = np.asarray(crop)
        if pdq.hash_pixels(pixels)[1] >= 50:
            made.append(pixels)
    return made


def signs(packed: peers.Packed, chosen: NDArray[np.intp] | None = None) -> Floats:
    """See bits as -1 and 1: float32 (n, bits)."""
    bits = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    return bits if chosen is None else bits[:, chosen]


def inverse(known: Floats, pictures: Floats, weight: float) -> Floats:
    """Fit a ridge regression from bits to thumbnails."""
    gram = known.T @ known + weight * np.eye(known.shape[1], dtype=np.float32)
    return np.linalg.solve(gram, known.T @ pictures).astype(np.float32)


def judge(guess: Floats, truth: Floats) -> Results:
    """Compare guesses with the true thumbnails: each with its own, and with all."""

    def unit(rows: Floats) -> Floats:
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)

    alike = unit(guess) @ unit(truth).T
    own = np.diag(alike)
    first = (alike >= own[:, None]).sum(axis=1) == 1
    return {"correlation": float(np.median(own)), "first": float(first.mean()), "of": len(truth)}


def learned(known: Floats, pictures: Floats, weight: float, count: int) -> NDArray[np.intp]:
    """Choose the bits that matter least to the inverse: drop those of the largest weights, anew."""
    left = np.arange(256)
    while len(left) > count:
        found = inverse(known[:, left], pictures, weight)
        order = np.argsort((found**2).sum(axis=1))
        left = np.sort(left[order[: max(count, len(left) - 8)]])
    return left


def giving_away(train: list[peers.Packed], test: list[peers.Packed], sets: int) -> Results:
    """Judge the inverse of each choice of bits, from one hash and from a set."""
    weight = 300.0
    known = np.stack([pdq.hash_pixels(one)[0] for one in train])
    asked = np.stack([pdq.hash_pixels(one)[0] for one in test])
    pictures, truth = (np.stack([thumbnail(one) for one in many]) for many in (train, test))
    choices: dict[str, NDArray[np.intp]] = {"256, the whole hash": np.arange(256)}
    choices |= {f"{count} highest": positions(count) for count in (160, 144, 128, 96)}
    least = learned(signs(known), pictures, weight, 128)
    choices["128 that matter least here"] = least
    lines = []
    for name, chosen in choices.items():
        found = inverse(signs(known, chosen), pictures, weight)
        lines.append({"bits": name} | judge(signs(asked, chosen) @ found, truth))
    several, asked_sets = (hashed_sets(many[:sets]) for many in (train, test))
    for name in ("256, the whole hash", "128 highest"):
        chosen = choices[name]
        rows, queries = (
            np.concatenate([signs(many[:, n], chosen) for n in range(len(SET))], axis=1)
            for many in (several, asked_sets)
        )
        found = inverse(rows, pictures[: len(rows)], weight * len(SET))
        line = judge(queries @ found, truth[: len(queries)])
        lines.append({"bits": f"{name}, {len(SET)} copies"} | line)
    alone = inverse(signs(several[:, 0], positions(128)), pictures[: len(several)], weight)
    line = judge(signs(asked_sets[:, 0], positions(128)) @ alone, truth[: len(asked_sets)])
    lines.append({"bits": "128 highest, one copy, learned on as few crops"} | line)
    return {"crops": len(train), "crops_of_sets": len(several), "lines": lines}


def hashed_sets(pictures: list[peers.Packed]) -> peers.Packed:
    """Hash some altered copies of each picture: uint8 (n, copies, 32).

    Where a copy has no hash of its own, the original's stands.
    """
    rows = np.empty((len(pictures), len(SET), 32), dtype=np.uint8)
    for row, pixels in zip(rows, pictures, strict=True):
        original = hash_image(pixels)
        made = {h.variant: h.signal.value for h in hash_variants(pixels, original, "standard")}
        for place, variant in enumerate(SET):
            value = made.get(variant, original.signal.value)
            row[place] = np.frombuffer(value, dtype=np.uint8)
    return rows


def candidates(rows: peers.Packed, queries: peers.Packed, rounds: int) -> Results:
    """Count what strangers meet, and time the search of parts beside that of whole hashes."""
    ids = np.arange(len(rows), dtype=np.uint64)
    banks = {"256": (Index(256), rows, queries)}
    for type in VEILS:
        banks[str(type.bits)] = (Index(type.bits), veil_pdq(rows, type), veil_pdq(queries, type))
    for index, whole, _ in banks.values():
        index.add(ids, whole)
        index.settle()
    times: dict[str, list[float]] = {name: [] for name in (*banks, "256, flat scan")}
    counts = {}
    for _ in range(rounds):
        for name, (index, _, asked) in banks.items():
            start = time.perf_counter()
            found = index.query(asked, 31, threads=1)
            times[name].append((time.perf_counter() - start) / len(asked))
            counts[name] = len(found.ids) / len(asked)
        start = time.perf_counter()
        search.query(banks["256"][0]._engines, queries[:128], 31, 1, 2)
        times["256, flat scan"].append((time.perf_counter() - start) / 128)
    flat = times["256, flat scan"]
    return {
        "rows": len(rows),
        "lines": [
            {
                "bits": name, "candidates": counts.get(name), "microseconds": median(taken) * 1e6,
                "of_the_flat_scan": median(t / f for t, f in zip(taken, flat, strict=True)),
            }
            for name, taken in times.items()
        ],
    }  # fmt: skip


def markdown(results: Results) -> str:
    """Write the tables."""
    given = results["giving_away"]
    learned_on = f"{given['crops']:,} crops ({given['crops_of_sets']:,} for sets)"
    parts = [
        f"{results['photos']} photos; linear inverses learned on {learned_on}, judged on others.\n",
        "| bits published | correlation, median | right one first | of |\n|---|--:|--:|--:|",
        *(
            f"| {one['bits']} | {one['correlation']:.2f} | {one['first']:.0%} | {one['of']} |"
            for one in given["lines"]
        ),
    ]
    for bank in results["banks"]:
        parts += [
            f"\n**{bank['rows']:,} hashes, {bank['kind']}; queries that match nothing**\n",
            "| bits | candidates a query | µs a query | time of the flat scan's |",
            "|---|--:|--:|--:|",
            *(
                f"| {one['bits']} | "
                + ("" if one["candidates"] is None else f"{one['candidates']:.4f}")
                + f" | {one['microseconds']:.1f} | {one['of_the_flat_scan']:.3f} |"
                for one in bank["lines"]
            ),
        ]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Measure, and write the tables and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--crops", type=int, default=6_000)
    parser.add_argument("--sets", type=int, default=2_000)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write NAME.json and NAME.md")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    photos = peers.photos(options.photos)
    photos = [photos[n] for n in rng.permutation(len(photos))]
    middle = 2 * len(photos) // 3
    train, test = crops(photos[:middle], options.crops, rng), crops(photos[middle:], 499, rng)
    results: Results = {"photos": len(photos), "banks": []}
    results["giving_away"] = giving_away(train, test, options.sets)
    near = np.stack([pdq.hash_pixels(one)[0] for one in train])
    strangers = np.stack([pdq.hash_pixels(one)[0] for one in test])
    for count in map(int, options.rows):
        for kind, rows, asked in (
            ("of crops of other photos", peers.bootstrap(near, count, rng), strangers),
            ("random bits", *(rng.integers(0, 256, (n, 32), np.uint8) for n in (count, 512))),
        ):
            results["banks"].append({"kind": kind} | candidates(rows, asked, options.rounds))
    print(markdown(results))
    if options.out:
        reporting.write(options.out, results, markdown(results))


if __name__ == "__main__":
    main()
