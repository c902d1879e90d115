"""Measure the recall of edited copies, and the distances between different pictures.

    .venv/bin/python -m benchmarks.recall.run --photos FOLDER --hard FOLDER --out benchmarks/results

Each photo is altered by the edits of `transformations.py` and `later_edits.py`. There are two
measurements:

- By set: a copy of the first sixty edits is found if it is within 31 bits of the hashes that a case
  would have (the plain hash, or a set of variants). The query is the copy's plain hash, or that and
  the hash of the trimmed copy (`match`). Every copy is also compared with every other photo, for
  false matches and the nearest distance.
- By level: `nciihash.Matcher` looks for each copy in a bank with the set `thorough` of all photos.
  A copy is found if a match names its photo; a match that names another photo is false.

`photos.py` says which photos are used; `--all` also uses those that the sets were selected on.

Prints the tables, and writes `recall.md`, `recall.json` and plots.
"""

import os

# before NumPy is imported: one core for each process
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import time
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.common import folders
from benchmarks.common.reporting import environment, write
from benchmarks.recall import cost, large_bank, measuring, report
from benchmarks.recall.measuring import BANKS, EDITS, Measured
from benchmarks.recall.photos import Hashes, Photos, hash_set, load, nearest
from nciihash.hashing.hasher import hash_image
from nciihash.signals import Item

_TOGETHER = 2  # photos whose copies one task makes; each task builds the matchers
PACKAGES = ("numpy", "opencv-python-headless", "pillow", "scikit-image")


