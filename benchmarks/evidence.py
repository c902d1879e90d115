"""Write docs/evidence.md from the stored results, or compare a new run with them.

    python -m benchmarks.evidence
    python -m benchmarks.evidence --check FOLDER --against benchmarks/results/quick

The check compares ratios and shares only, since times depend on the machine. It lists what is worse
than stored by more than the tolerance, and then exits with 1.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "evidence.md"
# Keys that identify an element of a list in the results, so that runs of other lengths compare.
NAMES = ("peer", "way", "pixels", "rows", "kind", "bits", "line", "name")
# Keys of values that compare two programs, or are a share, and whether more is better.
BETTER = {"ratio": True, "single_ratio": True, "batch_ratio": True, "recall": True}
WORSE = {"of_the_flat_scan": False}

Results = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """A sentence with its figures, and how to measure them again.

    Attributes:
        text: the sentence, a format string with the figures by name.
        figures: reads the figures from the results.
        source: the name of the results file, without its suffix.
        command: the command that writes it.
    """

    text: str
    figures: Callable[[Results], dict[str, float]]
    source: str
    command: str


def bank(results: Results, rows: float, tolerance: float = 0.01) -> Results:
    """Return the results of a bank with this number of rows."""
    for each in results["banks"]:
        if abs(each["rows"] - rows) <= tolerance * rows:
            return dict(each)
    raise KeyError(rows)


def speeds(rows: float, peer: str) -> Callable[[Results], dict[str, float]]:
    """Return the speed relative to a peer, for single queries and in batches."""

    def figures(results: Results) -> dict[str, float]:
        [found] = [p for p in bank(results, rows)["peers"] if p["peer"] == peer]
        return {"one": found["single_ratio"], "batch": found["batch_ratio"]}

    return figures


def own_search(rows: float) -> Callable[[Results], dict[str, float]]:
    """Return the time of our own search in microseconds, and the bytes a hash takes in memory."""

    def figures(results: Results) -> dict[str, float]:
        [found] = [p for p in bank(results, rows)["peers"] if p["peer"] == "nciihash"]
        return {
            "one": found["single"] * 1e6,
            "batch": found["batch"] * 1e6,
            "bytes": found["bytes_a_hash"],
        }

    return figures


def hashing(method: str) -> Callable[[Results], dict[str, float]]:
    """Return the speed of a hashing method on large photos, relative to the peers."""

    def figures(results: Results) -> dict[str, float]:
        [found] = [w for w in results["races"]["12 megapixels"]["ways"] if w["way"] == method]
        times = found["times as fast"]
        return {
            "ms": found["seconds"] * 1000,
            "pdqhash": times["pdqhash + Pillow"],
            "phash": times["imagehash.phash"],
            "limit": 100 * times["Pillow's scaled decode alone"],
        }

    return figures


def bits(results: Results) -> dict[str, float]:
    """Return the distances of exact hashes to the reference, and of fast to exact ones."""
    exact, fast = results["exact"], results["fast"]
    return {
        "pictures": exact["pictures"],
        "equal": exact["equal"],
        "mean": fast["mean"],
        "most": fast["max"],
    }


def recall(*path: str) -> Callable[[Results], dict[str, float]]:
    """Return the recall of a group of edits, in per cent: one hash, standard set, full set."""

    def figures(results: Results) -> dict[str, float]:
        row = results
        for step in path:
            row = row[step]
        return {
            "plain": 100 * row["plain, plain"],
            "standard": 100 * row["standard, match"],
            "full": 100 * row["full, match"],
        }

    return figures


def videos(results: Results) -> dict[str, float]:
    """Return the recall of video copies, in per cent, and the cost relative to decoding."""
    found = {row["name"]: row for row in results["copies"]}
    ways = {way["way"]: way["of the decode"] for way in results["costs"][0]["ways"]}
    return {
        "trimmed": 100 * found["trimmed to the middle"]["plain"]["recall"],
        "mirrored": 100 * found["mirrored"]["standard"]["recall"],
        "none": ways["none"],
    }


def strangers(results: Results) -> dict[str, float]:
    """Return the counts of pairs of different photos and of false matches, and the nearest."""
    found = results["others"]["full"]
    return {"pairs": found["pairs"], "false": found["false"], "closest": found["closest"]}


def window_strangers(results: Results) -> dict[str, float]:
    """Return the pairs of strangers' pictures, how many windows matched, and the bound at scale."""
    upper = max(each["aligned"]["rate"]["upper"] for each in results["populations"].values())
    totals = results["totals"]
    return {"pairs": totals["strangers"], "matches": totals["matches"], "upper": upper * 1e12}


