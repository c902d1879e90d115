"""Measure what hashes give away of their pictures, by whom they are held and how much of them.

    .venv/bin/python -m benchmarks.inversion.run --photos FOLDER --out benchmarks/results/inversion

Three inverses compute a thumbnail of 32 x 32 cells from bits: one that was trained on nothing, a
ridge regression and a small convolutional network, both trained on crops of some photos and judged
on crops of others; and the mean of the two that were trained. They are given what a platform holds
of a file in each scope: one hash or the hashes of its altered copies, of a video those of frames.
Films are made here: a window moves over a photo. Judged are the median correlation with the true
thumbnail, and how often the true one is the nearest of all.

A person who looks, or a larger network with more photos, may see more: what is told here is a
lower bound. Without the package `jax` there is no network. Without --photos there are only
scikit-image's pictures, from which little is learned; those with names are always held out.
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

# before NumPy is loaded: as many processes as cores hash, and the network has threads of its own
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import numpy as np

from benchmarks.common import reporting
from benchmarks.inversion import inverses, report
from benchmarks.inversion.inverses import Floats, Inverse, Lessons, Places, signs
from benchmarks.inversion.pictures import COPIES, FRAMES, Pieces, Wish, cut, photos, spread, whole
from nciihash.signals import Variant
from nciihash.veil import positions

Results = dict[str, Any]
See = Callable[[Pieces], Floats]

ALL: Final = np.arange(256)
EIGHT: Final = tuple(
    COPIES.index(name)
    for name in (Variant.ORIGINAL, Variant.ROTATE90, Variant.CROP10, Variant.CROP07, Variant.TOP04,
                 Variant.BOTTOM09, Variant.CUT1X1, Variant.BORDER07_WHITE)
)  # fmt: skip
EVERY: Final = tuple(range(len(COPIES)))
FILM: Final = tuple(range(FRAMES))
MIDDLE: Final = (FRAMES // 2,)
COSTS: Final = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)  # tried for the learned choice of bits


@dataclass(frozen=True)
class Size:
    """How much to do: pieces in all, of how many of them altered copies; steps of training."""

    crops: int
    sets: int
    films: int
    asked: int
    asked_films: int
    steps: int


DEFAULT: Final = Size(10_000, 2_500, 2_000, 499, 249, 400)
QUICK: Final = Size(800, 60, 120, 120, 40, 80)


@dataclass(frozen=True)
class Case:
    """What somebody holds of a file.

    `kind` is "crops", "sets" (those crops whose altered copies were hashed) or "films"; `drawn`
    float32 (bits, 1024), what each bit tells of, for the inverse without training; `networked` says
    whether a network is trained, which takes most of the time.
    """

    scope: str
    held: str
    kind: str
    see: See
    drawn: Floats | None = None
    networked: bool = True


def one(chosen: Places) -> See:
    """See some bits of one PDQ hash."""
    return lambda pieces: signs(pieces.pdq)[:, chosen]


def many(places: Sequence[int], chosen: Places) -> See:
    """See some bits of several hashes, and nothing of those that there are not."""

    def see(pieces: Pieces) -> Floats:
        bits = signs(pieces.many[:, list(places)])[..., chosen]
        return (bits * pieces.there[:, list(places), None]).reshape(len(pieces), -1)

    return see


def cases(spared: Places) -> list[Case]:
    """List what is held, by scope."""
    drawn = inverses.waves()
    scopes = [(f"veil {n}", positions(n)) for n in (128, 144, 160)] + [("feed", ALL)]
    found = [Case(name, "one hash", "crops", one(c), drawn[c]) for name, c in scopes]
    found.append(Case("128 bits chosen", "one hash", "crops", one(spared), drawn[spared]))
    for name, chosen in scopes:
        ends = name in {"veil 128", "feed"}
        if ends:
            found += [
                Case(name, "one hash, learned on few", "sets", one(chosen), networked=False),
                Case(name, f"{len(EIGHT)} copies", "sets", many(EIGHT, chosen)),
            ]
        found.append(Case(name, report.ALL_COPIES, "sets", many(EVERY, chosen)))
    for name, chosen in (scopes[0], scopes[-1]):
        found += [
            Case(name, "one frame of a video", "films", many(MIDDLE, chosen), networked=False),
            Case(name, f"{FRAMES} frames of a video", "films", many(FILM, chosen)),
        ]
    both = (inverses.waves_of_phash(), inverses.slopes_of_dhash())
    found += [
        Case("feed", "`phash`", "crops", lambda p: signs(p.phash), both[0]),
        Case("feed", "`dhash`", "crops", lambda p: signs(p.dhash), both[1]),
        Case(
            "feed", "one hash, `phash`, `dhash`", "crops",
            lambda p: np.concatenate([signs(p.pdq), signs(p.phash), signs(p.dhash)], axis=1),
        ),
    ]  # fmt: skip
    return found


def measure(
    case: Case, learn: Pieces, asked: Pieces, steps: int
) -> tuple[Results, dict[str, Inverse]]:
    """Train the inverses on one side and judge them on the other."""
    lessons = Lessons(case.see(learn), learn.thumbnails, learn.photo % 8 == 0)
    ways: dict[str, Inverse] = {}
    if case.drawn is not None:
        drawn = case.drawn
        ways["plain"] = lambda bits: bits @ drawn
    ways["ridge"] = ridge = inverses.ridge(lessons)
    if steps and case.networked:
        ways["network"] = network = inverses.network(lessons, steps, seed=1)
        ways["both"] = lambda bits: inverses.unit(ridge(bits)) + inverses.unit(network(bits))
    line: Results = {
        "scope": case.scope, "held": case.held, "kind": case.kind, "learned_on": len(learn),
        "bits": lessons.known.shape[1], "of": len(asked),
    }  # fmt: skip
    for name, way in ways.items():
        line[name] = inverses.judge(way(case.see(asked)), asked.thumbnails, asked.photo)
    return line, ways


def strangers(pieces: Pieces, chosen: Places) -> Results:
    """Tell how far hashes of different photos are apart on some bits."""
    bits = signs(pieces.pdq)[:, chosen]
    apart = (len(chosen) - bits @ bits.T) / 2
    distances = apart[np.triu(pieces.photo[:, None] != pieces.photo)]
    mean, deviation = float(distances.mean()), float(distances.std())
    tail = 0.5 * math.erfc((mean - 31.5) / deviation / math.sqrt(2))
    return {
        "mean": mean, "deviation": deviation, "pairs": len(distances),
        "within": int((distances <= 31).sum()), "of_a_million": tail * 1e6,
    }  # fmt: skip


def choice(learn: Pieces) -> tuple[Places, Results]:
    """Choose 128 bits that spare the picture, and make no more candidates than the highest do.

    Of what `inverses.sparing` finds at several costs, it takes the one from which a linear inverse
    regains least on the photos held aside, of those whose distances between strangers vary as
    little as those of the highest frequencies; where none does, the one that varies least.
    """
    aside = learn.photo % 8 == 0
    highest = positions(128)
    bar = strangers(learn.only(np.arange(len(learn)) % 4 == 0), highest)["deviation"]
    tried = []
    for cost in COSTS:
        lessons = Lessons(signs(learn.pdq[~aside]), learn.thumbnails[~aside], aside[~aside])
        chosen = inverses.sparing(lessons, 128, cost=cost)
        found = inverses.ridge(Lessons(one(chosen)(learn), learn.thumbnails, aside))
        asked = learn.only(aside)
        regained = inverses.judge(found(one(chosen)(asked)), asked.thumbnails, asked.photo)
        varies = strangers(learn.only(np.arange(len(learn)) % 4 == 0), chosen)["deviation"]
        tried.append((varies > bar, regained["correlation"], varies, cost, chosen))
    fitting = [one for one in tried if not one[0]]
    best = min(fitting, key=lambda t: t[1]) if fitting else min(tried, key=lambda t: t[2])
    shared = len(np.intersect1d(best[4], highest))
    return best[4], {"cost": best[3], "shared_with_highest": shared, "fits": bool(fitting)}


def main() -> None:
    """Measure, and write the tables and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, help="a folder of photos, besides scikit-image's")
    parser.add_argument("--quick", action="store_true", help="fewer crops and steps")
    parser.add_argument("--no-network", action="store_true", help="leave the network out")
    parser.add_argument("--out", type=Path, help="where to write NAME.json, NAME.md and NAME.png")
    options = parser.parse_args()
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", file=sys.stderr, flush=True)

    size = QUICK if options.quick else DEFAULT
    steps = 0 if options.no_network else size.steps
    if steps and not inverses.network_installed():
        say("no network: install the extra bench-inversion for it")
        steps = 0
    train, test, left_out = photos(options.photos)
    say(f"{len(train)} photos to learn from, {len(test)} held out, {left_out} alike left out")
    workers = len(os.sched_getaffinity(0))
    of_train, of_test = len(train), len(test)
    learn = cut(
        train,
        Wish(spread(size.crops, of_train), spread(size.sets, of_train), mirrored=True),
        seed=2,
        workers=workers,
    )
    say(f"{len(learn)} crops hashed")
    each = spread(size.asked, of_test)
    asked = cut(test, Wish(each, each), seed=3, workers=workers)
    films = Wish(spread(size.films, of_train), films=True)
    films_asked = Wish(spread(size.asked_films, of_test), films=True)
    sides = {
        "crops": (learn, asked),
        "sets": tuple(side.only(side.there.any(axis=1)) for side in (learn, asked)),
        "films": (cut(train, films, 4, workers), cut(test, films_asked, 5, workers)),
    }
    say("altered copies and films hashed")
    spared, about = choice(learn)
    highest = {str(n): strangers(asked, positions(n)) for n in (128, 144, 160)}
    named = whole(test[: len(report.TITLES)])
    lines, shown = [], {"true": named.thumbnails}
    for case in cases(spared):
        # what is learned on few needs fewer steps before it learns by heart
        line, ways = measure(case, *sides[case.kind], steps if case.kind == "crops" else steps // 2)
        lines.append(line)
        say(f"{case.scope}, {case.held}: " + report.cell(line.get("both", line.get("ridge"))))
        if case.kind != "films":
            known = case.see(named)
            shown |= {
                f"{case.scope}, {case.held}, {w}": inverses.unit(f(known)) for w, f in ways.items()
            }
    results: Results = {
        **reporting.setting(("jax", "numpy", "scikit-image", "pillow", "imagehash", "matplotlib")),
        "seconds": round(time.monotonic() - began),
        "photos": {"learned_on": of_train, "held_out": of_test, "alike_left_out": left_out},
        "seeds": [0, 1, 2, 3, 4, 5],
        "quick": options.quick,
        "steps": steps,
        "copies_of_a_set": float(sides["sets"][1].there.sum(axis=1).mean()),
        "lines": lines,
        "choice": about | {"chosen": strangers(asked, spared)},
        "highest": highest,
    }
    text = report.markdown(results)
    print(text)
    if options.out:
        reporting.write(options.out, results, text)
        report.plot(results, shown, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
