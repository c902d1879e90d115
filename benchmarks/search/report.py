"""Tables in Markdown and a plot of the results of benchmarks/search/run.py."""

from pathlib import Path
from typing import Any

from benchmarks.common import reporting

# Targets on one core at radius 31: the ratio for single queries and in batches.
TARGETS = {
    "faiss MultiHash 11x23, 2 flips": {10**6: (40, 60), 10**7: (85, 115)},
    "faiss MultiHash 16x16, 1 flips": {10**6: (160, 230), 10**7: (800, 1000)},
    "faiss Flat": {10**6: (200, 300), 10**7: (850, 1100)},
}
COLOURS = {
    "nciihash": "#1b6ca8",
    "nciihash compact": "#63a6d8",
    "faiss Flat": "#999999",
    "faiss MultiHash 16x16, 1 flips": "#c44e52",
    "faiss MultiHash 11x23, 2 flips": "#dd8452",
}


def markdown(results: dict[str, Any], only: int | None = None) -> str:
    """Return the tables in Markdown, for all banks or those with `only` rows."""
    lines = [
        (
            f"Radius 31, one core, {results['machine']}, backend {results['backend']}, "
            f"{_origin(results)}, load average {results['load']:.1f} on {results['processors']} "
            f"processors, {', '.join(map(' '.join, results['versions'].items()))}. "
            "Build times are processor time. Ratio: the time of the program divided by that of "
            "nciihash, with the target in parentheses."
        ),
        "",
    ]
    for bank in results["banks"]:
        if only is not None and bank["rows"] != only:
            continue
        lines += [
            f"**{bank['rows']:,} hashes**",
            "",
            (
                "| program | single query, µs | ratio | query in a batch, µs | ratio | recall "
                "| build, s | bytes per hash |"
            ),
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for peer in bank["peers"]:
            target = TARGETS.get(peer["peer"], {}).get(bank["rows"])
            ratios = [
                f"{peer[kind + '_ratio']:.{1 if peer[kind + '_ratio'] < 10 else 0}f}"
                + (f" (≥ {target[number]})" if target else "")
                for number, kind in enumerate(("single", "batch"))
            ]
            size = peer["bytes_a_hash"]
            lines.append(
                f"| {peer['peer']} | {peer['single'] * 1e6:,.1f} | {ratios[0]} "
                f"| {peer['batch'] * 1e6:,.1f} | {ratios[1]} | {peer['recall']:.1%} "
                f"| {peer['build_seconds']:.2f} | {'' if size is None else f'{size:.1f}'} |"
            )
        living, batch = bank["living"], bank["batch_of"]
        speeds = ", ".join(
            f"{speed:,.0f} with {threads}"
            for threads, speed in living["queries_a_second_by_threads"].items()
        )
        lines += [
            "",
            (
                "nciihash, with the file in the page cache: opening takes "
                f"{living['open_seconds'] * 1e3:.2f} ms, opening and a first query "
                f"{living['open_and_first_query_seconds'] * 1e3:.2f} ms, after that a query in a "
                f"batch {living['mapped_batch'] * 1e6:.1f} µs. Queries per second by number of "
                f"threads: {speeds}. While another thread queries: "
                f"{living['adds_a_second_while_querying']:,.0f} additions and "
                f"{living['removals_a_second_while_querying']:,.0f} removals per second, 100 per "
                "call; a query of that thread takes "
                f"{living['query_while_adding_median'] * 1e6:.0f} µs (median), "
                f"{living['query_while_adding_p99'] * 1e6:.0f} µs (99th percentile). In a batch, a "
                f"query with matches takes {batch['hits'] * 1e6:.1f} µs, one without "
                f"{batch['misses'] * 1e6:.1f} µs."
            ),
            "",
        ]
    if hostile := results.get("hostile"):
        lines += [
            (
                f"Adversarial banks of {hostile[0]['rows']:,} hashes that fill single buckets: the "
                "time of a query relative to a flat scan."
            ),
            "",
            "| bank | single query | in a batch |",
            "|---|--:|--:|",
            *(f"| {one['bank']} | {one['single']:.2f} | {one['batch']:.2f} |" for one in hostile),
            "",
        ]
    return "\n".join(lines)


def _origin(results: dict[str, Any]) -> str:
    """Describe the origin of bank and queries."""
    if results["bank"] == "uniform":
        return "bank and queries of random bits"
    turned = " in all orientations" if results["bank"] == "turned" else ""
    count = results["real_hashes"]
    return f"bank and queries derived from {count:,} hashes of crops of photos{turned}"


def plot(results: dict[str, Any], path: Path) -> None:
    """Plot time by size, memory by size, and time by radius."""
    plt = reporting.pyplot()
    if plt is None:
        return
    figure, axes = plt.subplots(1, 3, figsize=(16, 5))
    names = list(dict.fromkeys(p["peer"] for bank in results["banks"] for p in bank["peers"]))
    for axis, (key, scale, title) in zip(axes, (
        ("batch", 1e6, "µs per query, batches of 1024, radius 31"),
        ("bytes_a_hash", 1, "bytes per hash"),
    ), strict=False):  # fmt: skip
        for name in names:
            points = [
                (bank["rows"], peer[key] * scale)
                for bank in results["banks"]
                for peer in bank["peers"]
                if peer["peer"] == name and peer[key]
            ]
            if points:
                wide = 3 if name == "nciihash" else 1.2
                axis.plot(
                    *zip(*points, strict=True),
                    "o-",
                    label=name,
                    color=COLOURS.get(name),
                    linewidth=wide,
                )
        axis.set(xscale="log", yscale="log", xlabel="hashes in the bank", title=title)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=7)
    if radii := results.get("by_radius"):
        for name, style in (("index", "-"), ("flat scan", "--"), ("chosen", "k.")):
            axes[2].plot(
                [line["radius"] for line in radii["times"]],
                [line[name] * 1e6 for line in radii["times"]],
                style,
                label=name,
            )
        axes[2].set(
            yscale="log",
            xlabel="radius, bits",
            title=f"nciihash, µs per query in a batch, {radii['rows']:,} hashes",
        )
        axes[2].grid(alpha=0.3, which="both")
        axes[2].legend()
    else:
        axes[2].remove()
    figure.tight_layout()
    reporting.save(figure, path)
    plt.close(figure)
