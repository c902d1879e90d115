"""Measure how often windows match strangers' pictures, and estimate the rate at scale.

    .venv/bin/python -m benchmarks.false_matches.run --photos FOLDER --hard FOLDER \
        --out benchmarks/results/false-matches

Every picture is a query at the level `thorough` against the `thorough` sets of all others. Pictures
are the photos in folders, scikit-image's, those in some Debian packages, which are downloaded to
`--packages`, crops of them, paintings of people, pictures that look alike, and drawn people.

The tail model in `tail.py` is fitted to the smallest distances of pairs of different photos. The
halves of the sources that it is fitted to and checked on depend on names only.
"""

import os

# before NumPy is imported: one core a process
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import pickle
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.common.reporting import environment, write
from benchmarks.false_matches import pictures, report, tail
from benchmarks.false_matches.measure import OWN_BITS, Measured, Measurement, in_parallel
from benchmarks.false_matches.pictures import Picture, related
from nciihash.hashing.hasher import hash_image
from nciihash.sdk.alignment import ALIGNED_MAX
from nciihash.sdk.matcher import CANDIDATE_BITS

RADIUS: Final = 31
# What is estimated for which pictures.
POPULATIONS: Final = {
    "photos": ("photo", "crop", "portrait"),
    "drawn people": ("body",),
    # the most alike of all: blobs on black, stripes and checks, clipart
    "pictures that look alike": ("smooth", "ground", "hard negative"),
}
_LABELS: Final = {
    "photo": "photos",
    "crop": "photos",
    "portrait": "paintings of people",
    "body": "drawn people",
    "smooth": "smooth pictures",
    "ground": "drawn grounds",
}
_PACKAGES: Final = ("numpy", "opencv-python-headless", "pillow", "nciihash")


def collect(options: argparse.Namespace) -> list[Picture]:
    """Return all pictures."""
    from skimage import data

    options.packages.mkdir(parents=True, exist_ok=True)
    unpacked = pictures.download((*pictures.PACKAGES, pictures.PORTRAITS), options.packages)
    painted = [folder for folder in unpacked if folder.name == pictures.PORTRAITS]
    wallpapers = [folder for folder in unpacked if folder not in painted]
    found = list(pictures.photos(*wallpapers, *options.photos, Path(data.__file__).parent))
    for folder in painted:
        found += pictures.portraits(folder)
    if options.hard:
        found += pictures.hard_negatives(options.hard)
    counts = pictures.Drawings(options.people, options.series, options.smooth, options.grounds)
    found += in_parallel(
        lambda number: pictures.drawing(number, counts), range(counts.total), options.workers
    )
    return found


def usable(found: list[Picture], workers: int) -> list[Picture]:
    """Return the pictures that are not too plain to be hashed: the others match nothing."""
    plain = in_parallel(
        lambda number: hash_image(found[number].pixels).plain, range(len(found)), workers
    )
    return [picture for picture, rejected in zip(found, plain, strict=True) if not rejected]


def relation(one: Picture, other: Picture) -> str:
    """Return whether two pictures are related, parts of one photo, or strangers'."""
    if related(one, other):
        return "same scene"
    return "same photo, other part" if one.source == other.source else "strangers"


def by_kind(found: list[Picture], measured: Measured) -> dict[str, dict[str, int]]:
    """Count pairs, candidates and matches by the kinds of both pictures, and by their relation."""
    rows: dict[str, dict[str, int]] = {}

    def row(name: str) -> dict[str, int]:
        empty = {"pairs": 0, "own": 0, "review": 0, "candidates": 0, "matches": 0, "nearest": 256}
        return rows.setdefault(name, empty)

    labels, label = np.unique([_label(picture) for picture in found], return_inverse=True)
    sources = np.unique([picture.source for picture in found], return_inverse=True)[1]
    for i, one in enumerate(labels):
        for j, other in enumerate(labels):
            here, there = sources[label == i], sources[label == j]
            sizes = [np.bincount(each, minlength=sources.max() + 1) for each in (here, there)]
            pairs = len(here) * len(there) - int(sizes[0] @ sizes[1])
            row(_pair_label(str(one), str(other)))["pairs"] += pairs
    for source in range(int(sources.max()) + 1):
        members = [found[number] for number in np.flatnonzero(sources == source)]
        for one in members:
            for other in members:
                if one is not other:
                    row(relation(one, other))["pairs"] += 1
    for (query, bank), near in measured.near.items():
        one, other = found[query], found[bank]
        kind = relation(one, other)
        entry = row(_pair_label(_label(one), _label(other)) if kind == "strangers" else kind)
        entry["own"] += near.distinctive <= RADIUS
        entry["review"] += near.own <= RADIUS < near.distinctive
        entry["candidates"] += near.window <= CANDIDATE_BITS
        entry["matches"] += near.aligned <= ALIGNED_MAX
        entry["nearest"] = min(entry["nearest"], near.aligned)
    return rows


def _label(picture: Picture) -> str:
    if picture.kind == "hard negative":
        return picture.detail
    return _LABELS[picture.kind]


def _pair_label(one: str, other: str) -> str:
    return one if one == other else "of different kinds"