def query_rate(kind: str) -> Callable[[Results], dict[str, float]]:
    """Return the queries a second that the service answers, of one form of request."""

    def figures(results: Results) -> dict[str, float]:
        found = results["banks"][-1]
        return {
            "a_second": found["match"][kind]["a_second"],
            "ratio": found["match"][kind]["a_second"] / found["peer"]["a_second"],
            "rows": found["rows"],
        }

    return figures


def delivery_delay(results: Results) -> dict[str, float]:
    """Return the delay until platforms have received a submission, in milliseconds."""
    found = results["banks"][-1]["visible"]
    return {"p50": found["p50_ms"], "p99": found["p99_ms"], "platforms": found["platforms"]}


def scan_speed(results: Results) -> dict[str, float]:
    """Return the hashes that a core looks up in a second, and how many runs differ."""
    speeds = [bank(results, rows) for rows in (1e6, 1e7)]
    million, ten = (one["scanned"] / one["core_seconds"] for one in speeds)
    ray = results["ray"]
    differing = sum(not equal for equal in ray["equal"].values())
    return {"million": million, "ten": ten, "nodes": ray["nodes"], "differing": differing}


def gate_ratios(results: Results) -> dict[str, float]:
    """Return the processor time of uploads over HTTP, as multiples of hashing alone."""
    rows = {
        (row["level"], row["size"]): row for row in results["compared"] if row["protocol"] == "http"
    }
    small, large = "300 KB", "12 MP"
    return {
        f"{level}_{name}": rows[level, size]["cpu"]["gate"] / rows[level, size]["cpu"]["alone fast"]
        for level in ("fast", "windows")
        for name, size in (("small", small), ("large", large))
    }


