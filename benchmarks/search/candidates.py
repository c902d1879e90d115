"""Measure the search for candidates: the share of true pairs found, and the time.

    .venv/bin/python -m benchmarks.search.candidates --rows 1e6 --out candidates

The queries of the first part are the second halves of pairs whose first halves are in the bank. In
the bank of photos, a pair is a crop of a photo and the same crop with its sides moved by some
percent; in the bank of random bits, a hash and itself with as many bits flipped. The share of
pairs found is given by the distance of the pair, for several values of the slack (see Request in
nciihash/search/kernel/kernel.hpp).

In the second part, batches as large as the windows of one picture are searched with and without
candidates, in turns and on one thread. Time is that of the thread, so that other load on the
machine lengthens it little; ratios are medians over the rounds.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", NCIIHASH_REQUIRE_KERNEL="1")

import numpy as np
from PIL import Image

from benchmarks.common import reporting
from benchmarks.search import peers
from nciihash import Index, pdq
from nciihash.search.index import CANDIDATE_SLACK, _matches, backend, kernel

RADIUS, REACH = 31, 60
BANDS = ((0, 31), (32, 40), (41, 47), (48, 54), (55, 60))
SLACKS = (0, 8, 16, CANDIDATE_SLACK, 24, 32, 48, 256)
BATCHES = (150, 980)  # hashes of the windows of a picture: a short and a thorough search
Results = dict[str, Any]


def pairs_of_crops(
    folder: Path | None, count: int, rng: np.random.Generator
) -> tuple[peers.Packed, peers.Packed]:
    """Hash random crops of photos, and the same crops with each side moved a little."""
    pictures = peers.photos(folder)
    pairs: list[list[peers.Packed]] = []
    while len(pairs) < count:
        photo = pictures[rng.integers(len(pictures))]
        size = np.array(photo.shape[1::-1])
        crop = size * rng.uniform(0.4, 0.9)
        start = rng.uniform(0, size - crop)
        box = np.concatenate([start, start + crop])
        # half of the pairs with these sides differ in more than 40 bits
        moved = box + rng.normal(0, 0.017, 4) * np.tile(crop, 2)
        moved = np.clip(moved, 0, np.tile(size, 2))
        analyses = [
            pdq.hash_pixels(np.asarray(Image.fromarray(photo).resize((256, 256), box=tuple(one))))
            for one in (box, moved)
        ]
        if min(quality for _, quality in analyses) >= 50:
            pairs.append([packed.reshape(-1) for packed, _ in analyses])
    first, second = np.array(pairs).swapaxes(0, 1)
    return first, second


def pairs_of_flips(count: int, rng: np.random.Generator) -> tuple[peers.Packed, peers.Packed]:
    """Return random hashes, and the same with 16 to `REACH` bits flipped."""
    first = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    bits = np.unpackbits(first, axis=1)
    for row in bits:
        row[rng.choice(256, rng.integers(16, REACH + 1), replace=False)] ^= 1
    return first, np.packbits(bits, axis=1)


def search(index: Index, queries: peers.Packed, slack: int | None) -> bytearray:
    """Search on one thread: with candidates, or without if `slack` is None."""
    if kernel is None:
        raise RuntimeError("nciihash's compiled search kernel is not installed")
    if slack is None:
        return kernel.query(index._handles, queries, RADIUS, 1)
    return kernel.query(index._handles, queries, RADIUS, 1, reach=REACH, slack=slack)


def shares(index: Index, first: peers.Packed, second: peers.Packed) -> list[Results]:
    """Return for each slack the share of pairs found by distance; row n of the bank is pair n's."""
    distances = np.bitwise_count(first ^ second).sum(axis=1)
    lines = []
    for slack in SLACKS:
        found = _matches(search(index, second, slack), len(second))
        numbers = found.queries
        hit = np.zeros(len(second), dtype=np.bool_)
        hit[numbers[found.ids == numbers]] = True
        of_bands = [(distances >= least) & (distances <= most) for least, most in BANDS]
        lines.append({
            "slack": slack,
            "pairs": [int(band.sum()) for band in of_bands],
            "found": [float(hit[band].mean()) for band in of_bands],
        })  # fmt: skip
    return lines


