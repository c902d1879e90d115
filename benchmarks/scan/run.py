"""Measure `nciihash scan` on both executors, with one of three nodes killed midway on Ray.

    .venv/bin/python -m benchmarks.scan.run                                   # a million signals
    .venv/bin/python -m benchmarks.scan.run --rows 1e6 1e7 --out build/scan   # and ten

The input are Parquet files of hashes with the distribution of those of photos, one in a hundred of
them near a signal of the bank. Speeds are measured in core time (`thread_time`), which depends
little on other load, and in wall-clock time. The Ray cluster consists of processes on this machine:
a head, which scans nothing, and three nodes of one core, one of which is killed when a third of the
blocks is finished. Its results must equal those of the uninterrupted local run.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(
    OPENBLAS_NUM_THREADS="1",
    OMP_NUM_THREADS="1",
    NCIIHASH_REQUIRE_KERNEL="1",
    RAY_USAGE_STATS_ENABLED="0",
)

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.common import reporting
from benchmarks.scan import report
from benchmarks.search import peers
from nciihash import Index
from nciihash.bank import snapshot
from nciihash.bank.frozen import FrozenBank, freeze
from nciihash.bank.journal import Journal
from nciihash.bank.snapshot import Table
from nciihash.sandbox.pool import cores
from nciihash.scan import executors
from nciihash.scan.plan import plan
from nciihash.scan.results import ScanFolder
from nciihash.scan.sources import Folder
from nciihash.scan.worker import BlockResult, Job
from nciihash.signals import Media, SignalType, Variant

PACKAGES = ("numpy", "pyarrow", "ray")
BLOCK = 1 << 16  # smaller than the default of a scan, so that a short run has many blocks
NODES = 3
STORE = 200 << 20  # bytes of Ray's object store per node
NEAR = 100  # one stored hash in this many is near a signal of the bank
Results = dict[str, Any]


def main() -> None:
    """Run the benchmark and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--rows", type=float, nargs="+", default=[1e6], help="sizes of the banks, in signals"
    )
    parser.add_argument("--asked", type=float, default=2e6, help="number of stored hashes")
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--price", type=float, default=0.04, help="price of a core hour")
    parser.add_argument("--machine", type=int, default=16, help="cores per machine")
    parser.add_argument(
        "--busy", type=float, default=0.8, help="share of the time that a core is busy"
    )
    parser.add_argument("--within", type=float, default=24, help="maximum hours of a scan")
    parser.add_argument("--local-only", action="store_true", help="run no Ray cluster")
    parser.add_argument("--out", type=Path, help="where to write NAME.json and NAME.md")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    real = peers.real_hashes(options.photos, options.crops, rng)
    results: Results = {
        "setting": reporting.environment(PACKAGES),
        "asked": int(options.asked),
        "block": BLOCK,
        "assumed": {
            "price": options.price, "cores": options.machine,
            "busy": options.busy, "hours": options.within,
        },
        "banks": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="nciihash-scan-") as name:
        folder = Path(name)
        first = peers.bootstrap(real, int(min(options.rows)), rng)
        stored = folder / "stored"
        results["stored_bytes_a_hash"] = store(stored, first, real, int(options.asked), rng)
        empty = bank_file(folder / "empty", first[:0])
        results["reading"] = scan(stored, empty, folder / "out-empty")
        for rows in sorted(map(int, options.rows)):
            packed = first if rows == len(first) else peers.bootstrap(real, rows, rng)
            path = bank_file(folder / f"bank-{rows}", packed)
            measured = scan(stored, path, folder / f"out-{rows}")
            results["banks"].append(
                {"rows": rows, "bytes": path.stat().st_size, "open": open_seconds(path)} | measured
            )
            print(f"{rows:,}: {measured['core_seconds'] / measured['scanned'] * 1e6:.1f} µs a hash")
            if rows == len(first):
                results["followed"] = freeze_followed(folder, packed)
                if not options.local_only:
                    results["ray"] = on_ray(stored, path, folder, f"out-{rows}")
            path.unlink()
    text = report.markdown(results)
    print(text)
    if options.out:
        reporting.write(options.out, results, text)


