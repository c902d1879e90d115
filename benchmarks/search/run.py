"""Time the search of PDQ hashes, compared with other programs.

    .venv/bin/python -m benchmarks.search.run                    # 100,000 rows, half a minute
    .venv/bin/python -m benchmarks.search.run --rows 1e6 1e7 --radii --out search

The bank has the distribution of hashes of photos: hashes of crops of real photos (`--photos`, or
scikit-image's), cut into four bands and recombined; with `--bank turned`, in all eight
orientations, as in a bank with variants; with `--bank uniform`, random bits. Half of the queries
are rows with 0 to 31 bits flipped, half are unrelated hashes made in the same way as the bank.

All programs run in one process, on one core unless a line says otherwise. Times are medians over
rounds in which the programs take turns; the ratios are more reliable than the times. Programs that
are not installed are skipped. Exact programs must find the same number of hits.
"""

import argparse
import os
import platform
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", NCIIHASH_REQUIRE_KERNEL="1")

import numpy as np

from benchmarks.common import reporting
from benchmarks.search import peers, report
from nciihash import Index
from nciihash.search.index import backend

BATCH = 1024
PACKAGES = ("numpy", "faiss-cpu", "usearch", "numkong", "pybktree", "threatexchange")
Results = dict[str, Any]


def others(rows: peers.Packed, programs: Sequence[str]) -> list[peers.Peer]:
    """Load a bank into the selected programs; skip those that are not installed."""
    found = []
    makers = {
        "flat": lambda: peers.faiss_flat(rows),
        "16x16": lambda: peers.faiss_multihash(rows, 16, 16, 1, slow=len(rows) > 1_000_000),
        "11x23": lambda: peers.faiss_multihash(rows, 11, 23, 2),
        "compact": lambda: peers.ours(rows, 1, compact=True)[0],
        "scrambled": lambda: peers.faiss_multihash(rows, 11, 23, 2, scramble=True),
        "numkong": lambda: peers.numkong(rows),
        "numpy": lambda: peers.numpy(rows),
        "hnsw": lambda: peers.faiss_hnsw(rows),
        "usearch": lambda: peers.usearch_exact(rows),
        "usearch-hnsw": lambda: peers.usearch_hnsw(rows),
        "threatexchange": lambda: peers.threatexchange(rows),
        "pybktree": lambda: peers.bk_tree(rows),
    }
    for program, make in makers.items():
        if program not in programs:
            continue
        try:
            found.append(make())
        except ImportError as error:
            print(f"skipped: {error}")
    return found


def compare(
    rows: peers.Packed,
    queries: peers.Packed,
    rounds: int,
    programs: Sequence[str],
    *,
    compact: bool,
) -> Results:
    """Time the selected programs on one bank, relative to our index or its compact form."""
    own, index = peers.ours(rows, 1, compact=compact)
    found = [own, *others(rows, programs)]
    samples = list(peers.rounds(found, queries, 31, rounds))
    expected: dict[int, int] = {}
    for sample in samples:
        if sample["peer"] == own.name:
            expected[sample["asked"]] = sample["hits"]
    lines = []
    for peer in found:
        of_peer = [sample for sample in samples if sample["peer"] == peer.name]
        of_own = [sample for sample in samples if sample["peer"] == own.name]
        asked, hits = of_peer[0]["asked"], of_peer[0]["hits"]
        correct = expected.get(asked) or own.search(queries[:asked], 31)
        if peer.exact and hits != correct and "ten nearest" not in peer.name:
            print(f"{peer.name} found {hits} hits where there are {correct}")
        lines.append({
            "peer": peer.name, "recall": hits / max(correct, 1),
            "build_seconds": peer.build_seconds,
            "bytes_a_hash": peer.bytes_a_hash,
            **{kind: median(s[kind] for s in of_peer) for kind in ("single", "batch")},
            **{f"{kind}_ratio": median(theirs[kind] / ours[kind] for theirs, ours
                                       in zip(of_peer, of_own, strict=True))
               for kind in ("single", "batch")},
        })  # fmt: skip
    has_hits = np.diff(index.query(queries, 31, threads=1).offsets) > 0
    by_result = {"hits": queries[has_hits], "misses": queries[~has_hits]}
    return {
        "rows": len(rows), "peers": lines, "living": operations(index, rows, queries),
        "batch_of": {name: best_of_five(index, part) for name, part in by_result.items()},
    }  # fmt: skip


def best_of_five(index: Index, queries: peers.Packed) -> float:
    """Return the seconds per query in a batch, the fastest of five runs."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        index.query(queries, 31, threads=1)
        seconds.append(time.perf_counter() - start)
    return min(seconds) / max(len(queries), 1)


def operations(index: Index, rows: peers.Packed, queries: peers.Packed) -> Results:
    """Time opening the file, queries by number of threads, and updates during queries."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank"
        index.save(path)
        for _ in range(2):  # the second time the file is in the page cache
            start = time.perf_counter()
            opened = Index.open(path)
            open_seconds = time.perf_counter() - start
            opened.query(queries[:1], threads=1)
            first_seconds = time.perf_counter() - start
        start = time.perf_counter()
        opened.query(queries, threads=1)
        mapped = (time.perf_counter() - start) / len(queries)
        del opened
    times = {}
    for threads in (1, 2, 4, 8):
        if threads <= len(os.sched_getaffinity(0)):
            many = np.concatenate([queries] * 4)
            start = time.perf_counter()
            index.query(many, threads=threads)
            times[threads] = len(many) / (time.perf_counter() - start)
    stop, latencies = threading.Event(), []

    def query() -> None:
        number = 0
        while not stop.is_set():
            begin = time.perf_counter()
            index.query(queries[number : number + 1], threads=1)
            latencies.append(time.perf_counter() - begin)
            number = (number + 1) % len(queries)

    reader = threading.Thread(target=query)
    reader.start()
    first, added, start = 2**40, 0, time.perf_counter()
    while time.perf_counter() - start < 3:
        ids = np.arange(first + added, first + added + 100, dtype=np.uint64)
        index.add(ids, rows[added % (len(rows) - 100) :][:100])
        added += 100
    adding = added / (time.perf_counter() - start)
    removed, start = 0, time.perf_counter()
    while time.perf_counter() - start < 1 and removed < added:
        removed += index.remove(np.arange(first + removed, first + removed + 100, dtype=np.uint64))
    removing = removed / (time.perf_counter() - start)
    stop.set()
    reader.join()
    index.settle()
    return {
        "open_seconds": open_seconds, "open_and_first_query_seconds": first_seconds,
        "mapped_batch": mapped, "queries_a_second_by_threads": times,
        "adds_a_second_while_querying": adding, "removals_a_second_while_querying": removing,
        "query_while_adding_median": median(latencies),
        "query_while_adding_p99": float(np.quantile(latencies, 0.99)),
    }  # fmt: skip