def distances_of(
    found: list[Picture], measured: Measured, kinds: tuple[str, ...], name: str, highest: int
) -> tuple[tail.Distances, list[str]]:
    """Return the small distances between strangers' pictures of some kinds, and the sources."""
    chosen = {number for number, picture in enumerate(found) if picture.kind in kinds}
    names = sorted({found[n].source for n in chosen})
    numbers = {source: number for number, source in enumerate(names)}
    sizes = np.zeros(len(names), np.int64)
    for n in chosen:
        sizes[numbers[found[n].source]] += 1
    rows = [
        (numbers[found[query].source], numbers[found[bank].source], getattr(near, name))
        for (query, bank), near in measured.near.items()
        if query in chosen and bank in chosen and found[query].source != found[bank].source
    ]
    table = np.array([row for row in rows if row[2] <= highest], np.intp).reshape(-1, 3)
    return tail.Distances(table[:, 0], table[:, 1], table[:, 2], sizes, highest), names


def estimate(found: list[Picture], measured: Measured, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Fit the tail, check it on the other half and estimate the rate of false matches."""
    window, names = distances_of(found, measured, kinds, "window", CANDIDATE_BITS)
    aligned, _ = distances_of(found, measured, kinds, "aligned", CANDIDATE_BITS)
    own, _ = distances_of(found, measured, kinds, "distinctive", OWN_BITS)
    fitted: NDArray[np.bool_] = tail.halves(names)
    return {
        "sources": len(names),
        "pictures": int(window.sizes.sum()),
        "pairs": int(window.pairs()),
        "window": report.section(
            window, tail.rate(window, RADIUS), tail.predictions(window, fitted, tail.CHECKED)
        ),
        "aligned": report.section(
            aligned,
            tail.rate(aligned, ALIGNED_MAX),
            tail.predictions(aligned, fitted, tail.CHECKED_ALIGNED),
        ),
        "own": report.section(
            own, tail.rate(own, RADIUS), tail.predictions(own, fitted, (*tail.CHECKED, 70, 80))
        ),
    }


def nearest(found: list[Picture], measured: Measured, count: int = 25) -> list[dict[str, Any]]:
    """Return the nearest pairs of strangers' pictures, to be checked by eye."""
    pairs = [
        (min(near.aligned, near.own), near, found[query], found[bank])
        for (query, bank), near in measured.near.items()
        if relation(found[query], found[bank]) == "strangers"
    ]
    pairs.sort(key=lambda pair: pair[0])
    return [
        {"query": one.name, "bank": other.name, **asdict(near)}
        for _, near, one, other in pairs[:count]
    ]


def evaluate(
    found: list[Picture],
    measured: Measured,
    collected: Mapping[str, int],
    rows: int,
    seconds: float,
) -> dict[str, Any]:
    """Return the results as values to be stored.

    Args:
        found: the pictures that were measured.
        collected: how many there were of each kind, with those too plain to be hashed.
        measured: with all of them as queries.
        rows: how many hashes the bank had.
        seconds: how long it took.
    """
    results: dict[str, Any] = {
        **environment(_PACKAGES),
        "seconds": round(seconds),
        "rows": rows,
        "compared": measured.compared,
        "alignments": measured.alignments,
        "pictures": report.pictures_by_kind(found, collected),
        "kinds": by_kind(found, measured),
        "histogram": {name: counts.tolist() for name, counts in measured.counts.items()},
        "populations": {
            name: estimate(found, measured, kinds) for name, kinds in POPULATIONS.items()
        },
        "nearest": nearest(found, measured),
    }
    return results | {"totals": report.totals(results)}


def main() -> None:
    """Run the benchmark, print and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders of photos")
    parser.add_argument("--hard", type=Path, help="a folder of folders of pictures that look alike")
    parser.add_argument("--packages", type=Path, default=Path("build/packages"), help="downloads")
    parser.add_argument("--people", type=int, default=1500, help="drawn people")
    parser.add_argument("--series", type=int, default=120, help="in series of six of one person")
    parser.add_argument("--smooth", type=int, default=200, help="smooth pictures")
    parser.add_argument("--grounds", type=int, default=300, help="stripes, cloth, wood, waves")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--measured", type=Path, help="keep what was measured here, and reuse it")
    parser.add_argument("--out", type=Path, help="where to write results")
    options = parser.parse_args()
    cv2.setNumThreads(1)

    start = time.time()
    everything = collect(options)
    collected = Counter(picture.kind for picture in everything)
    found = usable(everything, options.workers)
    print(f"{len(found)} pictures in {time.time() - start:.0f} s", flush=True)
    if options.measured and options.measured.exists():
        measured, seconds, rows = pickle.loads(options.measured.read_bytes())
    else:
        measurement = Measurement(found, options.workers)
        rows = len(measurement.bank.packed)
        print(f"{rows} bank rows in {time.time() - start:.0f} s", flush=True)
        measured = measurement.run(range(len(found)))
        seconds = time.time() - start
        if options.measured:
            options.measured.write_bytes(pickle.dumps((measured, seconds, rows)))
    print(f"{measured.compared:.3g} pairs of hashes in {seconds:.0f} s", flush=True)
    results = evaluate(found, measured, collected, rows, seconds)
    text = report.markdown(results)
    print(text)
    if options.out:
        write(options.out, results, text)
        report.plot(results, options.out)


if __name__ == "__main__":
    main()
