"""Write what benchmarks/scan/run.py measured as tables, and reckon what large scans would cost."""

import math
from typing import Any

HASHES = (10**9, 10**10, 10**11)
BANKS = (10**6, 10**7, 10**8)
Results = dict[str, Any]


def seconds_a_hash(results: Results, rows: int) -> float:
    """Give the core's seconds for a hash against a bank of so many signals.

    Between measured banks, and beyond them, on straight lines through the two nearest: the search
    reads a fixed number of buckets, which fill up as the bank grows. With one bank measured, no
    more is known than its own figure.
    """
    points = [(bank["rows"], bank["core_seconds"] / bank["scanned"]) for bank in results["banks"]]
    if len(points) == 1:
        return float(points[0][1])
    place = sum(rows > at for at, _ in points)
    place = min(max(place, 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[place - 1 : place + 1]
    return float(y0 + (y1 - y0) * (rows - x0) / (x1 - x0))


def cost(results: Results) -> list[Results]:
    """Reckon core hours, machines, hours and money for each number of hashes and bank."""
    assumed = results["assumed"]
    lines = []
    for bank in BANKS:
        each = seconds_a_hash(results, bank)
        for hashes in HASHES:
            core_hours = hashes * each / 3600 / assumed["busy"]
            machine_hours = core_hours / assumed["cores"]
            machines = max(1, math.ceil(machine_hours / assumed["hours"]))
            lines.append({
                "bank": bank, "hashes": hashes, "core_hours": core_hours, "machines": machines,
                "hours": machine_hours / machines, "money": core_hours * assumed["price"],
            })  # fmt: skip
    return lines


def markdown(results: Results) -> str:
    """Write all tables."""
    setting, assumed = results["setting"], results["assumed"]
    reading = results["reading"]
    most = max(bank["rows"] for bank in results["banks"])
    lines = [
        (
            f"Radius 31, {setting['machine']}, {setting['cores']} cores, load average "
            f"{setting['load']:.1f} at the start (others were at work), Python "
            f"{setting['python']}, {', '.join(map(' '.join, setting['versions'].items()))}. "
            f"{results['asked']:,} stored hashes in Parquet, {results['stored_bytes_a_hash']:.0f} "
            f"bytes each, one in 100 near the bank; blocks of up to {results['block']:,}."
        ),
        "",
        (
            "| bank, signals | bytes a signal | opened, ms | core, µs a hash "
            "| hashes a second and core | by the clock, on all cores | load |"
        ),
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for bank in [{"rows": 0, "bytes": 0, "open": None} | reading, *results["banks"]]:
        each = bank["core_seconds"] / bank["scanned"]
        size = f"{bank['bytes'] / bank['rows']:.1f}" if bank["rows"] else ""
        opened = "" if bank["open"] is None else f"{bank['open'] * 1e3:.2f}"
        lines.append(
            f"| {bank['rows']:,} | {size} | {opened} | {each * 1e6:.2f} | {1 / each:,.0f} "
            f"| {bank['scanned'] / bank['wall']:,.0f} | {bank['load']:.1f} |"
        )
    followed = results["followed"]
    write = max(bank["write_seconds_a_block"] for bank in results["banks"])
    some = results["banks"][0]
    lines += [
        "",
        (
            "The first line is reading alone: Parquet, and digits into bits. A bank of "
            f"{followed['rows']:,} that `follow` keeps is copied to stand still in "
            f"{followed['core_seconds']:.1f} s of a core ({followed['wall']:.1f} s by the clock), "
            f"{followed['bytes'] / followed['rows']:.0f} bytes a signal, and opened from that in "
            f"{followed['open'] * 1e3:.1f} ms. Listing took {some['listing_seconds']:.2f} s. A "
            f"block's result is written and synced in {write * 1e3:.0f} ms; "
            f"{some['result_bytes'] / max(some['matches'], 1):.0f} bytes a match, the files' own "
            "part in it."
        ),
        "",
    ]
    if ray := results.get("ray"):
        lines += _ray(results, ray)
    lines += [
        (
            f"**What it would cost**, at {assumed['price']:g} for a core and hour, cores at work "
            f"{assumed['busy']:.0%} of the time, machines of {assumed['cores']} cores, as many as "
            f"end it within {assumed['hours']:g} hours. Banks of more than {most:,} were not "
            "measured: their speed is the straight line through the two largest that were."
        ),
        "",
        (
            "| bank, signals | core, µs a hash | stored hashes | core hours | machines | hours "
            "| money | memory a machine, GB | to be read, TB |"
        ),
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    largest = results["banks"][-1]
    for line in cost(results):
        each = seconds_a_hash(results, line["bank"])
        memory = line["bank"] * largest["bytes"] / largest["rows"] / 1e9
        read = line["hashes"] * results["stored_bytes_a_hash"] / 1e12
        lines.append(
            f"| {line['bank']:,}{'' if line['bank'] <= most else ' *'} | {each * 1e6:.1f} "
            f"| {line['hashes']:,} | {line['core_hours']:,.0f} | {line['machines']:,} "
            f"| {line['hours']:,.1f} | {line['money']:,.2f} | {memory:,.1f} | {read:,.2f} |"
        )
    return "\n".join([*lines, "", "\\* extrapolated"])


def _ray(results: Results, ray: Results) -> list[str]:
    first = results["banks"][0]
    lines = [
        (
            "| run | core, µs a hash | by the clock, hashes a second | blocks | not done "
            "| matches | equal to local |"
        ),
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for name, run, equal in (
        ("local", first, None),
        (f"Ray, {ray['nodes']} nodes of a core", ray["whole"], ray["equal"]["whole"]),
        (
            f"Ray, one of {ray['nodes']} killed after {ray['killed_after']} blocks",
            ray["killed"],
            ray["equal"]["killed"],
        ),
    ):
        word = "" if equal is None else "yes" if equal else "NO"
        lines.append(
            f"| {name} | {run['core_seconds'] / run['scanned'] * 1e6:.2f} "
            f"| {run['scanned'] / run['wall']:,.0f} | {run['blocks']} | {run['undone']} "
            f"| {run['matches']:,} | {word} |"
        )
    return [*lines, ""]
