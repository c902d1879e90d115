"""Tables in Markdown and a plot of the results of benchmarks/false_matches/run.py."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.common.reporting import pyplot, save
from benchmarks.false_matches import tail
from benchmarks.false_matches.pictures import KINDS, Picture
from nciihash.sdk.alignment import ALIGNED_MAX

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PEOPLE_MIN: Final = 200  # pictures of people below which the claim is limited
_HISTOGRAM: Final = (31, 40, 48, 56, 60)
_WORDS: Final = {
    "photo": "photos",
    "crop": "crops of them that do not overlap",
    "portrait": "paintings of people",
    "body": "drawn people",
    "smooth": "drawn skies, horizons, gradients and blobs",
    "ground": "drawn stripes, cloth, wood, waves and other grounds",
    "hard negative": "pictures that look alike",
}
_MEASURES: Final = {
    "own": "own hash, plain or trimmed, within 31 bits",
    "window": "a window within 31 bits, not aligned: not a match",
    "aligned": "a window that aligns within 16 bits",
}


def section(
    distances: tail.Distances, rate: tail.Rate, predictions: Sequence[tail.Prediction]
) -> dict[str, Any]:
    """Return what was fitted and found, as values to be stored."""
    counts, pairs = distances.counts(), distances.pairs()
    top = tail.top_of(counts)
    curves = [tail.fit(counts, pairs, top, bends=bends) for bends in (False, True)]
    return {
        "counts": counts.astype(int).tolist(),
        "rate": asdict(rate),
        "predictions": [asdict(each) for each in predictions],
        "curves": {
            name: asdict(curve)
            for name, curve in zip(("line", "parabola"), curves, strict=True)
            if curve is not None
        },
    }


def pictures_by_kind(
    found: Sequence[Picture], collected: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Return how many pictures of each kind there are, were measured, and show people."""
    rows = {}
    for kind in KINDS:
        members = [picture for picture in found if picture.kind == kind]
        rows[kind] = {
            "pictures": collected.get(kind, 0),
            "usable": len(members),
            "people": sum(picture.people for picture in members),
            "sources": len({picture.source for picture in members}),
        }
    return rows


def markdown(results: dict[str, Any]) -> str:
    """Return the report in Markdown."""
    total = results["totals"]
    photographed = results["pictures"]["photo"]["people"]
    parts = [
        "# False matches of windows\n",
        (
            f"{total['usable']:,} pictures, each a query at the level `thorough` against the "
            f"`thorough` sets of the others ({results['rows']:,} hashes): "
            f"**{total['strangers']:,} ordered pairs of strangers' pictures**, "
            f"{results['compared']:.2g} pairs of hashes, {results['alignments']:,} windows "
            f"aligned. {results['seconds']:,} s on {results['cores']} cores.\n"
        ),
        (
            f"**Matches of strangers' pictures by windows: {total['matches']}.** By the query's "
            f"own plain or trimmed hash: {total['own']}, and {total['review']} of pictures with "
            "so little detail that a match is answered with `review`.\n"
        ),
        (
            f"**Limit of the claim.** {photographed} photos show people or statues, fewer than "
            f"{_PEOPLE_MIN}; {results['pictures']['portrait']['people']} are paintings and "
            f"{results['pictures']['body']['people']:,} are drawn. For photos of people nothing is "
            "shown.\n"
            if photographed < _PEOPLE_MIN
            else f"{photographed} photos show people or statues.\n"
        ),
        "## Pictures\n",
        _pictures(results["pictures"]),
        "\n## Pairs by kind\n",
        (
            "Ordered pairs of a query and a picture of the bank. Own: the query's plain or trimmed "
            "hash within 31 bits; review: the same, of a query with little detail. Candidates: a "
            "window with enough detail within 60 bits. Matches: it aligns within 16 bits. Nearest: "
            "the smallest distance after aligning.\n"
        ),
        _kinds(results["kinds"]),
        "\n## Pairs of hashes\n",
        _histogram(results["histogram"]),
    ]
    for name, population in results["populations"].items():
        parts += ["", f"\n## The tail: {name}\n", _population(population)]
    parts += ["\n## Rate at scale\n", _rates(results["populations"]), "", _verdict(results)]
    parts += ["\n## Nearest pairs of strangers' pictures\n", _nearest(results["nearest"])]
    return "\n".join(parts)


