"""Write docs/evidence.md from the stored results, or hold a new run against them.

    python -m benchmarks.evidence
    python -m benchmarks.evidence --check FOLDER --against benchmarks/results/quick

The check compares ratios and shares alone, since times belong to a machine: what is worse than
before by more than the tolerance is named, and the exit status is 1.
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
# What names an element of a list in the results, so that runs of other lengths can be compared.
NAMES = ("peer", "way", "pixels", "rows", "kind", "bits", "line", "name")
# Values that compare two programs, or a share, and whether more of it is better.
BETTER = {"ratio": True, "single_ratio": True, "batch_ratio": True, "recall": True}
WORSE = {"of_the_flat_scan": False}

Results = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """A sentence with its figures, and how to make them again.

    Attributes:
        text: the sentence, with places for the figures by name.
        figures: takes the figures out of the results.
        source: which results, without ending.
        command: makes them.
    """

    text: str
    figures: Callable[[Results], dict[str, float]]
    source: str
    command: str


def bank(results: Results, rows: float, tolerance: float = 0.01) -> Results:
    """Give the results of a bank of so many rows."""
    for each in results["banks"]:
        if abs(each["rows"] - rows) <= tolerance * rows:
            return dict(each)
    raise KeyError(rows)


def speeds(rows: float, peer: str) -> Callable[[Results], dict[str, float]]:
    """Give how many times faster than a peer we are, singly and in batches."""

    def figures(results: Results) -> dict[str, float]:
        [found] = [p for p in bank(results, rows)["peers"] if p["peer"] == peer]
        return {"one": found["single_ratio"], "batch": found["batch_ratio"]}

    return figures


def ours(rows: float) -> Callable[[Results], dict[str, float]]:
    """Give how long our own search takes, and what a hash takes in memory."""

    def figures(results: Results) -> dict[str, float]:
        [found] = [p for p in bank(results, rows)["peers"] if p["peer"] == "nciihash"]
        return {
            "one": found["single"] * 1e6,
            "batch": found["batch"] * 1e6,
            "bytes": found["bytes_a_hash"],
        }

    return figures


def hashing(way: str) -> Callable[[Results], dict[str, float]]:
    """Give how many times faster than others one way of hashing large photos is."""

    def figures(results: Results) -> dict[str, float]:
        [found] = [w for w in results["races"]["12 megapixels"]["ways"] if w["way"] == way]
        times = found["times as fast"]
        return {
            "ms": found["seconds"] * 1000,
            "pdqhash": times["pdqhash + Pillow"],
            "phash": times["imagehash.phash"],
            "limit": 100 * times["Pillow's scaled decode alone"],
        }

    return figures


def bits(results: Results) -> dict[str, float]:
    """Give how far exact hashes are from the reference's, and fast ones from exact ones."""
    exact, fast = results["exact"], results["fast"]
    return {
        "pictures": exact["pictures"],
        "equal": exact["equal"],
        "mean": fast["mean"],
        "most": fast["max"],
    }


def recall(*path: str) -> Callable[[Results], dict[str, float]]:
    """Give what is found of a group of edits: by one hash, by the standard and the full set."""

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


def filmed(results: Results) -> dict[str, float]:
    """Give what of videos is found, in per cent, and what hashing costs beside decoding."""
    found = {row["name"]: row for row in results["copies"]}
    ways = {way["way"]: way["of the decode"] for way in results["costs"][0]["ways"]}
    return {
        "trimmed": 100 * found["trimmed to the middle"]["plain"]["recall"],
        "mirrored": 100 * found["mirrored"]["standard"]["recall"],
        "none": ways["none"],
    }


def strangers(results: Results) -> dict[str, float]:
    """Give how many pairs of different photos were compared, and how near they came."""
    found = results["others"]["full"]
    return {"pairs": found["pairs"], "false": found["false"], "closest": found["closest"]}


def asked(kind: str) -> Callable[[Results], dict[str, float]]:
    """Give how many queries a second the service answers, of one kind of request."""

    def figures(results: Results) -> dict[str, float]:
        found = results["banks"][-1]
        return {
            "a_second": found["match"][kind]["a_second"],
            "ratio": found["match"][kind]["a_second"] / found["peer"]["a_second"],
            "rows": found["rows"],
        }

    return figures


def visible(results: Results) -> dict[str, float]:
    """Give how long it takes until platforms have heard of a submission."""
    found = results["banks"][-1]["visible"]
    return {"p50": found["p50_ms"], "p99": found["p99_ms"], "platforms": found["platforms"]}


