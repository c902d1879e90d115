"""Measure how many candidates a veiled list makes, and what searching it costs.

    .venv/bin/python -m benchmarks.veil.run --photos FOLDER --out benchmarks/results/veil

Strangers, which match nothing, are asked of banks of crops of other photos put together anew, as in
benchmarks/search/run.py, and random bits of random bits. What such a list gives away of its
pictures is measured by benchmarks/inversion/run.py.

With --hard: different pictures that look alike, a kind in each folder, among themselves and asked
of the banks of photos. Last comes the time of an upload, with a whole list, a veiled one, and none.
"""

import argparse
import os
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", NCIIHASH_REQUIRE_KERNEL="1")

import numpy as np

from benchmarks.common import folders, reporting
from benchmarks.inversion.pictures import Wish, cut, photos, spread
from benchmarks.search import peers
from benchmarks.veil import uploads as veil_uploads
from nciihash import Index
from nciihash.hashing.hasher import hash_image
from nciihash.search.index import kernel
from nciihash.veil import VEILS, veil_pdq

Results = dict[str, Any]
_TYPES: Final = {str(type.bits): type for type in VEILS}
WIDTHS: Final = ("256", *sorted(_TYPES, reverse=True))


def built(rows: peers.Packed) -> dict[str, Index]:
    """Build a bank of whole hashes, and one of each width of their parts, by their bits."""
    held = {"256": rows} | {bits: veil_pdq(rows, type) for bits, type in _TYPES.items()}
    banks = {bits: Index(int(bits)) for bits in held}
    for bits, index in banks.items():
        index.add(np.arange(len(rows), dtype=np.uint64), held[bits])
        index.settle()
    return banks


def candidates(banks: dict[str, Index], queries: peers.Packed, rounds: int) -> Results:
    """Count what strangers meet, and time the search of parts beside that of whole hashes."""
    asked = {"256": queries} | {bits: veil_pdq(queries, type) for bits, type in _TYPES.items()}
    times: dict[str, list[float]] = {name: [] for name in (*banks, "256, flat scan")}
    counts = {}
    for _ in range(rounds):
        for name, index in banks.items():
            start = time.perf_counter()
            found = index.query(asked[name], 31, threads=1)
            times[name].append((time.perf_counter() - start) / len(queries))
            counts[name] = len(found.ids) / len(queries)
        start = time.perf_counter()
        kernel.query(banks["256"]._handles, queries[:128], 31, 1, 2)
        times["256, flat scan"].append((time.perf_counter() - start) / 128)
    flat = times["256, flat scan"]
    return {
        "rows": len(banks["256"]),
        "asked": len(queries),
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
    parts = [f"Crops of {results['photos']} photos."]
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
    if hard := results.get("hard"):
        parts += [
            "\n**Pictures that look alike: pairs within 31 bits, and the closest**\n",
            "| pictures | pairs | " + " | ".join(f"{width} bits" for width in WIDTHS) + " |",
            "|---|--:" + "|--:" * len(WIDTHS) + "|",
            *(
                f"| {one['kind']} | {one['pairs']} | "
                + " | ".join(f"{w['within']}, {w['closest']}" for w in one["widths"].values())
                + " |"
                for one in hard
            ),
        ]
    if uploads := results.get("uploads"):
        once, often = (uploads["asking"][count] * 1e3 for count in ("1", "100"))
        parts += [
            f"\n**An upload on one core, a list of {uploads['rows']:,}**\n",
            f"Asking takes {once:.1f} ms for one hash, {often:.1f} for a hundred.\n",
            "| uploads | list | ms | times as long as with the whole list |",
            "|---|---|--:|--:|",
            *(
                f"| {one['uploads']} | {one['list']} | {one['seconds'] * 1e3:.2f} | "
                f"{one['of_whole']:.2f} |"
                for one in uploads["ways"]
            ),
        ]
    return "\n".join(parts) + "\n"


def alike(folder: Path) -> tuple[list[Results], peers.Packed]:
    """Compare different pictures that look alike, kind by kind; and give the hashes of all."""
    lines, every = [], []
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        hashes = [hash_image(pixels) for _, pixels in folders.pictures(kind)]
        rows = np.array(
            [np.frombuffer(h.signal.value, np.uint8) for h in hashes if not h.plain], np.uint8
        ).reshape(-1, 32)
        every.append(rows)
        widths = {}
        for width in WIDTHS:
            parts = rows if width == "256" else veil_pdq(rows, _TYPES[width])
            apart = np.bitwise_count(parts[:, None] ^ parts).sum(axis=2)[
                np.triu_indices(len(rows), 1)
            ]
            widths[width] = {
                "within": int((apart <= 31).sum()), "closest": int(apart.min(initial=256)),
            }  # fmt: skip
        pairs = len(rows) * (len(rows) - 1) // 2
        lines.append({"kind": kind.name, "pairs": pairs, "widths": widths})
    return lines, np.concatenate(every)


def main() -> None:
    """Measure, and write the tables and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--hard", type=Path, help="a folder of folders of pictures that look alike")
    parser.add_argument("--crops", type=int, default=6_000)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write NAME.json and NAME.md")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    train, test, _ = photos(options.photos)
    near = cut(train, Wish(spread(options.crops, len(train))), seed=1).pdq
    strangers = cut(test, Wish(spread(499, len(test))), seed=2).pdq
    results: Results = {"photos": len(train) + len(test), "banks": []}
    if options.hard:
        results["hard"], hard = alike(options.hard)
    for count in map(int, options.rows):
        photographs = built(peers.bootstrap(near, count, rng))
        noise, asked = (rng.integers(0, 256, (n, 32), np.uint8) for n in (count, 512))
        kinds = [
            ("of crops of other photos", photographs, strangers),
            ("random bits", built(noise), asked),
        ]
        if options.hard:
            kinds.append(("of crops of photos; asked, pictures that look alike", photographs, hard))
        for kind, banks, queries in kinds:
            results["banks"].append({"kind": kind} | candidates(banks, queries, options.rounds))
    shares = {one["bits"]: one["candidates"] for one in results["banks"][-len(kinds)]["lines"]}
    veiled = {bits: shares[bits] for bits in _TYPES}
    results["uploads"] = veil_uploads.measure(test, photographs, veiled)
    print(markdown(results))
    if options.out:
        reporting.write(options.out, results, markdown(results))


if __name__ == "__main__":
    main()