def totals(results: dict[str, Any]) -> dict[str, int]:
    """Return the pairs of strangers' pictures and how many matched, and the usable pictures."""
    strangers = [
        row for name, row in results["kinds"].items() if not name.startswith(("same ", "parts "))
    ]
    found = {key: sum(row[key] for row in strangers) for key in ("own", "review", "matches")}
    usable = sum(row["usable"] for row in results["pictures"].values())
    return found | {"strangers": sum(row["pairs"] for row in strangers), "usable": usable}


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _pictures(kinds: dict[str, dict[str, int]]) -> str:
    keys = ("pictures", "usable", "people", "sources")
    rows = [[_WORDS[kind], *(f"{row[key]:,}" for key in keys)] for kind, row in kinds.items()]
    return _table(
        ("kind", "pictures", "of quality >= 50", "of these, show people", "sources"), rows
    )


def _kinds(kinds: dict[str, dict[str, int]]) -> str:
    keys = ("pairs", "own", "review", "candidates", "matches")
    rows = [
        [name, *(f"{row[key]:,}" for key in keys), _bits(row["nearest"])]
        for name, row in kinds.items()
    ]
    return _table(("pictures", *keys, "nearest, bits"), rows)


def _bits(bits: int) -> str:
    return "" if bits == 256 else str(bits)


def _histogram(histogram: dict[str, list[int]]) -> str:
    rows = []
    for name, counts in histogram.items():
        total = sum(counts)
        shares = [f"{1e9 * sum(counts[: bits + 1]) / total:,.1f}" for bits in _HISTOGRAM]
        rows.append([f"{name}, of {total:.2g}", *shares])
    heads = ("pairs within, of a billion", *(f"{bits} bits" for bits in _HISTOGRAM))
    return (
        "A sample of pairs of windows of pictures from different sources: all, and those where "
        "both windows have enough detail (`gated`).\n\n" + _table(heads, rows)
    )


def _population(population: dict[str, Any]) -> str:
    parts = [
        (
            f"{population['pictures']:,} pictures of {population['sources']} sources, "
            f"{population['pairs']:,} ordered pairs of different sources. The curves are fitted to "
            "the pairs within half of the sources and predict the number of pairs within the other "
            "half; the halves depend on the names of the files only.\n"
        )
    ]
    for name in ("window", "aligned", "own"):
        title = {
            "window": "smallest distance of a window, before aligning",
            "aligned": "smallest distance of a window, after aligning",
            "own": "distance of the query's own plain or trimmed hash, with enough detail",
        }[name]
        rows = [
            [
                f"{each['bits']}",
                f"{each['fitted']:,}",
                _count(each["line"]),
                _count(each["parabola"]),
                f"{each['observed']:,}",
            ]
            for each in population[name]["predictions"]
        ]
        heads = (f"{title}: within bits", "fitted half", "line", "parabola", "observed")
        parts += [_table(heads, rows), ""]
    return "\n".join(parts)


def _count(value: float | None) -> str:
    if value is None:
        return "too few pairs"
    return f"{value:,.1f}" if value >= 0.1 else f"{value:.1e}"