def scanned(results: Results) -> dict[str, float]:
    """Give how many stored hashes a core looks up in a second, and how many runs went astray."""
    speeds = [bank(results, rows) for rows in (1e6, 1e7)]
    million, ten = (one["scanned"] / one["core_seconds"] for one in speeds)
    ray = results["ray"]
    differing = sum(not equal for equal in ray["equal"].values())
    return {"million": million, "ten": ten, "nodes": ray["nodes"], "differing": differing}


SEARCH = "make bench-search"
_SPEED = "{one:,.0f} times faster for one query and {batch:,.0f} times in batches than "
CLAIMS = (
    Claim(
        "From a 12-megapixel JPEG to its hash, fast: {ms:.0f} ms on one core, {pdqhash:.0f} times "
        "as fast as pdqhash and Pillow, {phash:.1f} times as imagehash.phash, at {limit:.0f} % of "
        "the speed of a scaled decode alone.",
        hashing("nciihash, fast"), "hashing", "make bench-hashing",
    ),
    Claim(
        "The same, exact: {ms:.0f} ms, {pdqhash:.1f} times as fast as pdqhash and Pillow.",
        hashing("nciihash, exact"), "hashing", "make bench-hashing",
    ),
    Claim(
        "Exact hashes have the bits of the pdqhash package for {equal:.0f} of {pictures:.0f} "
        "pictures; fast ones are {mean:.2f} bits from exact ones on average, {most:.0f} at most.",
        bits, "hashing", "make bench-hashing",
    ),
    Claim(
        "A query of a bank of a million hashes takes {one:.0f} us ({batch:.0f} us in a batch), and "
        "a hash takes {bytes:.0f} bytes.", ours(1e6), "search", SEARCH,
    ),
    Claim(
        "Of ten million: {one:.0f} us ({batch:.0f} us in a batch), {bytes:.0f} bytes a hash.",
        ours(1e7), "search", SEARCH,
    ),
    Claim(
        "At a million, " + _SPEED + "faiss's exact flat index.",
        speeds(1e6, "faiss Flat"), "search", SEARCH,
    ),
    Claim(
        "At ten million, " + _SPEED + "faiss's exact flat index.",
        speeds(1e7, "faiss Flat"), "search", SEARCH,
    ),
    Claim(
        "At ten million, " + _SPEED + "faiss's multi-index hashing, 16 x 16.",
        speeds(1e7, "faiss MultiHash 16x16, 1 flips"), "search", SEARCH,
    ),
    Claim(
        "Of copies that were saved again, one hash finds {plain:.0f} %, the standard set "
        "{standard:.0f} %.", recall("groups", "saved again"), "recall", "make bench-recall",
    ),
    Claim(
        "Of cropped copies, one hash finds {plain:.0f} %, the standard set {standard:.0f} %, the "
        "full set {full:.0f} %.", recall("groups", "crop"), "recall", "make bench-recall",
    ),
    Claim(
        "Of copies in a frame, one hash finds {plain:.0f} %, the standard set with a trimmed query "
        "{standard:.0f} %; of screenshots see the table.",
        recall("groups", "frame"), "recall", "make bench-recall",
    ),
    Claim(
        "Of twenty hard edits that had no part in choosing the set: {plain:.0f} %, "
        "{standard:.0f} %, {full:.0f} %. Of collages none.",
        recall("held aside"), "recall", "make bench-recall",
    ),
    Claim(
        "Of {pairs:,.0f} pairs of hashes of different photos {false:.0f} matched; the closest were "
        "{closest:.0f} bits apart.", strangers, "recall", "make bench-recall",
    ),
    Claim(
        "Of videos' copies that were trimmed to the middle and saved anew, {trimmed:.0f} % of the "
        "frames are found; of mirrored ones none, with the standard set {mirrored:.0f} %. Hashing "
        "takes {none:.2f} times the decoding alone.", filmed, "video", "make bench-video",
    ),
    Claim(
        "One worker of the service answers {a_second:,.0f} queries a second in batches of octets "
        "on {rows:,.0f} hashes: {ratio:,.0f} times what threatexchange behind Flask answers, "
        "which takes one hash a request.",
        asked("octets, 10,000 a request"), "service", "make bench-service",
    ),
    Claim(
        "Asked singly by JSON it answers {a_second:,.0f} a second: {ratio:.2f} times that "
        "peer.",
        asked("JSON, 1 a request"), "service", "make bench-service",
    ),
    Claim(
        "Half of {platforms:.0f} waiting platforms have a submission within {p50:.0f} ms, 99 of "
        "100 within {p99:.0f} ms, on one core.", visible, "service", "make bench-service",
    ),
    Claim(
        "A scan looks up {million:,.0f} stored hashes a second and core in a bank of a million, "
        "{ten:,.0f} in one of ten million. Of two scans on a Ray cluster, one with one of its "
        "{nodes:.0f} nodes killed midway, {differing:.0f} differ from the local one.",
        scanned, "scan", "make bench-scan",
    ),
)  # fmt: skip