SEARCH = "make bench-search"
_SPEED = "{one:,.0f} times faster for one query and {batch:,.0f} times in batches than "
CLAIMS = (
    Claim(
        "Fast mode hashes a 12-megapixel JPEG file in {ms:.0f} ms on one core: {pdqhash:.0f} times "
        "as fast as pdqhash with Pillow, {phash:.1f} times as fast as imagehash.phash, and at "
        "{limit:.0f} % of the speed of a scaled decode alone.",
        hashing("nciihash, fast"), "hashing", "make bench-hashing",
    ),
    Claim(
        "Exact mode: {ms:.0f} ms, {pdqhash:.1f} times as fast as pdqhash with Pillow.",
        hashing("nciihash, exact"), "hashing", "make bench-hashing",
    ),
    Claim(
        "Exact hashes equal those of the pdqhash package for {equal:.0f} of {pictures:.0f} "
        "pictures; fast ones differ from exact ones by {mean:.2f} bits on average, {most:.0f} at "
        "most.",
        bits, "hashing", "make bench-hashing",
    ),
    Claim(
        "In a bank of a million hashes a query takes {one:.0f} us ({batch:.0f} us in a batch), and "
        "a hash takes {bytes:.0f} bytes.", own_search(1e6), "search", SEARCH,
    ),
    Claim(
        "In a bank of ten million: {one:.0f} us ({batch:.0f} us in a batch), "
        "{bytes:.0f} bytes a hash.",
        own_search(1e7), "search", SEARCH,
    ),
    Claim(
        "At a million hashes, " + _SPEED + "faiss's exact flat index.",
        speeds(1e6, "faiss Flat"), "search", SEARCH,
    ),
    Claim(
        "At ten million hashes, " + _SPEED + "faiss's exact flat index.",
        speeds(1e7, "faiss Flat"), "search", SEARCH,
    ),
    Claim(
        "At ten million hashes, " + _SPEED + "faiss's multi-index hashing, 16 x 16.",
        speeds(1e7, "faiss MultiHash 16x16, 1 flips"), "search", SEARCH,
    ),
    Claim(
        "Of re-encoded copies, one hash finds {plain:.0f} %, the standard set "
        "{standard:.0f} %.", recall("groups", "saved again"), "recall", "make bench-recall",
    ),
    Claim(
        "Of cropped copies, one hash finds {plain:.0f} %, the standard set {standard:.0f} %, the "
        "full set {full:.0f} %.", recall("groups", "crop"), "recall", "make bench-recall",
    ),
    Claim(
        "Of framed copies, one hash finds {plain:.0f} %, the standard set with a trimmed query "
        "{standard:.0f} %; the table has screenshots.",
        recall("groups", "frame"), "recall", "make bench-recall",
    ),
    Claim(
        "Of twenty hard edits that had no part in choosing the set: {plain:.0f} %, "
        "{standard:.0f} %, {full:.0f} %. Of collages, none.",
        recall("held aside"), "recall", "make bench-recall",
    ),
    Claim(
        "Of {pairs:,.0f} pairs of hashes of different photos, {false:.0f} matched; the nearest "
        "were {closest:.0f} bits apart.", strangers, "recall", "make bench-recall",
    ),
    Claim(
        "Of {pairs:,.0f} pairs of pictures of different scenes, windows matched "
        "{matches:.0f}. A million uploads against a million photos: at most {upper:.0e} such "
        "matches (95 %), so they answer `review`.",
        window_strangers, "false-matches", "make bench-false-matches",
    ),
    Claim(
        "Of video copies that were trimmed to the middle and re-encoded, {trimmed:.0f} % of the "
        "frames are found; of mirrored ones none, with the standard set {mirrored:.0f} %. Hashing "
        "takes {none:.2f} times as long as decoding alone.", videos, "video", "make bench-video",
    ),
    Claim(
        "One worker of the service answers {a_second:,.0f} queries a second in binary batches, "
        "with {rows:,.0f} hashes: {ratio:,.0f} times as many as threatexchange with Flask, which "
        "takes one hash a request.",
        query_rate("octets, 10,000 a request"), "service", "make bench-service",
    ),
    Claim(
        "With one JSON query a request it answers {a_second:,.0f} a second: {ratio:.2f} times as "
        "many as that peer.",
        query_rate("JSON, 1 a request"), "service", "make bench-service",
    ),
    Claim(
        "{platforms:.0f} waiting platforms receive a submission within {p50:.0f} ms (median) and "
        "{p99:.0f} ms (99th percentile), on one core.",
        delivery_delay, "service", "make bench-service",
    ),
    Claim(
        "A scan looks up {million:,.0f} stored hashes a second and core in a bank of a million, "
        "{ten:,.0f} in one of ten million. Of two scans on a Ray cluster, one with one of its "
        "{nodes:.0f} nodes killed midway, {differing:.0f} differ from the local scan.",
        scan_speed, "scan", "make bench-scan",
    ),
    Claim(
        "An upload to the gate over HTTP takes {fast_small:.2f} times the processor time of "
        "hashing alone at the level `fast` (300 KB; 12 megapixels: {fast_large:.2f}), and "
        "{windows_small:.2f} times at `windows` ({windows_large:.2f}), with a million hashes.",
        gate_ratios, "gate", "make bench-gate",
    ),
)  # fmt: skip

TABLES = {
    "hashing": "From path to hash",
    "recall": "Which copies are found",
    "false-matches": "False matches of windows",
    "video": "Which copies of videos are found",
    "search": "Search",
    "search-all": "Search, all peers",
    "search-uniform": "Search in random hashes",
    "search-threads": "Search with two threads",
    "candidates": "Search for candidates beyond the radius",
    "service": "The service",
    "veil": "The veil",
    "inversion": "What hashes reveal",
    "inversion-sets": "What the sets of variants reveal",
    "scan": "Scanning what is stored",
    "gate": "The gate",
    "oracle": "The cost of an oracle attack",
}


def load(folder: Path) -> dict[str, Results]:
    """Read every JSON file of results in a folder, by its name without the suffix."""
    return {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))
    }


