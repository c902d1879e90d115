"""Tables in Markdown and a plot of the results of benchmarks/inversion/run.py."""

from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.common import reporting
from benchmarks.inversion.inverses import SIDE, Floats
from benchmarks.inversion.pictures import COPIES

INVERSES: Final = {"plain": "untrained", "ridge": "ridge", "network": "network", "both": "both"}
ALL_COPIES: Final = f"all {len(COPIES)} copies"
# Photos that may be shown, in the order of `pictures.SHOWN`.
TITLES: Final = ("astronaut", "chelsea", "coffee", "rocket")
LEGEND: Final = (
    "Each cell has the median correlation of the reconstructed with the true thumbnail, and how "
    'often the true thumbnail is the nearest of all ("candidates"). Same photo: how often the '
    "nearest is of the same photo, for the inverse with the highest correlation. Both: the mean of "
    "ridge and network."
)
_INK: Final = {"plain": "#999999", "ridge": "#1b6ca8", "network": "#dd8452", "both": "#55762f"}
_PANEL: Final = (
    ("feed, one hash", "256 bits"),
    ("veil 160, one hash", "160 bits"),
    ("veil 128, one hash", "128 bits"),
)


def cell(score: dict[str, float] | None) -> str:
    """Format a score: the correlation, and how often the true thumbnail is the nearest."""
    return "" if score is None else f"{score['correlation']:.2f}, {score['first']:.0%}"


def best(line: dict[str, Any]) -> dict[str, float]:
    """Return the score of the inverse with the highest correlation."""
    return max(
        (line[name] for name in INVERSES if name in line), key=lambda score: score["correlation"]
    )


def markdown(results: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    photos, lines = results["photos"], results["lines"]
    kinds = ("crops", "sets", "films")
    count = {kind: next(x["learned_on"] for x in lines if x["kind"] == kind) for kind in kinds}
    versions = ", ".join(" ".join(pair) for pair in results["versions"].items())
    network = (
        f"The network was trained for {results['steps']} steps of 128 crops, and for half as many "
        "steps on copies and videos."
        if results["steps"]
        else "No network was trained."
    )
    setting = (
        f"Trained on {photos['learned_on']} photos: {count['crops']:,} crops, altered copies of "
        f"{count['sets']:,} of these crops, and {count['films']:,} videos. Tested on "
        f"{photos['held_out']} other photos; {photos['alike_left_out']} near-duplicates were "
        f"excluded. {network} A set has {results['copies_of_a_set']:.1f} hashes on average. The "
        f"videos are simulated: a window pans over a photo. Run time {results['seconds']} s on "
        f"{results['cores']} cores, {results['machine']}, Python {results['python']}, {versions}."
    )
    parts = [
        setting,
        "",
        LEGEND,
        "",
        "| scope | known of a file | "
        + " | ".join(INVERSES.values())
        + " | same photo | candidates |",
        "|---|---|" + "--:|" * (len(INVERSES) + 2),
        "| `match` | nothing |" + " |" * (len(INVERSES) + 2),
    ]
    for line in lines:
        cells = " | ".join(cell(line.get(name)) for name in INVERSES)
        photo = f"{best(line)['photo']:.0%}"
        parts.append(f"| {line['scope']} | {line['held']} | {cells} | {photo} | {line['of']} |")
    chosen = results["choice"]
    rows = {f"{width} highest": one for width, one in results["highest"].items()}
    rows["128 selected"] = chosen["chosen"]
    about = (
        "128 bits selected so that a linear inverse recovers little: "
        f"{chosen['shared_with_highest']} of them are among the 128 of the highest frequencies "
        f"(cost {chosen['cost']:g}; on the training photos, "
        + ("their" if chosen["fits"] else "no selection's")
        + " distances between different photos vary as little). The table has the distances in "
        "bits between test crops of different photos; the last column is the number within 31 "
        "bits that a normal distribution predicts for a bank of 1,000,000."
    )
    parts += [
        "",
        about,
        "",
        "| bits | mean | standard deviation | pairs within 31 | of pairs | predicted candidates |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {name} | {one['mean']:.1f} | {one['deviation']:.2f} | {one['within']} "
            f"| {one['pairs']:,} | {one['of_a_million']:.3f} |"
            for name, one in rows.items()
        ),
    ]
    return "\n".join(parts) + "\n"


def plot(results: dict[str, Any], shown: dict[str, Floats], path: Path) -> None:
    """Plot some photos as each inverse reconstructs them, and the correlations of all cases.

    Args:
        results: the results of the run.
        shown: float32 (photos, 1024) by case and inverse, and under "true" the true thumbnails.
        path: of the PNG.
    """
    plt = reporting.pyplot()
    if plt is None:
        return
    columns = [("true", "true thumbnail")]
    for case, title in _PANEL:
        columns += [
            (f"{case}, {name}", f"{title}\n{INVERSES[name]}")
            for name in INVERSES
            if f"{case}, {name}" in shown and name != "both"
        ]
    last = [name for name in INVERSES if f"{_PANEL[0][0]}, {name}" in shown][-1]
    for scope, title in (("feed", "256 bits"), ("veil 128", "128 bits")):
        name = f"{scope}, {ALL_COPIES}, {last}"
        columns.append((name, f"{title}, all\ncopies, {INVERSES[last]}"))
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
    for number, (name, label) in enumerate(INVERSES.items()):
        points = [(y, line[name]["correlation"]) for y, line in enumerate(lines) if name in line]
        if points:
            ys, values = np.array(points).T
            axis.barh(ys + (number - 1.5) * height, values, height, color=_INK[name], label=label)
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
