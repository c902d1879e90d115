"""Write what benchmarks/inversion/run.py measured as tables in Markdown and as a picture."""

from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.common import reporting
from benchmarks.inversion.inverses import SIDE, Floats
from benchmarks.inversion.pictures import COPIES

WAYS: Final = {"plain": "no training", "ridge": "ridge", "network": "network", "both": "both"}
ALL_COPIES: Final = f"all {len(COPIES)} copies"
# Photos that may be shown, in the order of `inversion_pictures.SHOWN`.
TITLES: Final = ("astronaut", "chelsea", "coffee", "rocket")
CELLS_TOLD: Final = (
    "In each cell: the median correlation with the true thumbnail, and how often the right one was "
    "first among all. Photo: how often one of the same photo was first, by the inverse that "
    "correlates best. Both: the mean of ridge and network."
)
_INK: Final = {"plain": "#999999", "ridge": "#1b6ca8", "network": "#dd8452", "both": "#55762f"}
_PANEL: Final = (
    ("feed, one hash", "256 bits"),
    ("veil 160, one hash", "160 bits"),
    ("veil 128, one hash", "128 bits"),
)


def cell(judged: dict[str, float] | None) -> str:
    """Write one judgement: the correlation, and how often the right thumbnail is first."""
    return "" if judged is None else f"{judged['correlation']:.2f}, {judged['first']:.0%}"


def best(line: dict[str, Any]) -> dict[str, float]:
    """Give the judgement of the inverse that correlates best."""
    return max((line[way] for way in WAYS if way in line), key=lambda j: j["correlation"])


def markdown(results: dict[str, Any]) -> str:
    """Write the tables."""
    photos, lines = results["photos"], results["lines"]
    on = {kind: next(x for x in lines if x["kind"] == kind) for kind in ("crops", "sets", "films")}
    versions = ", ".join(" ".join(pair) for pair in results["versions"].items())
    setting = (
        f"Learned on {photos['learned_on']} photos: {on['crops']['learned_on']:,} crops, altered "
        f"copies of {on['sets']['learned_on']:,} of them, {on['films']['learned_on']:,} films. "
        f"Judged on {photos['held_out']} other photos; {photos['alike_left_out']} that were like "
        f"another were left out. The network was trained for {results['steps']} steps of 128 "
        f"crops, half of that for copies and films. A set had {results['copies_of_a_set']:.1f} "
        f"copies on average. Films are windows that move over photos. {results['seconds']} s on "
        f"{results['cores']} cores, {results['machine']}, Python {results['python']}, {versions}."
    )
    parts = [
        setting,
        "",
        CELLS_TOLD,
        "",
        "| a platform's scope | held of a file | "
        + " | ".join(WAYS.values())
        + " | photo | among |",
        "|---|---|" + "--:|" * (len(WAYS) + 2),
        "| `match` | nothing |" + " |" * (len(WAYS) + 2),
    ]
    for line in lines:
        cells = " | ".join(cell(line.get(way)) for way in WAYS)
        photo = f"{best(line)['photo']:.0%}"
        parts.append(f"| {line['scope']} | {line['held']} | {cells} | {photo} | {line['of']} |")
    chosen = results["choice"]
    rows = {f"{count} highest": told for count, told in results["highest"].items()}
    rows["128 chosen"] = chosen["chosen"]
    about = (
        "Bits chosen so that a linear inverse regains little: "
        f"{chosen['shared_with_highest']} of the 128 are among the highest frequencies' (cost "
        f"{chosen['cost']:g}; "
        + ("they vary as little between strangers" if chosen["fits"] else "none varied as little")
        + ", on the photos to learn from). Distances between held-out crops of different photos; "
        "the last column is what a normal distribution has within 31 bits of a million."
    )
    parts += [
        "",
        about,
        "",
        "| bits | mean | deviation | pairs within 31 | of | candidates at a million |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {name} | {told['mean']:.1f} | {told['deviation']:.2f} | {told['within']} "
            f"| {told['pairs']:,} | {told['of_a_million']:.3f} |"
            for name, told in rows.items()
        ),
    ]
    return "\n".join(parts) + "\n"


def plot(results: dict[str, Any], shown: dict[str, Floats], path: Path) -> None:
    """Draw what each inverse makes of some photos, and the correlations of all cases.

    Args:
        results: what was measured.
        shown: float32 (photos, 1024) for each case and way, and the true ones.
        path: of the PNG.
    """
    plt = reporting.pyplot()
    if plt is None:
        return
    columns = [("true", "the true one")]
    for case, title in _PANEL:
        columns += [
            (f"{case}, {way}", f"{title}\n{WAYS[way]}")
            for way in WAYS
            if f"{case}, {way}" in shown and way != "both"
        ]
    last = [way for way in WAYS if f"{_PANEL[0][0]}, {way}" in shown][-1]
    for scope, title in (("feed", "256 bits"), ("veil 128", "128 bits")):
        name = f"{scope}, {ALL_COPIES}, {last}"
        columns.append((name, f"{title}, all\ncopies, {WAYS[last]}"))
    figure = plt.figure(figsize=(1.15 * len(columns), 12), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(4.8, 7.2))
    axes = top.subplots(len(TITLES), len(columns), squeeze=False)
    for row, title in enumerate(TITLES):
        for axis, (name, label) in zip(axes[row], columns, strict=True):
            axis.imshow(shown[name][row].reshape(SIDE, SIDE), cmap="gray")
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(label, fontsize=8)
        axes[row][0].set_ylabel(title, fontsize=8)
    axis = bottom.subplots()
    lines = results["lines"]
    height = 0.2
    for number, (way, name) in enumerate(WAYS.items()):
        have = [
            (place, line[way]["correlation"]) for place, line in enumerate(lines) if way in line
        ]
        if have:
            places, values = np.array(have).T
            axis.barh(places + (number - 1.5) * height, values, height, color=_INK[way], label=name)
    axis.set_yticks(
        range(len(lines)),
        [f"{x['scope']}: {x['held'].replace('`', '')}" for x in lines],
        fontsize=8,
    )
    axis.invert_yaxis()
    axis.set(xlabel="median correlation with the true thumbnail", xlim=(0, 1))
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="lower right", fontsize=8)
    reporting.save(figure, path)
    plt.close(figure)