def store(
    folder: Path, bank: peers.Packed, real: peers.Packed, count: int, rng: np.random.Generator
) -> float:
    """Write Parquet files like those of `nciihash hash --out`; return their bytes per hash."""
    folder.mkdir()
    size = 0
    for number, start in enumerate(range(0, count, 1 << 19)):
        hashes = peers.bootstrap(real, min(1 << 19, count - start), rng)
        near = rng.choice(len(hashes), len(hashes) // NEAR, replace=False)
        hashes[near] = peers.flipped(bank[rng.integers(0, len(bank), len(near))], 31, rng)
        digits = hashes.tobytes().hex()
        names = [f"photos/{n >> 12:04x}/{n & 0xFFF:03x}-{n * 2654435761 % 2**32:08x}.jpg"
                 for n in range(start, start + len(hashes))]  # fmt: skip
        table = pa.table({
            "file": names,
            "media": ["image"] * len(hashes),
            "type": ["pdq"] * len(hashes),
            "value": [digits[at : at + 64] for at in range(0, len(digits), 64)],
            "quality": pa.array(rng.integers(50, 101, len(hashes)), "int8"),
            "variant": ["original"] * len(hashes),
            "time": pa.array([None] * len(hashes), "float64"),
        })  # fmt: skip
        path = folder / f"{number:04}.parquet"
        parquet.write_table(table, path, row_group_size=50_000)
        size += path.stat().st_size
    return size / count


def bank_file(path: Path, packed: peers.Packed) -> Path:
    """Save an index of these hashes and return its path."""
    index = Index()
    index.add(np.arange(len(packed), dtype=np.uint64), packed)
    index.save(path)
    return path


def open_seconds(path: Path) -> float:
    """Return the seconds that opening a frozen bank takes, the second time."""
    for _ in range(2):
        start = time.perf_counter()
        FrozenBank.open(path, verify=False)
        took = time.perf_counter() - start
    return took


def freeze_followed(folder: Path, packed: peers.Packed) -> Results:
    """Time the copying of a bank that `follow` maintains to a frozen bank."""
    count = len(packed)
    rng = np.random.default_rng(1)
    names = np.sort(rng.integers(0, 256, (count, 16), np.uint8).view("S16").reshape(-1))
    table = Table(
        SignalType.PDQ,
        ((Media.IMAGE, Variant.ORIGINAL),),
        names,
        rng.integers(0, 256, (count, 16), np.uint8),
        np.zeros(count, np.uint16),
        np.full(count, 90, np.uint8),
        packed,
    )
    path, lineage = folder / "followed", rng.bytes(16)
    snapshot.write(path, lineage, 1, "c", [table])
    Journal.create(folder / "followed-journal", lineage, 1).close()
    cpu_start, wall_start = time.process_time(), time.perf_counter()
    freeze(path, folder / "frozen")
    copied = {
        "core_seconds": time.process_time() - cpu_start,
        "wall": time.perf_counter() - wall_start,
    }
    size = sum(file.stat().st_size for file in (folder / "frozen").iterdir())
    return {"rows": count, **copied, "bytes": size, "open": open_seconds(folder / "frozen")}


def scan(
    source: Path,
    bank: Path,
    out: Path,
    *,
    on_ray: bool = False,
    after: Callable[[int, int], None] = lambda done, blocks: None,  # noqa: ARG005
) -> Results:
    """Scan as the command does; `after` is called per block with the finished and total numbers."""
    begin = time.perf_counter()
    planned = plan(Folder(source), BLOCK)
    with ScanFolder(out) as findings:
        pinned_path, pin = findings.begin(str(source), planned, bank, {})
        job = Job(str(source), planned.kind, str(pinned_path), pin.fingerprint, ())
        start = time.perf_counter()
        blocks = planned.blocks
        results = executors.ray(job, blocks) if on_ray else executors.local(job, blocks, cores())
        core_seconds, write_seconds, unfinished = 0.0, 0.0, 0
        for outcome in results:
            if not isinstance(outcome, BlockResult):
                unfinished += 1
                continue
            core_seconds += outcome.seconds
            write_start = time.perf_counter()
            findings.write(outcome)
            write_seconds += time.perf_counter() - write_start
            after(len(findings.done), len(blocks))
        wall = time.perf_counter() - start
        findings.finish(planned.refused, complete=not unfinished)
        sizes = [path.stat().st_size for path in (out / "matches").iterdir()]
        return {
            "scanned": findings.totals.scanned,
            "matches": findings.totals.matches,
            "blocks": len(blocks),
            "undone": unfinished,
            "listing_seconds": start - begin,
            "core_seconds": core_seconds,
            "wall": wall,
            "write_seconds_a_block": write_seconds / len(blocks),
            "result_bytes": sum(sizes),
            "load": os.getloadavg()[0],
        }


def matches(out: Path) -> pa.Table:
    """Read all matches of a scan, in the order of blocks."""
    return pa.concat_tables(parquet.read_table(p) for p in sorted((out / "matches").iterdir()))


def on_ray(stored: Path, bank: Path, folder: Path, local: str) -> Results:
    """Scan on a cluster of processes, undisturbed and then with one of three nodes killed."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(NODES)]
        cluster.wait_for_nodes()
        whole = scan(stored, bank, folder / "out-ray", on_ray=True)
        killed: list[int] = []

        def kill(done: int, blocks: int) -> None:
            if not killed and done >= blocks // 3:
                cluster.remove_node(nodes[0], allow_graceful=False)
                killed.append(done)

        broken = scan(stored, bank, folder / "out-killed", on_ray=True, after=kill)
    finally:
        ray.shutdown()
        cluster.shutdown()
    expected = matches(folder / local)
    equal = {
        "whole": matches(folder / "out-ray").equals(expected),
        "killed": matches(folder / "out-killed").equals(expected),
    }
    return {
        "nodes": NODES, "whole": whole, "killed": broken, "killed_after": killed[0], "equal": equal,
    }  # fmt: skip


if __name__ == "__main__":
    main()
