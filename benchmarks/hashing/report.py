"""Write what benchmarks/hashing/run.py measured as tables in Markdown and as a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.common import reporting
from benchmarks.hashing import peers

LARGE: Final = "12 megapixels"


def markdown(results: dict[str, Any]) -> str:
    """Write the tables, the bar first."""
    versions = ", ".join(map(" ".join, results["versions"].items()))
    lines = [
        (
            f"One core, processor time, {results['machine']}, Python {results['python']}, load "
            f"average {results['load']:.1f} on {results['processors']} processors, {versions}. "
            "Ratios are medians over files and rounds in which all programs take turns."
        ),
        "",
        "| what to reach | bar | reached |",
        "|---|--:|--:|",
        *(f"| {what} | {wanted} | {got} |" for what, wanted, got in bars(results)),
        "",
    ]
    for name, race in results["races"].items():
        lines += [
            f"**From path to hash: {name}, {race['files']} files of {_size(race['bytes'])}**",
            "",
            "| program | ms | times as fast as pdqhash + Pillow | as the scaled decode alone |",
            "|---|--:|--:|--:|",
        ]
        for way in race["ways"]:
            ratios = way["times as fast"]
            lines.append(
                f"| {way['way']} | {way['seconds'] * 1e3:.1f} | {ratios[peers.REFERENCE]:.1f} "
                f"| {ratios[peers.LIMIT]:.2f} |"
            )
        lines.append("")
    lines += [
        "**From pixels, exact**",
        "",
        "| pixels | pdqhash, ms | nciihash, ms | ratio |",
        "|---|--:|--:|--:|",
        *(
            f"| {line['pixels']} | {line['pdqhash'] * 1e3:.2f} | {line['nciihash'] * 1e3:.2f} "
            f"| {line['ratio']:.1f} |"
            for line in results["pixels"]
        ),
        "",
        _exact(results["exact"]),
        "",
        _fast(results["fast"]),
    ]
    return "\n".join(lines)


def bars(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Give each line of the bar: what, what it should be, and what it is."""
    race = results["races"][LARGE]
    of = {way["way"]: way["times as fast"] for way in race["ways"]}
    fast = of[peers.FAST]
    lines = [("fast, over pdqhash + Pillow", "≥ 20", f"{fast[peers.REFERENCE]:.1f}")]
    if peers.IMAGEHASH in fast:
        lines.append(("fast, over imagehash.phash", "≥ 4", f"{fast[peers.IMAGEHASH]:.1f}"))
    exact, told = results["exact"], results["fast"]
    full = 1 / of[peers.FULL][peers.FAST]
    wrong = len(exact["others"]) + len(exact["unsure"])
    differing = (
        "exact: pictures whose bits, quality or dihedrals differ from pdqhash's, of those without "
        "ties"
    )
    lines += [
        (
            "fast, over Pillow's scaled decode alone",
            "≥ 85 %",
            f"{100 * fast[peers.LIMIT]:.0f} %",
        ),
        (
            differing,
            "0",
            f"{wrong} of {exact['pictures'] - len(exact['ties']):,}",
        ),
        (
            "fast: bits from exact at quality ≥ 50, mean and most",
            "≤ 0.5, ≤ 4",
            f"{told['mean']:.2f}, {told['max']}",
        ),
        (
            f"a set of {results['full set']:.0f} hashes, over one fast hash (bar: for 32)",
            "≤ 2",
            f"{full:.2f}",
        ),
    ]
    return lines


def _exact(exact: dict[str, Any]) -> str:
    text = (
        f"**Exact against `pdqhash`**: {exact['pictures']:,} pictures, photos and drawn ones; "
        f"{exact['equal']:,} equal in all bits, quality and the eight dihedral variants. "
        f"{len(exact['ties'])} tie at the median"
    )
    text += f" ({_names(exact['ties'])})." if exact["ties"] else "."
    for kind, words in (
        ("unsure", "where the step at the median is below single precision's noise"),
        ("others", "for no such reason"),
    ):
        if found := exact[kind]:
            told = ", ".join(f"{one['name']}: {one['bits']} bits" for one in found[:8])
            text += f" {len(found)} differ {words} ({told})."
    return text


def _fast(fast: dict[str, Any]) -> str:
    counts = ", ".join(f"{bits}: {count:,}" for bits, count in enumerate(fast["histogram"]))
    return (
        f"**Fast against exact**: {fast['pictures']:,} JPEGs of quality 50 or more; bits apart and "
        f"how many: {counts}; the most in {fast['worst']}. Altered copies of the standard set, "
        f"from the reduced picture against from the whole one: {fast['copies']:,}, "
        f"{fast['copies, mean']:.1f} bits apart on average, {fast['copies, max']} at most."
    )


def _names(names: Sequence[str], most: int = 12) -> str:
    told = ", ".join(names[:most])
    return told if len(names) <= most else f"{told} and {len(names) - most} more"


def _size(count: float) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw how many times as fast as pdqhash + Pillow each program is, and fast's bits."""
    plt = reporting.pyplot()
    if plt is None:
        return
    races = results["races"]
    figure, axes = plt.subplots(1, len(races) + 1, figsize=(6 * len(races) + 4, 6))
    for axis, (name, race) in zip(axes, races.items(), strict=False):
        ways = race["ways"]
        speeds = [way["times as fast"][peers.REFERENCE] for way in ways]
        ours = ["#1b6ca8" if way["way"].startswith("nciihash") else "#999999" for way in ways]
        bars = axis.barh([way["way"] for way in ways], speeds, color=ours)
        axis.bar_label(bars, [f"{speed:.1f}" for speed in speeds], padding=2, fontsize=8)
        axis.invert_yaxis()
        axis.set(title=f"{name}: times as fast as {peers.REFERENCE}")
        axis.margins(x=0.12)
        axis.tick_params(axis="y", labelsize=8)
    histogram = results["fast"]["histogram"]
    axes[-1].bar(range(len(histogram)), histogram, color="#1b6ca8")
    axes[-1].set(title="fast against exact", xlabel="bits apart", ylabel="JPEGs")
    figure.tight_layout()
    reporting.save(figure, path)
    plt.close(figure)
