"""Measure a gate: processor time of an upload, latency, load, overload, and memory.

    .venv/bin/python -m benchmarks.gate.run --photos DIR --out benchmarks/results/gate

The gate and its child process run on one core, the load generator on another (if there are two).
Processor time is that of the gate and its child, compared in alternating rounds with
`Sandbox.hash_file` on the same files and the same core: what hashing takes without a gate. The bank
has random hashes.
"""

import argparse
import asyncio
import io
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.common import reporting
from benchmarks.gate import report
from benchmarks.gate.load import Client, Latencies
from benchmarks.hashing.run import pictures
from nciihash.media.limits import LIMITS
from nciihash.sandbox.parent import Sandbox
from nciihash.signals import Level

Results = dict[str, Any]

SIZES: Final = {"300 KB": (1280, 960), "12 MP": (4000, 3000)}
_GRAIN: Final = 6.0
_TARGET_BYTES: Final = 300_000
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_CONFIG: Final = """
server = "http://127.0.0.1:9"
data = "{data}"
jobs = 1
limits = {{ queue = {queue} }}

[http]
listen = "127.0.0.1:0"
level = "{level}"

[clamd]
listen = "127.0.0.1:0"
level = "{level}"
review_as = "block"
"""


@dataclass(frozen=True)
class RunningGate:
    """A gate in a process of its own, and its address for each protocol."""

    process: int
    ports: dict[str, int]

    def tree(self) -> list[int]:
        """Return the ids of the process and of its children."""
        return [self.process, *_children(self.process)]

    def cpu(self) -> float:
        """Return the seconds of processor time of the process and its living children."""
        return sum(_cpu(process) for process in self.tree())

    def memory(self) -> dict[str, int]:
        """Return the resident bytes of the process, and of its children together."""
        sizes = [_resident(process) for process in self.tree()]
        return {"gate": sizes[0], "children": sum(sizes[1:])}


def _children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE


@contextmanager
def gate(
    folder: Path, level: Level, rows: int, core: int, queue: int = 64
) -> Iterator[RunningGate]:
    """Run a gate on one core."""
    data = folder / f"gate-{secrets.token_hex(4)}"
    config = folder / f"{data.name}.toml"
    config.write_text(_CONFIG.format(data=data, level=level.value, queue=queue))
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gate.server", "--config", config, "--rows", str(rows)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"NCIIHASH_KEY": "0" * 64, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit("The gate did not start.")
        yield RunningGate(process.pid, json.loads(line))
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def write_files(folder: Path, photos: Sequence[Path], count: int) -> dict[str, list[Path]]:
    """Write JPEGs of each size, with grain as from a phone; return them by size."""
    files: dict[str, list[Path]] = {name: [] for name in SIZES}
    chosen = [pixels for _, pixels in pictures(photos) if min(pixels.shape[:2]) >= 300][:count]
    rng = np.random.default_rng(0)
    for number, pixels in enumerate(chosen):
        for name, size in SIZES.items():
            big = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
            noisy = big + rng.normal(0, _GRAIN, (*big.shape[:2], 1)).astype(np.float32)
            image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
            path = folder / f"{number}-{name.replace(' ', '')}.jpg"
            path.write_bytes(_jpeg(image, None if name == "12 MP" else _TARGET_BYTES))
            files[name].append(path)
    return files


def _jpeg(image: Image.Image, target: int | None) -> bytes:
    """Return a JPEG of quality 90, or of the quality whose size is nearest to a target."""
    best = b""
    for quality in (90,) if target is None else range(60, 97, 3):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality, subsampling=2)
        data = out.getvalue()
        if not best or target is None or abs(len(data) - target) < abs(len(best) - target):
            best = data
    return best