def _rates(populations: dict[str, dict[str, Any]]) -> str:
    scale = tail.UPLOADS * tail.BANK
    rows = []
    for name, population in populations.items():
        for key, words in _MEASURES.items():
            rate = population[key]["rate"]
            cells = [
                "none" if rate[curve] is None else f"{rate[curve] * scale:.2g}"
                for curve in ("parabola", "line")
            ]
            rows.append(
                [f"{name}: {words}", f"{rate['observed']}", *cells, f"{rate['upper'] * scale:.2g}",
                 f"{rate['rule_of_three'] * scale:.2g}"]
            )  # fmt: skip
    heads = ("pairs expected to match of a million uploads against a million photos",
             "observed in the benchmark", "parabola", "line", "upper 95 % bound",
             "of which without a model")  # fmt: skip
    return (
        "The bound resamples sources, not pairs, and takes the larger curve. Without a model, n "
        "pairs without a match show that the rate is under 3/n: this alone is the least that the "
        "bound can be, and would be 3 for 3e11 pairs.\n\n" + _table(heads, rows)
    )


def _verdict(results: dict[str, Any]) -> str:
    scale = tail.UPLOADS * tail.BANK
    uppers = {
        name: population["aligned"]["rate"]["upper"] * scale
        for name, population in results["populations"].items()
    }
    words = ", ".join(f"{value:.2g} ({name})" for name, value in uppers.items())
    closest = min(
        (row["nearest"], name)
        for name, row in results["kinds"].items()
        if not name.startswith("same ")
    )
    margin = (
        f"The nearest strangers' pictures ({closest[1]}) align to {closest[0]} bits; "
        f"{ALIGNED_MAX} would be a match."
    )
    bound = f"{margin}\n\n**The upper bound for windows is {words}"
    if max(uppers.values()) > 1:
        return (
            f"{bound}: above 1. So a match of a window answers `review`, never `block`, by "
            "default.**"
        )
    return f"{bound}: at most 1.**"


def _nearest(pairs: list[dict[str, Any]]) -> str:
    keys = ("own", "window", "aligned")
    rows = [
        [f"{pair['query']} and {pair['bank']}", *(_bits(pair[key]) for key in keys)]
        for pair in pairs
    ]
    return _table(("query and picture of the bank", "own hash", "window", "aligned"), rows)


def plot(results: dict[str, Any], out: Path) -> None:
    """Plot the number of pairs at each distance, and the fitted curves down to the thresholds."""
    plt = pyplot()
    if plt is None:
        return
    populations = results["populations"]
    figure, rows = plt.subplots(
        len(populations), 2, figsize=(11, 4.2 * len(populations)), layout="constrained"
    )
    for axes_row, (name, population) in zip(rows, populations.items(), strict=True):
        for axes, key in zip(axes_row, ("window", "aligned"), strict=True):
            _panel(axes, population, key)
            axes.set_title(f"{name}: window {'before' if key == 'window' else 'after'} aligning")
    save(figure, out)


def _panel(axes: "Axes", population: dict[str, Any], key: str) -> None:
    measured = population[key]
    counts = np.array(measured["counts"], np.float64) / population["pairs"]
    # PDQ sets half of its bits, so distances are even
    bits = np.arange(0, len(counts), 2)
    bits = bits[np.cumsum(counts)[bits] > 0]
    axes.set_yscale("log")
    axes.plot(bits, np.cumsum(counts)[bits], "o", ms=4, color="#333333", label="observed")
    for name, values in measured["curves"].items():
        curve = tail.Tail(**values)
        xs = np.arange(len(counts))
        axes.semilogy(xs, np.cumsum(curve.at(xs)), label=name)
    threshold = measured["rate"]["threshold"]
    axes.axvline(threshold, color="#999999", lw=0.8)
    axes.plot(threshold, measured["rate"]["upper"], "v", color="#c44e52", label="upper 95 % bound")
    axes.axhline(1 / (tail.UPLOADS * tail.BANK), color="#999999", lw=0.8, ls=":")
    axes.set_ylim(1e-16, 1e-2)
    axes.set_xlabel("smallest distance, bits")
    axes.set_ylabel("share of pairs within it")
    axes.legend(fontsize=8)
