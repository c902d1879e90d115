"""Measure how well pictures can be reconstructed from the hashes that each scope receives.

    .venv/bin/python -m benchmarks.inversion.run --photos FOLDER --out benchmarks/results/inversion

Three inverses compute a thumbnail of 32 x 32 cells from bits: an untrained one, a ridge regression
and a small convolutional network. The latter two are trained on crops of some photos and tested on
crops of others; the mean of their reconstructions is tested too. Their input is what a platform of
each scope has of a file: one hash, or the hashes of its altered copies, or of the frames of a
video. The videos are simulated: a window pans over a photo. The scores are the median correlation
with the true thumbnail, and how often the true thumbnail is the nearest of all.

The scores are a lower bound: a person, or a larger network trained on more photos, may recognise
more. The network needs the package `jax`. Without --photos only scikit-image's pictures are used,
too few to train on; the pictures in `SHOWN` are always held out.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# before NumPy is imported: hashing uses one process per core, and the network has its own threads
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import numpy as np

from benchmarks.common import reporting
from benchmarks.inversion import inverses, report
from benchmarks.inversion.inverses import Floats, Inverse, Positions, TrainingSet, signs
from benchmarks.inversion.pictures import (
    COPIES,
    FRAMES,
    CutOptions,
    Pieces,
    cut,
    per_photo,
    photos,
    whole,
)
from nciihash.signals import Variant
from nciihash.veil import positions

Results = dict[str, Any]
View = Callable[[Pieces], Floats]

ALL: Final = np.arange(256)
EIGHT: Final = tuple(
    COPIES.index(name)
    for name in (Variant.ORIGINAL, Variant.ROTATE90, Variant.CROP10, Variant.CROP07, Variant.TOP04,
                 Variant.BOTTOM09, Variant.CUT1X1, Variant.BORDER07_WHITE)
)  # fmt: skip
EVERY: Final = tuple(range(len(COPIES)))
VIDEO: Final = tuple(range(FRAMES))
MIDDLE: Final = (FRAMES // 2,)
COSTS: Final = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)  # tried when bits are selected


@dataclass(frozen=True)
class Size:
    """The size of a run.

    Attributes:
        crops: training crops.
        sets: training crops whose altered copies are hashed.
        videos: training videos.
        test_crops: test crops, each with its altered copies.
        test_videos: test videos.
        steps: training steps of the network.
    """

    crops: int
    sets: int
    videos: int
    test_crops: int
    test_videos: int
    steps: int


DEFAULT: Final = Size(10_000, 2_500, 2_000, 499, 249, 400)
QUICK: Final = Size(800, 60, 120, 120, 40, 80)


@dataclass(frozen=True)
class Case:
    """What a platform has of a file.

    Attributes:
        scope: the platform's scope.
        held: what it has, as the table shows it.
        kind: "crops", "sets" (crops whose altered copies are hashed) or "films" (videos).
        view: reads the known bits of pieces.
        patterns: float32 (bits, 1024), the pattern of each bit, for the untrained inverse.
        networked: whether a network is trained, which takes most of the time.
    """

    scope: str
    held: str
    kind: str
    view: View
    patterns: Floats | None = None
    networked: bool = True


def one(bits: Positions) -> View:
    """Return a view of some bits of one PDQ hash."""
    return lambda pieces: signs(pieces.pdq)[:, bits]


def many(columns: Sequence[int], bits: Positions) -> View:
    """Return a view of some bits of several hashes, with 0 for the hashes that are missing."""

    def view(pieces: Pieces) -> Floats:
        known = signs(pieces.many[:, list(columns)])[..., bits]
        return (known * pieces.present[:, list(columns), None]).reshape(len(pieces), -1)

    return view


def cases(selected: Positions) -> list[Case]:
    """Return what platforms have of a file, by scope."""
    waves = inverses.waves()
    scopes = [(f"veil {n}", positions(n)) for n in (128, 144, 160)] + [("feed", ALL)]
    found = [Case(name, "one hash", "crops", one(c), waves[c]) for name, c in scopes]
    found.append(Case("128 selected bits", "one hash", "crops", one(selected), waves[selected]))
    for name, chosen in scopes:
        ends = name in {"veil 128", "feed"}
        if ends:
            found += [
                Case(name, "one hash, trained on few", "sets", one(chosen), networked=False),
                Case(name, f"{len(EIGHT)} copies", "sets", many(EIGHT, chosen)),
            ]
        found.append(Case(name, report.ALL_COPIES, "sets", many(EVERY, chosen)))
    for name, chosen in (scopes[0], scopes[-1]):
        found += [
            Case(name, "one frame of a video", "films", many(MIDDLE, chosen), networked=False),
            Case(name, f"{FRAMES} frames of a video", "films", many(VIDEO, chosen)),
        ]
    phash, dhash = inverses.waves_of_phash(), inverses.patterns_of_dhash()
    found += [
        Case("feed", "`phash`", "crops", lambda p: signs(p.phash), phash),
        Case("feed", "`dhash`", "crops", lambda p: signs(p.dhash), dhash),
        Case(
            "feed", "one hash, `phash`, `dhash`", "crops",
            lambda p: np.concatenate([signs(p.pdq), signs(p.phash), signs(p.dhash)], axis=1),
        ),
    ]  # fmt: skip
    return found


def measure(
    case: Case, train: Pieces, test: Pieces, steps: int
) -> tuple[Results, dict[str, Inverse]]:
    """Train the inverses, and return their scores on the test pieces and the inverses by name."""
    training = TrainingSet(case.view(train), train.thumbnails, train.photo % 8 == 0)
    fitted: dict[str, Inverse] = {}
    if case.patterns is not None:
        patterns = case.patterns
        fitted["plain"] = lambda bits: bits @ patterns
    fitted["ridge"] = ridge = inverses.ridge(training)
    if steps and case.networked:
        fitted["network"] = network = inverses.network(training, steps, seed=1)
        fitted["both"] = lambda bits: inverses.unit(ridge(bits)) + inverses.unit(network(bits))
    line: Results = {
        "scope": case.scope, "held": case.held, "kind": case.kind, "learned_on": len(train),
        "bits": training.known.shape[1], "of": len(test),
    }  # fmt: skip
    for name, inverse in fitted.items():
        line[name] = inverses.evaluate(inverse(case.view(test)), test.thumbnails, test.photo)
    return line, fitted


def unrelated(pieces: Pieces, selected: Positions) -> Results:
    """Return the distribution of distances between hashes of different photos, on some bits."""
    bits = signs(pieces.pdq)[:, selected]
    pairwise = (len(selected) - bits @ bits.T) / 2
    distances = pairwise[np.triu(pieces.photo[:, None] != pieces.photo)]
    mean, deviation = float(distances.mean()), float(distances.std())
    tail = 0.5 * math.erfc((mean - 31.5) / deviation / math.sqrt(2))
    return {
        "mean": mean, "deviation": deviation, "pairs": len(distances),
        "within": int((distances <= 31).sum()), "of_a_million": tail * 1e6,
    }  # fmt: skip


def selection(train: Pieces) -> tuple[Positions, Results]:
    """Select 128 bits that reveal little of the picture and cause few false candidates.

    `inverses.select_bits` makes a selection for each of several costs. Those qualify whose
    distances between different photos vary as little as with the highest frequencies; the one of
    them from which a linear inverse recovers least on the validation photos is returned. If none
    qualifies, the one whose distances vary least is.
    """
    validation = train.photo % 8 == 0
    fitted = ~validation
    held_out = train.only(validation)
    sample = train.only(np.arange(len(train)) % 4 == 0)
    highest = positions(128)
    limit = unrelated(sample, highest)["deviation"]
    tried = []
    for cost in COSTS:
        training = TrainingSet(
            signs(train.pdq[fitted]), train.thumbnails[fitted], validation[fitted]
        )
        bits = inverses.select_bits(training, 128, cost=cost)
        inverse = inverses.ridge(TrainingSet(one(bits)(train), train.thumbnails, validation))
        score = inverses.evaluate(inverse(one(bits)(held_out)), held_out.thumbnails, held_out.photo)
        deviation = unrelated(sample, bits)["deviation"]
        tried.append((deviation > limit, score["correlation"], deviation, cost, bits))
    fitting = [row for row in tried if not row[0]]
    best = min(fitting, key=lambda t: t[1]) if fitting else min(tried, key=lambda t: t[2])
    shared = len(np.intersect1d(best[4], highest))
    return best[4], {"cost": best[3], "shared_with_highest": shared, "fits": bool(fitting)}


def with_copies(pieces: Pieces) -> Pieces:
    """Return the pieces whose altered copies are hashed."""
    return pieces.only(np.asarray(pieces.present.any(axis=1)))


def main() -> None:
    """Run the benchmark, and write the tables, the results and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--photos", type=Path, help="a folder of photos, in addition to scikit-image's"
    )
    parser.add_argument("--quick", action="store_true", help="fewer crops and steps")
    parser.add_argument("--no-network", action="store_true", help="train no network")
    parser.add_argument("--out", type=Path, help="where to write NAME.json, NAME.md and NAME.png")
    options = parser.parse_args()
    start = time.monotonic()

    def log(message: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {message}", file=sys.stderr, flush=True)

    size = QUICK if options.quick else DEFAULT
    steps = 0 if options.no_network else size.steps
    if steps and not inverses.network_installed():
        log("no network is trained: install the extra bench-inversion")
        steps = 0
    train, test, excluded = photos(options.photos)
    log(f"{len(train)} training photos, {len(test)} test photos, {excluded} near-duplicates")
    workers = len(os.sched_getaffinity(0))
    crops = CutOptions(
        per_photo(size.crops, len(train)), per_photo(size.sets, len(train)), mirrored=True
    )
    train_crops = cut(train, crops, seed=2, workers=workers)
    log(f"{len(train_crops)} crops hashed")
    each = per_photo(size.test_crops, len(test))
    test_crops = cut(test, CutOptions(each, each), seed=3, workers=workers)
    videos = CutOptions(per_photo(size.videos, len(train)), videos=True)
    test_videos = CutOptions(per_photo(size.test_videos, len(test)), videos=True)
    pieces = {
        "crops": (train_crops, test_crops),
        "sets": (with_copies(train_crops), with_copies(test_crops)),
        "films": (cut(train, videos, 4, workers), cut(test, test_videos, 5, workers)),
    }
    log("altered copies and videos hashed")
    selected, about = selection(train_crops)
    highest = {str(n): unrelated(test_crops, positions(n)) for n in (128, 144, 160)}
    named = whole(test[: len(report.TITLES)])
    lines, shown = [], {"true": named.thumbnails}
    for case in cases(selected):
        # a smaller training set overfits after fewer steps
        case_steps = steps if case.kind == "crops" else steps // 2
        training, test_pieces = pieces[case.kind]
        line, fitted = measure(case, training, test_pieces, case_steps)
        lines.append(line)
        log(f"{case.scope}, {case.held}: " + report.cell(line.get("both", line.get("ridge"))))
        if case.kind != "films":
            known = case.view(named)
            shown |= {
                f"{case.scope}, {case.held}, {name}": inverses.unit(inverse(known))
                for name, inverse in fitted.items()
            }
    results: Results = {
        **reporting.environment(
            ("jax", "numpy", "scikit-image", "pillow", "imagehash", "matplotlib")
        ),
        "seconds": round(time.monotonic() - start),
        "photos": {"learned_on": len(train), "held_out": len(test), "alike_left_out": excluded},
        "seeds": [0, 1, 2, 3, 4, 5],
        "quick": options.quick,
        "steps": steps,
        "copies_of_a_set": float(pieces["sets"][1].present.sum(axis=1).mean()),
        "lines": lines,
        "choice": about | {"chosen": unrelated(test_crops, selected)},
        "highest": highest,
    }
    text = report.markdown(results)
    print(text)
    if options.out:
        reporting.write(options.out, results, text)
        report.plot(results, shown, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