def hard_negatives(folder: Path) -> str:
    """Compare different pictures that look alike; return a table with a row per subfolder."""
    lines = [
        (
            "| pictures | usable | pairs | plain, plain: within 31 bits, nearest "
            "| standard, match: within 31 bits, nearest |"
        ),
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind in sorted(p for p in folder.iterdir() if p.is_dir()):
        sets = [
            [hash_set(rgb, which) for which in ("plain", "standard", "match")]
            for _, rgb in folders.pictures(kind)
            if not hash_image(rgb).plain
        ]
        cells = []
        for bank, query in ((0, 0), (1, 2)):
            distances = [nearest(a[query], b[bank]) for a in sets for b in sets if a is not b]
            within = sum(d <= 31 for d in distances)
            cells.append(f"{within}, {min(distances, default=256)}")
        pairs = len(sets) * (len(sets) - 1)
        lines.append(f"| {kind.name} | {len(sets)} | {pairs} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def measure(
    photos: Photos,
    items: dict[str, Item],
    sets: dict[str, list[Hashes]],
    edited: int,
    jobs: int,
    seconds: float | None,
) -> Measured:
    """Look for the copies of some photos, evenly taken from the bank, in several processes.

    Args:
        photos: the photos.
        items: the bank.
        sets: by name of a set, the hashes of each photo of the bank.
        edited: the maximum number of photos.
        jobs: the number of processes.
        seconds: after which no further photos are begun.
    """
    numbers = np.arange(0, len(photos.bank), -(-len(photos.bank) // edited))
    count = -(-len(numbers) // _TOGETHER)
    rest = large_bank.others(photos)
    with ProcessPoolExecutor(jobs) as pool:
        parts = [
            pool.submit(
                measuring.measure, photos, items, sets, numbers[first::count].tolist(), rest
            )
            for first in range(count)
        ]
        for part in wait(parts, seconds).not_done:
            part.cancel()
        return measuring.join([part.result() for part in parts if not part.cancelled()])


def compare_others(
    photos: Photos, sets: dict[str, list[Hashes]], measured: Measured
) -> tuple[list[str], dict[str, Any], Any]:
    """Compare copies with other photos, by set; return lines, values and the last histogram."""
    lines, values = [], {}
    histogram = np.zeros(257, np.int64)
    for bank in BANKS:
        histogram, false, (bits, i, j) = measuring.others(sets[bank], measured)
        pairs = int(histogram.sum())
        names = f"{photos.bank[i][0]} and {photos.bank[j][0]}" if i >= 0 else "none"
        lines.append(
            f"- {bank}: {pairs:,} pairs of hashes, {false} copies matched another photo, nearest "
            f"{bits} bits ({names})"
        )
        values[bank] = {"pairs": pairs, "false": false, "closest": bits}
    return lines, values, histogram


def main() -> None:
    """Run the benchmark, print and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders of photos")
    parser.add_argument("--hard", type=Path, help="a folder of folders of pictures that look alike")
    parser.add_argument(
        "--all", action="store_true", help="also use the photos that the sets were selected on"
    )
    parser.add_argument("--side", type=int, default=448, help="longer side of the photos, pixels")
    parser.add_argument("--most", type=int, default=10_000, help="maximum number of photos")
    parser.add_argument(
        "--edited", type=int, default=10_000, help="maximum number of photos whose copies are made"
    )
    parser.add_argument("--seconds", type=float, help="after these, no further photos are begun")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    parser.add_argument("--out", type=Path, help="where to write results")
    options = parser.parse_args()
    cv2.setNumThreads(1)

    start = time.monotonic()
    photos = load(options.photos, options.side, options.most, every=options.all)
    items = measuring.bank_items(photos)
    sets = measuring.bank_sets(photos, items)
    print(f"{len(photos.bank)} photos, {len(photos.others)} others", flush=True)
    measured = measure(photos, items, sets, options.edited, options.jobs, options.seconds)
    print(f"measured in {time.monotonic() - start:.0f} s", flush=True)

    by_set, values = report.sets(measured.distances)
    by_level, values["levels"] = report.levels(measured)
    missed, values["missed"] = report.missed(measured)
    false, values["false"] = report.strangers(measured, len(items))
    counts = {bank: [len(hashes) for hashes in sets[bank]] for bank in BANKS}
    values["cost by part"] = cost.measure(photos)
    bars, values["bars"] = report.bars(
        measured, values["false"], max(counts["thorough"]), values["cost by part"]
    )
    other_lines, values["others"], histogram = compare_others(photos, sets, measured)
    values["cost"] = times = cost.reduced_sets(photos.bank[0][1])
    edited = len(measured.numbers)
    values |= {"photos": edited, "bank": len(items), "side": options.side}
    values["hashes"] = {bank: float(np.mean(count)) for bank, count in counts.items()}
    values |= environment(PACKAGES)
    fast = next(iter(times.values()))
    parts = [
        f"# Recall on {edited} photos of at most {options.side} pixels\n",
        (
            "Share of the copies that are found within 31 bits. Columns: set of hashes in the "
            "bank, query (`match`: also the hash of the trimmed copy). Held-out edits were not "
            "used to select the sets.\n"
        ),
        by_set,
        "\n## Recall by level\n",
        (
            f"Share of the copies that `nciihash.Matcher` finds in a bank with the set `thorough` "
            f"of all {len(items)} photos; for comparison, today's query in the standard set. "
            f"{len(EDITS)} edits; the later ones were defined before the matcher was run on them. "
            "Without review: found at `thorough` by a match that needs no review. In a million: "
            "found at `thorough` if the bank is among a million other hashes.\n"
        ),
        by_level,
        "\n## What is still missed at the level `thorough`\n",
        missed,
        "\n## False matches by level\n",
        false,
        "\n## What was to be reached\n",
        bars,
        "\n## Processor time of a query and of the sets, by part\n",
        report.costs(values["cost by part"]),
        "\n## Mean number of hashes per photo\n",
        "\n".join(f"- {bank}: {count:.1f}" for bank, count in values["hashes"].items()),
        "\n## Copies compared with other photos, query `match`\n",
        "\n".join(other_lines),
    ]
    if options.hard:
        parts += ["\n## Different pictures that look alike\n", hard_negatives(options.hard)]
    parts.append("\n## Processor time to compute the sets from one reduced decode\n")
    parts += [f"- {name}: {ms:.1f} ms, {ms / fast:.2f}x" for name, ms in times.items()]
    text = "\n".join(parts) + "\n"
    print(text)
    if options.out:
        write(options.out / "recall", values, text)
        report.plot(measured, histogram, options.out)


if __name__ == "__main__":
    main()