class Alone:
    """Hashing in the sandbox without a gate, in this process.

    Args:
        files: what to hash.
        fast: as for `Sandbox.hash_file`.
    """

    def __init__(self, sandbox: Sandbox, files: Sequence[Path], *, fast: bool) -> None:
        self._sandbox = sandbox
        self._files = files
        self._fast = fast

    def run(self, count: int, core: int) -> tuple[list[float], float]:
        """Hash `count` files on a core; return the seconds of each, and the processor time."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
        try:
            child = self._child()
            os.sched_setaffinity(child, {core})
            start = time.process_time() + _cpu(child)
            latencies = []
            for number in range(count):
                began = time.perf_counter()
                self._sandbox.hash_file(
                    self._files[number % len(self._files)], variants="match", fast=self._fast
                )
                latencies.append(time.perf_counter() - began)
            return latencies, time.process_time() + _cpu(child) - start
        finally:
            os.sched_setaffinity(0, before)

    def _child(self) -> int:
        _ = self._sandbox.isolation  # starts it
        return next(
            child
            for child in _children(os.getpid())
            if b"nciihash.sandbox" in Path(f"/proc/{child}/cmdline").read_bytes()
        )


def compare(
    running: RunningGate, protocol: str, files: Sequence[Path], rounds: int, count: int, core: int
) -> Results:
    """Compare uploads, one after another, with hashing alone, in alternating rounds."""
    data = [file.read_bytes() for file in files]
    address = ("127.0.0.1", running.ports[protocol])
    sums: dict[str, list[float]] = {"gate": [], "alone fast": [], "alone exact": []}
    times: dict[str, list[float]] = {name: [] for name in sums}
    with Sandbox(replace(LIMITS, threads=1)) as sandbox:
        peers = {
            "alone fast": Alone(sandbox, files, fast=True),
            "alone exact": Alone(sandbox, files, fast=False),
        }
        for peer in peers.values():
            peer.run(2, core)
        asyncio.run(Client(protocol, address, data).closed(2, 1))
        for _ in range(rounds):
            start = running.cpu()
            latencies = asyncio.run(Client(protocol, address, data).closed(count, 1))
            sums["gate"].append((running.cpu() - start) / count)
            times["gate"] += latencies.checked
            for name, peer in peers.items():
                each, cpu = peer.run(count, core)
                sums[name].append(cpu / count)
                times[name] += each
    medians = {name: statistics.median(values) for name, values in sums.items()}
    p50 = {name: statistics.median(values) for name, values in times.items()}
    return {"cpu": medians, "p50": p50, "uploads": rounds * count}


def load_test(
    running: RunningGate, protocol: str, files: Sequence[Path], seconds: float
) -> Results:
    """Measure the most uploads a second, and the latencies at 80 % and at 150 % of them."""
    data = [file.read_bytes() for file in files]
    address = ("127.0.0.1", running.ports[protocol])
    start = running.cpu()
    most = asyncio.run(Client(protocol, address, data).closed(int(40 * seconds), 8))
    busy = running.cpu() - start
    rate = len(most.checked) / most.seconds
    results: Results = {
        "rate": rate,
        "rate of a core": len(most.checked) / busy,
    }
    for name, share in (("80 %", 0.8), ("150 %", 1.5)):
        latencies = asyncio.run(Client(protocol, address, data).open(share * rate, seconds))
        results[name] = percentiles(latencies)
    return results


def percentiles(latencies: Latencies) -> Results:
    """Return percentiles of the uploads that were checked, and how many were refused."""
    checked = sorted(latencies.checked) or [float("nan")]
    return {
        "checked": len(latencies.checked),
        "refused": len(latencies.refused),
        "p50": checked[len(checked) // 2],
        "p99": checked[min(len(checked) - 1, len(checked) * 99 // 100)],
        "refused p99": sorted(latencies.refused)[len(latencies.refused) * 99 // 100]
        if latencies.refused
        else None,
    }


def memory_test(running: RunningGate, files: Sequence[Path], uploads: int) -> list[Results]:
    """Return the memory of the gate and its children, ten times over many uploads."""
    data = [file.read_bytes() for file in files]
    client = Client("http", ("127.0.0.1", running.ports["http"]), data)

    async def run() -> list[Results]:
        found = []
        for step in range(10):
            await client.closed(max(1, uploads // 10), 4)
            found.append({"uploads": (step + 1) * (uploads // 10), **running.memory()})
        return found

    return asyncio.run(run())


def main() -> None:
    """Run all measurements, and write the results."""
    parser = argparse.ArgumentParser(description="Measure a gate.")
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--uploads", type=int, default=20_000, help="of the test of memory")
    parser.add_argument("--out", type=Path, default=Path("build/bench-gate"))
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    core, own = cores[0], cores[-1]
    os.sched_setaffinity(0, {own})
    results: Results = reporting.environment(["nciihash", "uvicorn", "httptools", "simplejpeg"]) | {
        "rows": options.rows,
        "compared": [],
        "load": {},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_files(folder, options.photos, 8)
        results["bytes"] = {
            size: statistics.median(path.stat().st_size for path in paths)
            for size, paths in files.items()
        }
        for level in (Level.FAST, Level.WINDOWS):
            with gate(folder, level, options.rows, core) as running:
                for protocol in ("http", "clamd"):
                    for size, paths in files.items():
                        count = 40 if size == "300 KB" else 10
                        found = compare(running, protocol, paths, options.rounds, count, core)
                        row = {"level": level.value, "protocol": protocol, "size": size, **found}
                        results["compared"].append(row)
                        print(report.compared_line(row), flush=True)
                if level is Level.FAST:
                    results["load"] = load_test(running, "http", files["300 KB"], options.seconds)
                    print(json.dumps(results["load"]), flush=True)
                    results["memory"] = memory_test(running, files["300 KB"], options.uploads)
    reporting.write(options.out, results, report.markdown(results))


if __name__ == "__main__":
    main()