TABLES = {
    "hashing": "From path to hash",
    "recall": "Which copies are found",
    "video": "Which copies of videos are found",
    "search": "Search",
    "search-all": "Search, all peers",
    "search-uniform": "Search in random hashes",
    "search-threads": "Search with two threads",
    "service": "The service",
    "veil": "The veil",
    "inversion": "What hashes give away",
    "scan": "Matching everything at once",
    "oracle": "What finding out a hash by questions costs",
}


def load(folder: Path) -> dict[str, Results]:
    """Read every JSON file of results in a folder, by its name without ending."""
    return {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))
    }


def where(results: Results) -> str:
    """Tell in a line on what these results were made."""
    parts = [str(results[key]) for key in ("machine", "backend") if key in results]
    if "processors" in results:
        parts.append(f"{results['processors']} processors")
    parts += [f"{name} {version}" for name, version in results.get("versions", {}).items()]
    return ", ".join(parts)


def page(stored: dict[str, Results], tables: Path = RESULTS) -> str:
    """Give the page: each claim beside its command, then the tables."""
    lines = [
        "# Evidence",
        "",
        "Made by `python -m benchmarks.evidence` from `benchmarks/results/`; not written by hand.",
        "How to make the results again stands in [Measure again](measure.md). Runs of the same",
        "code differ by up to a fifth on the virtual machine of these; ratios less than times.",
        "",
        "| claim | made again by | results |",
        "|---|---|---|",
    ]
    for claim in CLAIMS:
        if claim.source in stored:
            said = claim.text.format(**claim.figures(stored[claim.source]))
            lines.append(f"| {said} | `{claim.command}` | [table](#{anchor(claim.source)}) |")
    for name, title in TABLES.items():
        if not (text := tables / f"{name}.md").exists():
            continue
        lines += ["", f"## {title} {{#{anchor(name)}}}", ""]
        if name in stored and (made := where(stored[name])):
            lines += [f"*{made}*", ""]
        for line in text.read_text("utf-8").splitlines():
            lines.append(f"##{line}" if line.startswith("#") else line)
        lines += [
            part
            for picture in pictures(tables, name)
            for part in ("", f"![{title}](plots/{picture.name})")
        ]
    return "\n".join(lines) + "\n"


def pictures(tables: Path, name: str) -> list[Path]:
    """Give the plots that belong to a table."""
    own = {"recall": ("recall-by-edit", "recall-by-threshold", "distances")}.get(name, (name,))
    return [path for stem in own if (path := tables / f"{stem}.png").exists()]


def anchor(name: str) -> str:
    """Give a place on the page that no heading of a table has."""
    return f"of-{name}"


def ratios(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, float, bool]]:
    """Walk results for what can be compared between machines: where, how much, is more better."""
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
        for place, each in enumerate(value):
            named = [str(each[n]) for n in NAMES if n in each] if isinstance(each, dict) else []
            yield from ratios(each, (*path, ", ".join(named) or str(place)))


def worse(
    new: dict[str, Results], old: dict[str, Results], tolerance: float
) -> tuple[list[str], int]:
    """Name the ratios that are worse than stored by more than a share; count those compared."""
    found, compared = [], 0
    for name in new.keys() & old.keys():
        before = {where: (figure, better) for where, figure, better in ratios(old[name])}
        for place, figure, better in ratios(new[name]):
            if place not in before:
                continue
            compared += 1
            stored, _ = before[place]
            less, more = (figure, stored) if better else (stored, figure)
            if less < more * (1 - tolerance):
                found.append(f"{name}: {place}: {figure:.3g}, stored {stored:.3g}")
    return sorted(found), compared


def main() -> int:
    """Do what the command line says."""
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
