"""Compare what the sets of variants `standard` and `thorough` reveal of a picture.

    .venv/bin/python -m benchmarks.inversion.compare_sets --photos FOLDER \
        --out benchmarks/results/inversion-sets

Every attack of `benchmarks/inversion/attacks.py` is fitted to the same training crops for both
sets, and judged on the same crops of other photos. Its parameters are chosen on validation photos,
which are training photos. It is judged with the order of the hashes known, and
unknown but for the original's. The aspect ratio is taken as known.

The scores are correlations with the true picture: in 32 x 32 cells, in 64 x 64, and in the middle
half of each side at 64 x 64, which the inner parts of `thorough` show in more detail.

The rule, stated before the run: `thorough` reveals no more than `standard` if, with the order
unknown and on each of the three scores, the mean of the paired difference thorough - standard has
an upper end of its 95 % interval below `MARGIN`, where each set is attacked with what reconstructs
it best. The interval is from resampling photos, not crops.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

# before NumPy is imported: hashing uses one process per core
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import numpy as np

from benchmarks.common import reporting
from benchmarks.inversion import sets_report
from benchmarks.inversion.attacks import (
    AllBits,
    Attack,
    Consistent,
    Options,
    Windows,
    reconstruct_unordered,
    spread,
    target,
)
from benchmarks.inversion.inverses import unit
from benchmarks.inversion.pictures import SHOWN, photos
from benchmarks.inversion.sets import COMPARED, SIDE, Floats, HashedCrops, cut

MARGIN: Final = 0.02
# Of 0.03, 0.1, 0.25, 0.5, 1 and 2, the one that reconstructs the validation photos best, from both
# sets.
NOISE: Final = 0.1
_RESAMPLES: Final = 2_000

Results = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """The size of a run.

    Attributes:
        train: crops per training photo.
        test: crops per test photo.
        steps: of gradient ascent.
    """

    train: int
    test: int
    steps: int


DEFAULT: Final = Size(18, 1, 160)
QUICK: Final = Size(6, 1, 40)


def scores(guess: Floats, truth: Floats) -> Floats:
    """Return the correlations of each picture at 32 x 32, at 64 x 64 and in the middle: (n, 3)."""
    middle = slice(SIDE // 4, SIDE - SIDE // 4)

    def coarse(pictures: Floats) -> Floats:
        return pictures.reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))

    pairs = (
        (coarse(guess), coarse(truth)),
        (guess, truth),
        (guess[:, middle, middle], truth[:, middle, middle]),
    )
    rows = [
        (unit(a.reshape(len(a), -1)) * unit(b.reshape(len(b), -1))).sum(axis=1) for a, b in pairs
    ]
    return np.stack(rows, axis=1)


def interval(values: Floats, photo: np.ndarray[Any, Any]) -> list[float]:
    """Return the mean of values of crops, and its 95 % interval from resampling photos."""
    sums = np.bincount(photo, values)
    counts = np.bincount(photo)
    sums, counts = sums[counts > 0], counts[counts > 0]
    rows = np.random.default_rng(0).integers(0, len(sums), (_RESAMPLES, len(sums)))
    means = sums[rows].sum(axis=1) / counts[rows].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return [round(float(x), 4) for x in (values.mean(), low, high)]


def attacked(
    which: str, train: HashedCrops, test: HashedCrops, steps: int
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Run all attacks on a set.

    Returns:
        The reconstructions, float32 (n, 64, 64), by what is known and by attack; and the share of
        hashes that each attack assigns to their own view.
    """
    fitted: dict[str, Attack] = {
        "all bits": AllBits(train, which),
        "windows": Windows(train, which),
        "consistent": Consistent(train, which, Options(NOISE, steps)),
    }
    known, usual = target(test, which), spread(train, which)
    guesses, assigned = dict[str, Floats](), dict[str, float]()
    for name, attack in fitted.items():
        if which == COMPARED[0]:
            guesses[f"one hash, {name}"] = attack.reconstruct(known.first_alone())
        guess, right = reconstruct_unordered(attack, known, usual, seed=1)
        guesses[f"{which}, unknown, {name}"] = guess
        # with all hashes assigned to their views, the two are the same
        guesses[f"{which}, known, {name}"] = guess if right == 1 else attack.reconstruct(known)
        assigned[f"{which}, {name}"] = right
        found = scores(guess, test.pictures).mean(axis=0).round(3)
        print(f"{which}, {name}, order unknown: {found}", file=sys.stderr, flush=True)
    return guesses, assigned


