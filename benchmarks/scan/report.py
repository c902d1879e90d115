"""Tables of the results of benchmarks/scan/run.py, with estimates of the cost of large scans."""

import math
from typing import Any

HASHES = (10**9, 10**10, 10**11)
BANKS = (10**6, 10**7, 10**8)
Results = dict[str, Any]


def seconds_a_hash(results: Results, rows: int) -> float:
    """Estimate the core seconds per hash in a bank of this many signals.

    The estimate is linear between the measured banks, and linearly extrapolated beyond them: the
    search reads a fixed number of buckets, which fill up as the bank grows. With a single measured
    bank, its own time is returned.
    """
    points = [(bank["rows"], bank["core_seconds"] / bank["scanned"]) for bank in results["banks"]]
    if len(points) == 1:
        return float(points[0][1])
    end = min(max(sum(rows > measured for measured, _ in points), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[end - 1 : end + 1]
    return float(y0 + (y1 - y0) * (rows - x0) / (x1 - x0))


def cost(results: Results) -> list[Results]:
    """Estimate core hours, machines, hours and cost for each bank and number of hashes."""
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
    """Return the tables in Markdown."""
    setting, assumed = results["setting"], results["assumed"]
    reading = results["reading"]
    most = max(bank["rows"] for bank in results["banks"])
    lines = [
        (
            f"Radius 31, {setting['machine']}, {setting['cores']} cores, load average "
            f"{setting['load']:.1f} at the start (on a shared machine), Python "
            f"{setting['python']}, {', '.join(map(' '.join, setting['versions'].items()))}. "
            f"{results['asked']:,} stored hashes in Parquet, {results['stored_bytes_a_hash']:.0f} "
            f"bytes each, 1 in 100 near a signal of the bank; blocks of up to {results['block']:,}."
        ),
        "",
        (
            "| bank, signals | bytes per signal | open, ms | core time, µs per hash "
            "| hashes per second and core | hashes per second, wall clock, all cores | load |"
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
            "The first row is reading only: Parquet, and decoding hexadecimal digits. Copying a "
            f"bank of {followed['rows']:,} signals that `follow` maintains to a frozen bank takes "
            f"{followed['core_seconds']:.1f} s of core time ({followed['wall']:.1f} s wall clock) "
            f"and {followed['bytes'] / followed['rows']:.0f} bytes per signal; opening the copy "
            f"takes {followed['open'] * 1e3:.1f} ms. Listing the files took "
            f"{some['listing_seconds']:.2f} s. Writing and syncing the result of a block takes "
            f"{write * 1e3:.0f} ms; a match takes "
            f"{some['result_bytes'] / max(some['matches'], 1):.0f} bytes, including the overhead "
            "of its file."
        ),
        "",
    ]
    if ray := results.get("ray"):
        lines += _ray(results, ray)
    extrapolation = (
        "their speed is extrapolated linearly from the two largest that were"
        if len(results["banks"]) > 1
        else "their speed is assumed to be that of the measured one"
    )
    lines += [
        (
            f"**Estimated cost** at {assumed['price']:g} per core hour, with cores busy "
            f"{assumed['busy']:.0%} of the time, on machines of {assumed['cores']} cores, as many "
            f"as finish within {assumed['hours']:g} hours. Banks of more than {most:,} were not "
            f"measured: {extrapolation}."
        ),
        "",
        (
            "| bank, signals | core time, µs per hash | stored hashes | core hours | machines "
            "| hours | cost | memory per machine, GB | data read, TB |"
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
            "| run | core time, µs per hash | hashes per second, wall clock | blocks "
            "| unfinished blocks | matches | equal to local |"
        ),
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for name, run, equal in (
        ("local", first, None),
        (f"Ray, {ray['nodes']} nodes of one core each", ray["whole"], ray["equal"]["whole"]),
        (
            f"Ray, 1 of {ray['nodes']} nodes killed after {ray['killed_after']} blocks",
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