def times(index: Index, queries: peers.Packed, batch: int, rounds: int) -> Results:
    """Time batches without candidates and with each slack, in turns."""
    ways: list[int | None] = [None, *SLACKS]
    seconds: dict[int | None, list[float]] = {way: [] for way in ways}
    count = len(queries) // batch
    for number in range(rounds):
        turn = number % len(ways)
        for position, way in enumerate(ways[turn:] + ways[:turn]):
            # another batch each time, so that none finds its rows in the cache
            at = (number * len(ways) + position) % count * batch
            start = time.thread_time()
            search(index, queries[at : at + batch], way)
            seconds[way].append((time.thread_time() - start) / batch)
    plain = float(np.median(seconds[None]))
    return {
        "batch": batch, "plain": plain,
        "ratios": [float(np.median(seconds[slack])) / plain for slack in SLACKS],
    }  # fmt: skip


def markdown(results: Results) -> str:
    """Return the tables in Markdown."""
    lines = [
        (
            f"Radius {RADIUS}, candidates up to {REACH} bits, {results['banks'][0]['rows']:,} "
            f"hashes, one thread, {results['machine']}, backend {results['backend']}, load average "
            f"{results['load']:.1f} on {results['processors']} processors, "
            f"{', '.join(map(' '.join, results['versions'].items()))}. Slack: how many more bits "
            "of a signature may differ than the radius requires, in sixteenths of a bit per table; "
            f"256 is all of them. `Index.query` uses {CANDIDATE_SLACK}. Time is relative to a "
            "query without candidates."
        ),
        "",
    ]
    for bank in results["banks"]:
        bands = [f"{least} to {most} bits" for least, most in BANDS]
        lines += [
            f"**{bank['bank']}**: {sum(bank['shares'][0]['pairs']):,} pairs; a plain query takes "
            + ", ".join(
                f"{one['plain'] * 1e6:.1f} µs in a batch of {one['batch']}" for one in bank["times"]
            )
            + ".",
            "",
            f"| slack | {' | '.join(bands)} | "
            + " | ".join(f"time, batch of {one['batch']}" for one in bank["times"])
            + " |",
            "|--:" * (1 + len(BANDS) + len(bank["times"])) + "|",
            *(
                f"| {line['slack']} | "
                + " | ".join(f"{share:.1%}" for share in line["found"])
                + " | "
                + " | ".join(f"{one['ratios'][number]:.2f}" for one in bank["times"])
                + " |"
                for number, line in enumerate(bank["shares"])
            ),
            "",
        ]
    return "\n".join(lines)


def plot(results: Results, path: Path) -> None:
    """Plot the share found by distance against the time."""
    plt = reporting.pyplot()
    if plt is None:
        return
    figure, axes = plt.subplots(1, len(results["banks"]), figsize=(13, 5), squeeze=False)
    for axis, bank in zip(axes[0], results["banks"], strict=True):
        for number, (least, most) in enumerate(BANDS[1:], 1):
            axis.plot(
                bank["times"][-1]["ratios"],
                [line["found"][number] for line in bank["shares"]],
                "o-",
                label=f"{least} to {most} bits",
            )
        axis.axvline(1.3, color="#999999", linestyle="--")
        axis.set(
            xscale="log",
            xlabel="time relative to a query without candidates",
            ylabel="share of true pairs found",
            title=bank["bank"],
        )
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.tight_layout()
    reporting.save(figure, path)
    plt.close(figure)


def main() -> None:
    """Run the benchmark, and write the tables, the results and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=float, default=1e5)
    parser.add_argument("--rounds", type=int, default=45)
    parser.add_argument("--crops", type=int, default=6_000)
    parser.add_argument("--pairs", type=int, default=8_000)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out", type=Path, help="where to write NAME.json, NAME.md and NAME.png")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    count = int(options.rows)
    results: Results = {
        **reporting.environment(("numpy",)), "backend": backend(), "banks": [],
    }  # fmt: skip
    real = peers.real_hashes(options.photos, options.crops, rng)
    for bank in ("hashes of photos", "random bits"):
        asked = 12 * max(BATCHES)
        if bank == "hashes of photos":
            first, second = pairs_of_crops(options.photos, options.pairs, rng)
            rows, queries = (peers.bootstrap(real, n, rng) for n in (count, asked))
        else:
            first, second = pairs_of_flips(options.pairs, rng)
            rows, queries = (rng.integers(0, 256, (n, 32), dtype=np.uint8) for n in (count, asked))
        rows[: len(first)] = first
        _, index = peers.ours(rows, 1)
        results["banks"].append({
            "bank": bank, "rows": count, "shares": shares(index, first, second),
            "times": [times(index, queries, batch, options.rounds) for batch in BATCHES],
        })  # fmt: skip
    print(markdown(results))
    if options.out:
        reporting.write(options.out, results, markdown(results))
        plot(results, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