def environment(results: Results) -> str:
    """Return a line that describes the machine and the versions of these results."""
    parts = [str(results[key]) for key in ("machine", "backend") if key in results]
    if "processors" in results:
        parts.append(f"{results['processors']} processors")
    parts += [f"{name} {version}" for name, version in results.get("versions", {}).items()]
    return ", ".join(parts)


def page(stored: dict[str, Results], tables: Path = RESULTS) -> str:
    """Return the page: each claim with its command, then the tables."""
    lines = [
        "# Evidence",
        "",
        "Generated by `python -m benchmarks.evidence` from `benchmarks/results/`; do not edit.",
        "[Measure again](measure.md) says how to reproduce the results. On the virtual machine of",
        "these results, runs of the same code differ by up to a fifth; ratios less than times.",
        "",
        "| claim | command | results |",
        "|---|---|---|",
    ]
    for claim in CLAIMS:
        if claim.source in stored:
            sentence = claim.text.format(**claim.figures(stored[claim.source]))
            lines.append(f"| {sentence} | `{claim.command}` | [table](#{anchor(claim.source)}) |")
    for name, title in TABLES.items():
        if not (text := tables / f"{name}.md").exists():
            continue
        lines += ["", f"## {title} {{#{anchor(name)}}}", ""]
        if name in stored and (machine := environment(stored[name])):
            lines += [f"*{machine}*", ""]
        for line in text.read_text("utf-8").splitlines():
            lines.append(f"##{line}" if line.startswith("#") else line)
        lines += [
            part
            for picture in pictures(tables, name)
            for part in ("", f"![{title}](plots/{picture.name})")
        ]
    return "\n".join(lines) + "\n"


def pictures(tables: Path, name: str) -> list[Path]:
    """Return the plots that belong to a table."""
    own = {
        "recall": (*("recall-by-edit", "recall-by-level", "recall-by-threshold", "distances"),)
    }.get(name, (name,))
    return [path for stem in own if (path := tables / f"{stem}.png").exists()]


def anchor(name: str) -> str:
    """Return the anchor of a section, which differs from those of headings inside the tables."""
    return f"of-{name}"


def ratios(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, float, bool]]:
    """Yield what can be compared between machines: path, value, and whether more is better."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "times as fast":
                yield from ((" / ".join((*path, other)), x, True) for other, x in each.items())
                continue
            better = (BETTER | WORSE).get(key)
            if better is not None and isinstance(each, int | float):
                yield " / ".join((*path, key)), float(each), better
            else:
                yield from ratios(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            named = [str(each[n]) for n in NAMES if n in each] if isinstance(each, dict) else []
            yield from ratios(each, (*path, ", ".join(named) or str(index)))


def worse(
    new: dict[str, Results], old: dict[str, Results], tolerance: float
) -> tuple[list[str], int]:
    """List the ratios that are worse than stored by more than a share; count those compared."""
    found, compared = [], 0
    for name in new.keys() & old.keys():
        before = {path: (figure, better) for path, figure, better in ratios(old[name])}
        for path, figure, better in ratios(new[name]):
            if path not in before:
                continue
            compared += 1
            stored, _ = before[path]
            less, more = (figure, stored) if better else (stored, figure)
            if less < more * (1 - tolerance):
                found.append(f"{name}: {path}: {figure:.3g}, stored {stored:.3g}")
    return sorted(found), compared


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", type=Path, help="a folder of new results")
    parser.add_argument("--against", type=Path, default=RESULTS, help="a folder of stored results")
    parser.add_argument("--tolerance", type=float, default=0.35, help="share of a ratio")
    parser.add_argument("--out", type=Path, default=PAGE)
    wanted = parser.parse_args()
    if wanted.check is None:
        wanted.out.write_text(page(load(RESULTS)), encoding="utf-8")
        print(f"{wanted.out} has {len(CLAIMS)} claims.")
        return 0
    found, compared = worse(load(wanted.check), load(wanted.against), wanted.tolerance)
    for line in found:
        print(line)
    print(f"{len(found)} of {compared} ratios are worse by more than {wanted.tolerance:.0%}.")
    if not compared:
        print("Nothing could be compared: is it the right folder?", file=sys.stderr)
    return 1 if found or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
