"""Write what benchmarks/search/run.py measured as a table in Markdown and as plots."""

from pathlib import Path
from typing import Any

from benchmarks.common import reporting

# What to reach on one core at radius 31: how many times as fast, one at a time and in batches.
BAR = {
    "faiss MultiHash 11x23, 2 flips": {10**6: (40, 60), 10**7: (85, 115)},
    "faiss MultiHash 16x16, 1 flips": {10**6: (160, 230), 10**7: (800, 1000)},
    "faiss Flat": {10**6: (200, 300), 10**7: (850, 1100)},
}
INK = {
    "nciihash": "#1b6ca8",
    "nciihash compact": "#63a6d8",
    "faiss Flat": "#999999",
    "faiss MultiHash 16x16, 1 flips": "#c44e52",
    "faiss MultiHash 11x23, 2 flips": "#dd8452",
}


def markdown(results: dict[str, Any], only: int | None = None) -> str:
    """Write the tables, of one bank or of all."""
    lines = [
        (
            f"Radius 31, one core, {results['machine']}, backend {results['backend']}, "
            f"{_origin(results)}, load average {results['load']:.1f} on {results['processors']} "
            f"processors, {', '.join(map(' '.join, results['versions'].items()))}. "
            "Building is in processor time. Ratio: the other's time over ours; the bar in brackets."
        ),
        "",
    ]
    for bank in results["banks"]:
        if only is not None and bank["rows"] != only:
            continue
        lines += [
            f"**{bank['rows']:,} hashes**",
            "",
            "| program | single, µs | ratio | batch, µs | ratio | found | build, s | B a hash |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for peer in bank["peers"]:
            bar = BAR.get(peer["peer"], {}).get(bank["rows"])
            ratios = [
                f"{peer[kind + '_ratio']:.{1 if peer[kind + '_ratio'] < 10 else 0}f}"
                + (f" (≥ {bar[number]})" if bar else "")
                for number, kind in enumerate(("single", "batch"))
            ]
            size = peer["bytes_a_hash"]
            lines.append(
                f"| {peer['peer']} | {peer['single'] * 1e6:,.1f} | {ratios[0]} "
                f"| {peer['batch'] * 1e6:,.1f} | {ratios[1]} | {peer['recall']:.1%} "
                f"| {peer['build_seconds']:.2f} | {'' if size is None else f'{size:.1f}'} |"
            )
        living = bank["living"]
        speeds = ", ".join(
            f"{speed:,.0f} with {threads}"
            for threads, speed in living["queries_a_second_by_threads"].items()
        )
        lines += [
            "",
            (
                f"File in the page cache: opened in {living['open_seconds'] * 1e3:.2f} ms, opened "
                f"and first answer in {living['open_and_first_query_seconds'] * 1e3:.2f} ms, then "
                f"{living['mapped_batch'] * 1e6:.1f} µs a query in a batch. Queries a second by "
                f"threads: {speeds}. While another thread asks: "
                f"{living['adds_a_second_while_querying']:,.0f} additions and "
                f"{living['removals_a_second_while_querying']:,.0f} removals a second, a hundred "
                f"a call; that thread waits {living['query_while_adding_median'] * 1e6:.0f} µs "
                f"(median), {living['query_while_adding_p99'] * 1e6:.0f} µs (99 %). A query that "
                f"finds something takes {bank['batch_of']['hits'] * 1e6:.1f} µs in a batch, one "
                f"that finds nothing {bank['batch_of']['misses'] * 1e6:.1f} µs."
            ),
            "",
        ]
    if hostile := results.get("hostile"):
        lines += [
            (
                f"Banks of {hostile[0]['rows']:,} that fill single buckets: the time of a query "
                "over that of a flat scan."
            ),
            "",
            "| bank | single | batch |",
            "|---|--:|--:|",
            *(f"| {one['bank']} | {one['single']:.2f} | {one['batch']:.2f} |" for one in hostile),
            "",
        ]
    return "\n".join(lines)


def _origin(results: dict[str, Any]) -> str:
    """Say what bank and queries were made of."""
    if results["bank"] == "uniform":
        return "bank and queries of random bits"
    turned = " in all orientations" if results["bank"] == "turned" else ""
    return f"bank and queries made of {results['real_hashes']:,} hashes of crops of photos{turned}"


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw time against size, memory against size, and time against radius."""
    plt = reporting.pyplot()
    if plt is None:
        return
    figure, axes = plt.subplots(1, 3, figsize=(16, 5))
    names = list(dict.fromkeys(p["peer"] for bank in results["banks"] for p in bank["peers"]))
    for place, (key, scale, title) in enumerate((
        ("batch", 1e6, "µs a query, batches of 1024, radius 31"),
        ("bytes_a_hash", 1, "bytes a hash"),
    )):  # fmt: skip
        for name in names:
            points = [
                (bank["rows"], peer[key] * scale)
                for bank in results["banks"]
                for peer in bank["peers"]
                if peer["peer"] == name and peer[key]
            ]
            if points:
                wide = 3 if name == "nciihash" else 1.2
                axes[place].plot(
                    *zip(*points, strict=True),
                    "o-",
                    label=name,
                    color=INK.get(name),
                    linewidth=wide,
                )
        axes[place].set(xscale="log", yscale="log", xlabel="hashes in the bank", title=title)
        axes[place].grid(alpha=0.3, which="both")
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
            title=f"nciihash, µs a query in a batch, {radii['rows']:,} hashes",
        )
        axes[2].grid(alpha=0.3, which="both")
        axes[2].legend()
    else:
        axes[2].remove()
    figure.tight_layout()
    reporting.save(figure, path)
    plt.close(figure)
