"""Table in Markdown and a plot of the results of benchmarks/inversion/compare_sets.py."""

from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.common import reporting
from benchmarks.inversion.sets import COMPARED, Floats

SCORES: Final = ("32 x 32", "64 x 64", "middle, 64 x 64")
_INK: Final = ("#1b6ca8", "#dd8452")


def _cell(value: list[float]) -> str:
    mean, low, high = value
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def markdown(results: dict[str, Any]) -> str:
    """Return the table in Markdown."""
    photos, crops, hashes = results["photos"], results["crops"], results["hashes"]
    versions = ", ".join(" ".join(pair) for pair in results["versions"].items())
    right = results["assigned"]
    parts = [
        f"Trained on {crops['learned_on']:,} crops of {photos['learned_on']} photos, tested on "
        f"{crops['held_out']} crops of {photos['held_out']} other photos; "
        f"{photos['alike_left_out']} near-duplicates were excluded. "
        + " and ".join(f"`{w}` has {hashes[w]:.1f} hashes a crop" for w in COMPARED)
        + f". Run time {results['seconds']} s on {results['cores']} cores, "
        f"{results['machine']}, Python {results['python']}, {versions}.",
        "",
        (
            "Each cell has the mean correlation of the reconstructed with the true picture, and "
            "its 95 % interval from resampling photos. All bits: one ridge regression from all "
            "bits. Windows: one per view, pasted in place. Consistent: the most probable picture "
            "whose coefficients have the signs of the bits (noise "
            f"{results['noise']:g}). The aspect ratio and the hash of the original are known; the "
            "other hashes in known order, or shuffled and assigned by what a first reconstruction "
            "predicts."
        ),
        "",
        "| hashes | order | attack | assigned | " + " | ".join(SCORES) + " |",
        "|---|---|---|--:|" + "--:|" * len(SCORES),
    ]
    for name, values in results["scores"].items():
        labels = name.split(", ")
        if len(labels) < 3:
            labels = [labels[0], "", *(labels[1:] or [""])]
        share = right.get(f"{labels[0]}, {labels[2]}") if labels[1] == "unknown" else None
        labels.append("" if share is None else f"{share:.1%}")
        parts.append(f"| {' | '.join(labels)} | " + " | ".join(map(_cell, values)) + " |")
    old, new = COMPARED
    parts += [
        "",
        (
            f"The paired difference `{new}` - `{old}`. Best: each set is attacked with what "
            "reconstructs it best."
        ),
        "",
        "| order | attack | " + " | ".join(SCORES) + " |",
        "|---|---|" + "--:|" * len(SCORES),
    ]
    for name, values in results["differences"].items():
        parts.append(f"| {' | '.join(name.split(', '))} | " + " | ".join(map(_cell, values)) + " |")
    verdict = "no more than" if results["no_worse"] else "more than"
    parts += [
        "",
        (
            "By the rule stated before the run (upper ends for the best attacks with unknown order "
            f"below {results['margin']}), **`{new}` reveals {verdict} `{old}`.**"
        ),
    ]
    return "\n".join(parts) + "\n"


def plot(results: dict[str, Any], shown: dict[str, Floats], path: Path) -> None:
    """Plot some crops as the attacks reconstruct them, and the scores.

    Args:
        results: the results of the run.
        shown: float32 (crops, 64, 64) under the names of the scores, and "true".
        path: of the PNG.
    """
    plt = reporting.pyplot()
    if plt is None:
        return
    attacks = [name.removeprefix("one hash, ") for name in shown if name.startswith("one hash, ")]
    columns = ["true"] + [
        name
        for attack in attacks
        for name in (f"one hash, {attack}", *(f"{w}, unknown, {attack}" for w in COMPARED))
    ]
    rows = len(shown["true"])
    figure = plt.figure(figsize=(1.3 * len(columns), 1.5 * rows + 4.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.5 * rows, 4.5))
    axes = top.subplots(rows, len(columns), squeeze=False)
    for row in range(rows):
        for axis, name in zip(axes[row], columns, strict=True):
            axis.imshow(shown[name][row], cmap="gray")
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(name.replace(", ", "\n"), fontsize=7)
    for axis, title, score in zip(bottom.subplots(1, len(SCORES)), SCORES, range(3), strict=True):
        for offset, which, ink in zip((-0.2, 0.2), COMPARED, _INK, strict=True):
            values = [results["scores"][f"{which}, unknown, {a}"][score] for a in attacks]
            mean, low, high = np.array(values).T
            positions = np.arange(len(attacks)) + offset
            axis.bar(positions, mean, 0.36, yerr=(mean - low, high - mean), color=ink, label=which)
        axis.set_xticks(range(len(attacks)), attacks)
        axis.set(title=f"{title}, order unknown", ylabel="correlation", ylim=(0, 1))
        axis.grid(axis="y", alpha=0.3)
        axis.legend(fontsize=8)
    reporting.save(figure, path)
    plt.close(figure)