def by_radius(rows: peers.Packed, queries: peers.Packed) -> list[Results]:
    """Time the index, the flat scan and the choice between them at many radii."""
    _, index = peers.ours(rows, 1)
    lines = []
    for radius in (0, 7, 15, 23, 31, 39, 47, 55, 63):
        line: Results = {"radius": radius}
        for name, method, count in (
            ("chosen", peers.CHOSEN, 256),
            ("index", peers.INDEX, 256),
            ("flat scan", peers.FLAT, 64),
        ):
            batch = queries[:count]
            seconds = []
            for _ in range(2):
                start = time.perf_counter()
                peers.kernel_query(index, batch, radius, method)
                seconds.append((time.perf_counter() - start) / len(batch))
            line[name] = min(seconds)
        lines.append(line)
    return lines


def adversarial(count: int, rng: np.random.Generator) -> list[Results]:
    """Time the index relative to the flat scan on adversarial banks that fill single buckets."""
    centres = rng.integers(0, 256, (1000, 32), dtype=np.uint8)
    halves = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    halves[:, :16] = 0x5A
    banks = {
        "1,000 clusters": peers.flipped(centres[rng.integers(0, 1000, count)], 80, rng),
        "half of each hash identical": halves,
        "one chunk takes 16 values": np.concatenate(
            [rng.integers(0, 16, (count, 1), np.uint8), halves[:, 1:16] & 0, halves[:, 16:]], axis=1
        ),
        "100 hashes, each repeated": centres[rng.integers(0, 100, count)],
        "one hash, repeated": np.repeat(centres[:1], count, axis=0),
    }
    lines = []
    for name, rows in banks.items():
        _, index = peers.ours(rows, 1)
        queries = peers.flipped(rows[rng.integers(0, count, 64)], 60, rng)
        line: Results = {"bank": name, "rows": count}
        for kind, batches in (
            ("single", [queries[n : n + 1] for n in range(16)]),
            ("batch", [queries]),
        ):
            ratios, both = [], (peers.CHOSEN, peers.FLAT)
            for number in range(max(6, 2_500_000 // count)):
                seconds = {}
                for method in both if number % 2 else both[::-1]:
                    start = time.perf_counter()
                    for batch in batches:
                        peers.kernel_query(index, batch, 31, method)
                    seconds[method] = time.perf_counter() - start
                ratios.append(seconds[peers.CHOSEN] / seconds[peers.FLAT])
            line[kind] = median(ratios)
        lines.append(line)
    return lines


def main() -> None:
    """Run the benchmark, and write the tables, the results and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bank", choices=("photos", "turned", "uniform"), default="photos")
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--programs", nargs="*", default=["flat", "16x16", "11x23", "numpy"])
    parser.add_argument(
        "--compact", action="store_true", help="use the compact form of our index, for large banks"
    )
    parser.add_argument("--radii", action="store_true", help="also time many radii")
    parser.add_argument("--hostile", action="store_true", help="also time adversarial banks")
    parser.add_argument("--out", type=Path, help="where to write NAME.json, NAME.md and NAME.png")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    cores = os.sched_getaffinity(0)
    if options.bank == "uniform":
        real = rng.integers(0, 256, (2**20, 32), dtype=np.uint8)
    else:
        turned = options.bank == "turned"
        real = peers.real_hashes(options.photos, options.crops, rng, turned=turned)
    results: Results = {
        "machine": platform.machine(), "cores": len(cores), "backend": backend(),
        "processors": os.cpu_count(), "load": os.getloadavg()[0],
        "bank": options.bank, "real_hashes": len(real), "banks": [],
        "versions": reporting.versions(PACKAGES),
    }  # fmt: skip
    for count in map(int, options.rows):
        rows = peers.bootstrap(real, count, rng)
        half = BATCH // 2
        planted = peers.flipped(rows[rng.integers(0, count, half)], 31, rng)
        queries = np.concatenate([planted, peers.bootstrap(real, half, rng)])
        queries = queries[rng.permutation(BATCH)]
        results["banks"].append(
            compare(rows, queries, options.rounds, options.programs, compact=options.compact)
        )
        # at the first size that is not too large; the largest is first, in unfragmented memory
        if options.radii and count <= 1_000_000 and "by_radius" not in results:
            results["by_radius"] = {"rows": count, "times": by_radius(rows, queries)}
        if options.hostile and count <= 1_000_000 and "hostile" not in results:
            results["hostile"] = adversarial(count, rng)
        print(report.markdown(results, only=count))
        if options.out:
            reporting.write(options.out, results, report.markdown(results))
            report.plot(results, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
