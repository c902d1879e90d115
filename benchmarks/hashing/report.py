"""Tables in Markdown and a plot of the results of benchmarks/hashing/run.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.common import reporting
from benchmarks.hashing import peers

LARGE: Final = "12 megapixels"
# Names in the results, where they are keys and stay as they are, and what the tables show.
_SHOWN: Final = {
    "Pillow's decode alone": "Pillow, decode only",
    peers.LIMIT: "Pillow, scaled decode only",
    "nciihash, fast, and trimmed": "nciihash, fast, with the trimmed hash",
    "photos as they are": "photos at their original size",
}


def markdown(results: dict[str, Any]) -> str:
    """Return the tables in Markdown, the targets first."""
    versions = ", ".join(map(" ".join, results["versions"].items()))
    lines = [
        (
            f"One core, processor time, {results['machine']}, Python {results['python']}, load "
            f"average {results['load']:.1f} on {results['processors']} processors, {versions}. "
            "A speedup is the median over files and rounds of the ratio of two programs' times in "
            "the same round."
        ),
        "",
        "| target | required | measured |",
        "|---|--:|--:|",
        *(f"| {target} | {required} | {value} |" for target, required, value in targets(results)),
        "",
    ]
    for name, race in results["races"].items():
        lines += [
            (
                f"**From path to hash: {_shown(name)}, {race['files']} files of "
                f"{_size(race['bytes'])}**"
            ),
            "",
            "| program | ms | speedup over pdqhash + Pillow | speedup over scaled decode only |",
            "|---|--:|--:|--:|",
        ]
        for program in race["ways"]:
            ratios = program["times as fast"]
            lines.append(
                f"| {_shown(program['way'])} | {program['seconds'] * 1e3:.1f} "
                f"| {ratios[peers.REFERENCE]:.1f} "
                f"| {ratios[peers.LIMIT]:.2f} |"
            )
        lines.append("")
    lines += [
        "**From decoded pixels to hash, exact mode**",
        "",
        "| pixels | pdqhash, ms | nciihash, ms | speedup |",
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


def targets(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the targets: description, required value, measured value."""
    race = results["races"][LARGE]
    speedups = {program["way"]: program["times as fast"] for program in race["ways"]}
    fast = speedups[peers.FAST]
    lines = [
        (
            "fast mode, 12 megapixels: speedup over pdqhash + Pillow",
            "≥ 20",
            f"{fast[peers.REFERENCE]:.1f}",
        )
    ]
    if peers.IMAGEHASH in fast:
        lines.append(
            (
                "fast mode, 12 megapixels: speedup over imagehash.phash",
                "≥ 4",
                f"{fast[peers.IMAGEHASH]:.1f}",
            )
        )
    exact, distances = results["exact"], results["fast"]
    full = 1 / speedups[peers.FULL][peers.FAST]
    differing = len(exact["others"]) + len(exact["unsure"])
    lines += [
        (
            "fast mode, 12 megapixels: speed relative to Pillow's scaled decode only",
            "≥ 85 %",
            f"{100 * fast[peers.LIMIT]:.0f} %",
        ),
        (
            (
                "exact mode: pictures without ties that differ from pdqhash in bits, quality or "
                "dihedral variants"
            ),
            "0",
            f"{differing} of {exact['pictures'] - len(exact['ties']):,}",
        ),
        (
            "fast mode: distance to the exact hash in bits, quality ≥ 50: mean, maximum",
            "≤ 0.5, ≤ 4",
            f"{distances['mean']:.2f}, {distances['max']}",
        ),
        (
            (
                f"time for a set of {results['full set']:.0f} hashes relative to one fast hash "
                "(required for 32 hashes)"
            ),
            "≤ 2",
            f"{full:.2f}",
        ),
    ]
    return lines


def _exact(exact: dict[str, Any]) -> str:
    text = (
        f"**Exact mode compared with `pdqhash`**: {exact['pictures']:,} pictures, photos and "
        f"synthetic ones; {exact['equal']:,} are equal in all bits, in quality and in the eight "
        f"dihedral variants. {len(exact['ties'])} have coefficients that tie at the median"
    )
    text += f" ({_names(exact['ties'])})." if exact["ties"] else "."
    for kind, reason in (
        ("unsure", "where the gap at the median is below the noise of single precision"),
        ("others", "for another reason"),
    ):
        if found := exact[kind]:
            names = ", ".join(f"{one['name']}: {one['bits']} bits" for one in found[:8])
            text += f" {len(found)} differ {reason} ({names})."
    return text


def _fast(fast: dict[str, Any]) -> str:
    counts = ", ".join(f"{bits}: {count:,}" for bits, count in enumerate(fast["histogram"]))
    return (
        f"**Fast mode compared with exact mode**: {fast['pictures']:,} JPEGs of quality 50 or "
        f"more. Distance in bits, and number of files: {counts}; the maximum in {fast['worst']}. "
        "Altered copies of the standard set, from the reduced picture and from the full one: "
        f"{fast['copies']:,} pairs, {fast['copies, mean']:.1f} bits apart on average, "
        f"{fast['copies, max']} at most."
    )


def _names(names: Sequence[str], most: int = 12) -> str:
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def _shown(name: str) -> str:
    """Return what the tables show for a name in the results."""
    return _SHOWN.get(name, name)


def _size(count: float) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def plot(results: dict[str, Any], path: Path) -> None:
    """Plot each program's speedup over pdqhash + Pillow, and the distances of fast mode."""
    plt = reporting.pyplot()
    if plt is None:
        return
    races = results["races"]
    figure, axes = plt.subplots(1, len(races) + 1, figsize=(6 * len(races) + 4, 6))
    for axis, (name, race) in zip(axes, races.items(), strict=False):
        programs = race["ways"]
        speeds = [program["times as fast"][peers.REFERENCE] for program in programs]
        names = [program["way"] for program in programs]
        colours = ["#1b6ca8" if name.startswith("nciihash") else "#999999" for name in names]
        bars = axis.barh([_shown(name) for name in names], speeds, color=colours)
        axis.bar_label(bars, [f"{speed:.1f}" for speed in speeds], padding=2, fontsize=8)
        axis.invert_yaxis()
        axis.set(title=f"{_shown(name)}: speedup over {peers.REFERENCE}")
        axis.margins(x=0.12)
        axis.tick_params(axis="y", labelsize=8)
    histogram = results["fast"]["histogram"]
    axes[-1].bar(range(len(histogram)), histogram, color="#1b6ca8")
    axes[-1].set(
        title="fast mode compared with exact mode", xlabel="distance, bits", ylabel="JPEGs"
    )
    figure.tight_layout()
    reporting.save(figure, path)
    plt.close(figure)
