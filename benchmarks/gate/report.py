"""Tables of the benchmark of the gate."""

from typing import Any, Final

Results = dict[str, Any]

# most processor time, as a multiple of hashing alone, by level and size
BARS: Final = {
    ("fast", "300 KB"): 1.3,
    ("fast", "12 MP"): 1.3,
    ("windows", "300 KB"): 2.0,
    ("windows", "12 MP"): 1.5,
}
ADDED_BAR: Final = 0.001  # seconds of the median, at the level `fast`


def ratio(row: Results) -> float:
    """Return the processor time of an upload, as a multiple of hashing it alone at the same size.

    A large JPEG is decoded at a reduced size by both.
    """
    return float(row["cpu"]["gate"] / row["cpu"]["alone fast"])


def added(row: Results) -> float:
    """Return the seconds by which the median upload takes longer than hashing alone."""
    return float(row["p50"]["gate"] - row["p50"]["alone fast"])


def compared_line(row: Results) -> str:
    """Return a row of the comparison in words."""
    return (
        f"{row['level']}, {row['protocol']}, {row['size']}: {1e3 * row['cpu']['gate']:.1f} ms of "
        f"processor time, {ratio(row):.2f} times hashing alone; p50 {1e3 * added(row):+.2f} ms"
    )


def markdown(results: Results) -> str:
    """Return the report."""
    lines = [
        (
            f"One gate with one child process, on one core; a bank of {results['rows']:,} random "
            "hashes. Processor time is that of the gate and its child. Hashing alone is "
            "`Sandbox.hash_file` on the same core in alternating rounds, with `fast` as in the "
            "gate; the last column is without it."
        ),
        "",
        (
            "| level | protocol | file | processor time, ms | hashing alone | ratio | bar "
            "| p50, ms | hashing alone | exact hashing alone |"
        ),
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["compared"]:
        bar = BARS[row["level"], row["size"]]
        cpu, p50 = row["cpu"], row["p50"]
        lines.append(
            f"| {row['level']} | {row['protocol']} | {row['size']} | {1e3 * cpu['gate']:.1f} | "
            f"{1e3 * cpu['alone fast']:.1f} | {ratio(row):.2f} | {bar} | {1e3 * p50['gate']:.1f} | "
            f"{1e3 * p50['alone fast']:.1f} | {1e3 * cpu['alone exact']:.1f} |"
        )
    load = results["load"]
    lines += [
        "",
        (
            f"Level `fast`, 300 KB over HTTP: {load['rate']:.0f} uploads a second with eight "
            f"clients, {load['rate of a core']:.0f} for each second of processor time. Under an "
            "open load:"
        ),
        "",
        "| load | checked | refused as busy | p50, ms | p99, ms |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in ("80 %", "150 %"):
        row = load[name]
        lines.append(
            f"| {name} of that rate | {row['checked']:,} | {row['refused']:,} | "
            f"{1e3 * row['p50']:.1f} | {1e3 * row['p99']:.1f} |"
        )
    lines += ["", "| uploads | memory of the gate, MB | of its children, MB |", "|--:|--:|--:|"]
    lines += [
        f"| {row['uploads']:,} | {row['gate'] / 1e6:.0f} | {row['children'] / 1e6:.0f} |"
        for row in results["memory"]
    ]
    return "\n".join(lines) + "\n"
