"""Measure the number of candidates of a veiled list, and the cost of searching it.

    .venv/bin/python -m benchmarks.veil.run --photos FOLDER --out benchmarks/results/veil

Queries without a match are searched in banks of recombined hashes of crops of other photos, as in
benchmarks/search/run.py, and random queries in banks of random bits. What a veiled list reveals of
its pictures is measured by benchmarks/inversion/run.py.

With --hard, different pictures that look alike, a kind in each subfolder, are compared with each
other and searched in the banks of photos. The last table has the time that an upload takes with a
whole list, a veiled one, and none.
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
from benchmarks.inversion.pictures import CutOptions, cut, per_photo, photos
from benchmarks.search import peers
from benchmarks.veil import uploads as veil_uploads
from nciihash import Index
from nciihash.hashing.hasher import hash_image
from nciihash.veil import VEILS, veil_pdq

Results = dict[str, Any]
_TYPES: Final = {str(veil.bits): veil for veil in VEILS}
# What the tables show for the kinds of banks, whose names are keys in the results.
_SHOWN: Final = {
    "random bits": "of random bits",
    "of crops of photos; asked, pictures that look alike": (
        "of crops of photos; the queries are different pictures that look alike"
    ),
}
WIDTHS: Final = ("256", *sorted(_TYPES, reverse=True))


def build(rows: peers.Packed) -> dict[str, Index]:
    """Build a bank of whole hashes, and one of veiled hashes per width; by number of bits."""
    values = {"256": rows} | {bits: veil_pdq(rows, veil) for bits, veil in _TYPES.items()}
    banks = {bits: Index(int(bits)) for bits in values}
    for bits, index in banks.items():
        index.add(np.arange(len(rows), dtype=np.uint64), values[bits])
        index.settle()
    return banks


def candidates(banks: dict[str, Index], queries: peers.Packed, rounds: int) -> Results:
    """Count the candidates of unrelated queries, and time the search by width."""
    values = {"256": queries} | {bits: veil_pdq(queries, veil) for bits, veil in _TYPES.items()}
    times: dict[str, list[float]] = {name: [] for name in (*banks, "256, flat scan")}
    counts = {}
    for _ in range(rounds):
        for name, index in banks.items():
            start = time.perf_counter()
            found = index.query(values[name], 31, threads=1)
            times[name].append((time.perf_counter() - start) / len(queries))
            counts[name] = len(found.ids) / len(queries)
        start = time.perf_counter()
        peers.kernel_query(banks["256"], queries[:128], 31, peers.FLAT)
        times["256, flat scan"].append((time.perf_counter() - start) / 128)
    flat = times["256, flat scan"]
    return {
        "rows": len(banks["256"]),
        "asked": len(queries),
        "lines": [
            {
                "bits": name, "candidates": counts.get(name), "microseconds": median(seconds) * 1e6,
                "of_the_flat_scan": median(t / f for t, f in zip(seconds, flat, strict=True)),
            }
            for name, seconds in times.items()
        ],
    }  # fmt: skip


def markdown(results: Results) -> str:
    """Return the tables in Markdown."""
    parts = [f"Crops of {results['photos']} photos."]
    for bank in results["banks"]:
        kind = _SHOWN.get(bank["kind"], bank["kind"])
        parts += [
            f"\n**Bank of {bank['rows']:,} hashes {kind}; no query has a match**\n",
            "| bits | candidates per query | µs per query | time relative to the flat scan |",
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
            "\n**Different pictures that look alike: pairs within 31 bits, nearest distance**\n",
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
        single, hundred = (uploads["asking"][count] * 1e3 for count in ("1", "100"))
        parts += [
            f"\n**Time per upload on one core, a list of {uploads['rows']:,} hashes**\n",
            (
                f"A request that confirms one candidate takes {single:.1f} ms, one with 100 hashes "
                f"{hundred:.1f} ms.\n"
            ),
            "| uploads | list | ms | time relative to the whole list |",
            "|---|---|--:|--:|",
            *(
                f"| {one['uploads']} | {one['list']} | {one['seconds'] * 1e3:.2f} | "
                f"{one['of_whole']:.2f} |"
                for one in uploads["ways"]
            ),
        ]
    return "\n".join(parts) + "\n"


def compare_lookalikes(folder: Path) -> tuple[list[Results], peers.Packed]:
    """Compare different pictures that look alike, by kind; return also the hashes of all."""
    lines, all_rows = [], []
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        hashes = [hash_image(pixels) for _, pixels in folders.pictures(kind)]
        rows = np.array(
            [np.frombuffer(h.signal.value, np.uint8) for h in hashes if not h.plain], np.uint8
        ).reshape(-1, 32)
        all_rows.append(rows)
        widths = {}
        for width in WIDTHS:
            parts = rows if width == "256" else veil_pdq(rows, _TYPES[width])
            distances = np.bitwise_count(parts[:, None] ^ parts).sum(axis=2)[
                np.triu_indices(len(rows), 1)
            ]
            widths[width] = {
                "within": int((distances <= 31).sum()), "closest": int(distances.min(initial=256)),
            }  # fmt: skip
        pairs = len(rows) * (len(rows) - 1) // 2
        lines.append({"kind": kind.name, "pairs": pairs, "widths": widths})
    return lines, np.concatenate(all_rows)


def main() -> None:
    """Run the benchmark, and write the tables and the results."""
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
    near = cut(train, CutOptions(per_photo(options.crops, len(train))), seed=1).pdq
    unrelated = cut(test, CutOptions(per_photo(499, len(test))), seed=2).pdq
    results: Results = {"photos": len(train) + len(test), "banks": []}
    if options.hard:
        results["hard"], hard = compare_lookalikes(options.hard)
    for count in map(int, options.rows):
        photo_banks = build(peers.bootstrap(near, count, rng))
        noise, random_queries = (rng.integers(0, 256, (n, 32), np.uint8) for n in (count, 512))
        kinds = [
            ("of crops of other photos", photo_banks, unrelated),
            ("random bits", build(noise), random_queries),
        ]
        if options.hard:
            kinds.append(("of crops of photos; asked, pictures that look alike", photo_banks, hard))
        for kind, banks, queries in kinds:
            results["banks"].append({"kind": kind} | candidates(banks, queries, options.rounds))
    shares = {one["bits"]: one["candidates"] for one in results["banks"][-len(kinds)]["lines"]}
    veiled = {bits: shares[bits] for bits in _TYPES}
    results["uploads"] = veil_uploads.measure(test, photo_banks, veiled)
    print(markdown(results))
    if options.out:
        reporting.write(options.out, results, markdown(results))


if __name__ == "__main__":
    main()
