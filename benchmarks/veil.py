"""Measure how many candidates a veiled list makes, and what searching it costs.

    .venv/bin/python benchmarks/veil.py --photos FOLDER --out benchmarks/results/veil

Strangers, which match nothing, are asked of banks of crops of other photos put together anew, as in
benchmarks/search.py, and random bits of random bits. What such a list gives away of its pictures is
measured by benchmarks/inversion.py.
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
from inversion_pictures import Wish, cut, photos

from nciihash import Index
from nciihash.index import search
from nciihash.veil import VEILS, veil_pdq

Results = dict[str, Any]


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
    return "\n".join(parts) + "\n"


def main() -> None:
    """Measure, and write the tables and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--crops", type=int, default=6_000)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write NAME.json and NAME.md")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    train, test, _ = photos(options.photos)
    near = cut(train, Wish(-(-options.crops // len(train))), seed=1).pdq
    strangers = cut(test, Wish(-(-499 // len(test))), seed=2).pdq
    results: Results = {"photos": len(train) + len(test), "banks": []}
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