def measure(
    train: HashedCrops, test: HashedCrops, steps: int, workers: int
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Run all attacks on both sets, in a process each if there are several workers."""
    work = [(which, train, test, steps) for which in COMPARED]
    if workers > 1:
        with ProcessPoolExecutor(len(COMPARED), mp_context=get_context("spawn")) as pool:
            made = [one.result() for one in [pool.submit(attacked, *each) for each in work]]
    else:
        made = [attacked(*each) for each in work]
    chance = np.repeat(train.pictures.mean(axis=0)[None], len(test), axis=0)
    guesses, assigned = {"chance": chance}, dict[str, float]()
    for found, right in made:
        guesses |= found
        assigned |= right
    return guesses, assigned


def compared(found: dict[str, Floats], photo: np.ndarray[Any, Any]) -> Results:
    """Return the differences between the sets: by attack and order, and between the best ones."""
    names = [n.removeprefix("one hash, ") for n in found if n.startswith("one hash, ")]
    differences: Results = {}
    old, new = COMPARED
    for order in ("known", "unknown"):
        for name in names:
            change = found[f"{new}, {order}, {name}"] - found[f"{old}, {order}, {name}"]
            differences[f"{order}, {name}"] = [interval(c, photo) for c in change.T]
        best = []
        for which in COMPARED:
            each = np.array([found[f"{which}, {order}, {name}"] for name in names])
            strongest = each.mean(axis=1).argmax(axis=0)  # for each score
            best.append(np.stack([each[a, :, i] for i, a in enumerate(strongest)], axis=1))
        differences[f"{order}, best"] = [interval(c, photo) for c in (best[1] - best[0]).T]
    return differences


def main() -> None:
    """Run the comparison, and write the tables, the results and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--photos", type=Path, help="a folder of photos, in addition to scikit-image's"
    )
    parser.add_argument("--quick", action="store_true", help="fewer crops and steps")
    parser.add_argument("--out", type=Path, help="where to write NAME.json, NAME.md and NAME.png")
    options = parser.parse_args()
    start = time.monotonic()

    def log(message: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {message}", file=sys.stderr, flush=True)

    size = QUICK if options.quick else DEFAULT
    train_photos, test_photos, excluded = photos(options.photos)
    workers = len(os.sched_getaffinity(0))
    test = cut(test_photos, size.test, 3, workers)
    train = cut(train_photos, size.train, 2, workers)
    log(f"{len(train)} training crops and {len(test)} test crops hashed")
    guesses, assigned = measure(train, test, size.steps, workers)
    found = {name: scores(guess, test.pictures) for name, guess in guesses.items()}
    differences = compared(found, test.photo)
    results: Results = {
        **reporting.environment(("numpy", "scipy", "scikit-image", "opencv-python-headless")),
        "seconds": round(time.monotonic() - start),
        "photos": {
            "learned_on": len(train_photos), "held_out": len(np.unique(test.photo)),
            "alike_left_out": excluded,
        },
        "crops": {"learned_on": len(train), "held_out": len(test)},
        "hashes": {w: float((test.bits[w][:, :, 0] != 0).sum(axis=1).mean()) for w in COMPARED},
        "quick": options.quick,
        "margin": MARGIN,
        "noise": NOISE,
        "assigned": assigned,
        "scores": {name: [interval(s, test.photo) for s in each.T] for name, each in found.items()},
        "differences": differences,
        "no_worse": all(high < MARGIN for _, _, high in differences["unknown, best"]),
    }  # fmt: skip
    text = sets_report.markdown(results)
    print(text)
    if options.out:
        reporting.write(options.out, results, text)
        shown = [int(r) for p in range(len(SHOWN)) for r in np.flatnonzero(test.photo == p)[:1]]
        panels = {"true": test.pictures} | guesses
        examples = {name: values[shown] for name, values in panels.items()}
        sets_report.plot(results, examples, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
