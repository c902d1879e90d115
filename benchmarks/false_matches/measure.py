"""Distances of each picture's hashes, as a query, from the sets of all other pictures in a bank.

What is measured is the rule of `nciihash.Matcher` at the level `thorough`, with two differences,
both towards more matches: candidates are searched exactly within 60 bits, while `Index.query` finds
only most of them, and the number of items that a query is aligned with has no limit.
"""

import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.false_matches.pictures import Picture
from nciihash import Index
from nciihash.hashing.hasher import hash_image
from nciihash.hashing.parts import query_parts
from nciihash.hashing.trimming import trim
from nciihash.hashing.variants import hash_variants
from nciihash.sdk.alignment import align
from nciihash.sdk.matcher import CANDIDATE_BITS
from nciihash.signals import Level
from nciihash.window_tables import BANK_BOXES
from nciihash.windows import WindowHashes, analyse, coefficients_of, hash_windows, pack

OWN_BITS: Final = 80  # own hashes: pairs up to this distance are recorded
ALIGNED: Final = 3  # hashes of an item that a query is aligned with, as in `Matcher`
DISTANCES: Final = 257
FAR: Final = 256  # bits
_SAMPLED: Final = 8  # windows of a query in the histogram of hash pairs
_STRIDE: Final = 3  # of the pictures of the bank in that histogram

Hashes = NDArray[np.uint8]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class BankRows:
    """The hashes of all pictures, row by row.

    Attributes:
        packed: uint8 (n, 32).
        owners: int (n,), the index of the picture of each.
    """

    packed: Hashes
    owners: NDArray[np.intp]


@dataclass(slots=True)
class Near:
    """How near a query is to a picture of the bank; `FAR` where it is not near.

    Attributes:
        own: smallest distance of the query's plain or trimmed hash, up to `OWN_BITS`.
        distinctive: the same, of those with enough detail that a match needs no review.
        window: smallest distance of its windows, up to `CANDIDATE_BITS`.
        aligned: smallest distance of its windows after aligning, if there are candidates, of those
            that still have enough detail.
    """

    own: int = FAR
    distinctive: int = FAR
    window: int = FAR
    aligned: int = FAR


@dataclass(slots=True, eq=False)
class Measured:
    """What was measured.

    Attributes:
        near: the near pairs, by index of the query and of the picture in the bank; pairs of related
            pictures as well.
        counts: int64 (257,), sampled hash pairs of strangers at each distance: `all`, and `gated`
            if both windows have enough detail.
        compared: how many pairs of hashes were compared in all.
        alignments: how many windows were aligned.
    """

    near: dict[tuple[int, int], Near] = field(default_factory=dict)
    counts: dict[str, NDArray[np.int64]] = field(
        default_factory=lambda: {name: np.zeros(DISTANCES, np.int64) for name in ("all", "gated")}
    )
    compared: int = 0
    alignments: int = 0

    def add(self, other: "Measured") -> None:
        """Add what was measured of other queries."""
        self.near |= other.near
        for name, counts in other.counts.items():
            self.counts[name] += counts
        self.compared += other.compared
        self.alignments += other.alignments


class Measurement:
    """Pictures and their bank, of which queries are measured in several processes.

    Args:
        pictures: all pictures; each is a query against all others.
        workers: how many processes.
    """

    def __init__(self, pictures: Sequence[Picture], workers: int) -> None:
        self._pictures = pictures
        self._workers = workers
        every = range(len(pictures))
        self.bank = _rows(in_parallel(self._set_of, every, workers))
        # The windows of some pictures, with and without detail, for the histogram.
        sampled = in_parallel(self._windows_of, every[::_STRIDE], workers)
        self._sampled = _rows([hashes for hashes, _ in sampled], step=_STRIDE)
        self._sampled_gates = np.concatenate([gates for _, gates in sampled])
        self._sources = np.unique([each.source for each in pictures], return_inverse=True)[1]
        self._index = Index()
        self._index.add(np.arange(len(self.bank.packed), dtype=np.uint64), self.bank.packed)
        self._index.settle()

    def run(self, queries: Sequence[int]) -> Measured:
        """Measure some of the pictures as queries."""
        total = Measured()
        for measured in in_parallel(self._query, queries, self._workers):
            total.add(measured)
        return total

    def _set_of(self, number: int) -> Hashes:
        """Return the set of hashes that is submitted of a picture."""
        rgb = self._pictures[number].pixels
        hashes = hash_variants(rgb, hash_image(rgb), "thorough")
        return _packed([each.signal.value for each in hashes if not each.plain])

    def _windows_of(self, number: int) -> tuple[Hashes, NDArray[np.bool_]]:
        """Return the hashes of the bank's windows, and which of them have enough detail."""
        (whole, *_) = query_parts(self._pictures[number].pixels, Level.FAST)
        boxes = tuple(BANK_BOXES.values())
        hashes = pack(coefficients_of(whole.luma.astype(np.float32), boxes))
        return hashes, np.array([analyse(whole.luma, box).distinctive for box in boxes])

    def _query(self, number: int) -> Measured:
        """Measure one picture as a query against all others."""
        rgb = self._pictures[number].pixels
        measured = Measured()
        windows = hash_windows(query_parts(rgb, Level.THOROUGH, trim(rgb)), Level.THOROUGH)
        found: dict[int, Near] = defaultdict(Near)
        self._add_own(number, found)
        self._add_windows(number, windows, found, measured)
        self._sample(number, windows, measured)
        measured.compared = len(windows) * len(self.bank.packed)
        measured.near = {(number, bank): near for bank, near in found.items() if bank != number}
        return measured

    def _add_own(self, number: int, found: dict[int, Near]) -> None:
        """Compare the query's plain and trimmed hashes with all of the bank."""
        rgb = self._pictures[number].pixels
        for each in hash_variants(rgb, hash_image(rgb), "match"):
            if each.plain:
                continue
            packed = np.frombuffer(each.signal.value, np.uint64)
            distances = np.bitwise_count(self.bank.packed.view(np.uint64) ^ packed).sum(axis=1)
            for row in np.flatnonzero(distances <= OWN_BITS).tolist():
                near = found[int(self.bank.owners[row])]
                near.own = min(near.own, int(distances[row]))
                if each.distinctive:
                    near.distinctive = min(near.distinctive, int(distances[row]))

    def _add_windows(
        self, number: int, windows: WindowHashes, found: dict[int, Near], measured: Measured
    ) -> None:
        """Find the candidates of the query's windows, and align each picture's nearest three."""
        for bank, candidates in self._candidates(number, windows).items():
            near = found[bank]
            near.window = candidates[0][0]
            for _, query, row in candidates:
                part, box, mirror = windows.locate(query)
                target = self.bank.packed[row]
                found_at = align(windows.parts[part], box, target, mirror=mirror)
                measured.alignments += 1
                if analyse(found_at.part.luma, found_at.box).distinctive:
                    near.aligned = min(near.aligned, found_at.distance)

    def _candidates(
        self, number: int, windows: WindowHashes
    ) -> dict[int, list[tuple[int, int, int]]]:
        """Return the nearest three hashes of each picture: distance, row of the query, its own."""
        result = self._index.query(windows.hashes, CANDIDATE_BITS, threads=1)
        queries = result.queries
        rows = result.ids.astype(np.intp)
        gates: dict[int, bool] = {}
        found: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for at in np.argsort(result.distances, kind="stable").tolist():
            row, query = int(rows[at]), int(queries[at])
            bank, window = int(self.bank.owners[row]), query % len(windows.boxes)
            known = found.get(bank, [])
            if bank == number or len(known) == ALIGNED or row in (other for *_, other in known):
                continue
            if window not in gates:
                part, box, _ = windows.locate(query)
                gates[window] = analyse(windows.parts[part].luma, box).distinctive
            if gates[window]:
                found[bank].append((int(result.distances[at]), query, row))
        return found

    def _sample(self, number: int, windows: WindowHashes, measured: Measured) -> None:
        """Count hash pairs of strangers at each distance, for a sample of the query's windows."""
        rng = np.random.default_rng((61, number))
        strangers = self._sources[self._sampled.owners] != self._sources[number]
        bank = self._sampled.packed[strangers].view(np.uint64)
        gated = self._sampled_gates[strangers]
        for window in rng.choice(len(windows.boxes), _SAMPLED, replace=False).tolist():
            part, box, _ = windows.locate(window)
            distances = np.bitwise_count(bank ^ windows.hashes[window].view(np.uint64)).sum(axis=1)
            measured.counts["all"] += np.bincount(distances, minlength=DISTANCES)
            if analyse(windows.parts[part].luma, box).distinctive:
                measured.counts["gated"] += np.bincount(distances[gated], minlength=DISTANCES)


def in_parallel(
    function: Callable[[int], Result], numbers: Sequence[int], workers: int
) -> list[Result]:
    """Return the function's results, computed in processes that share this one's memory."""
    context = multiprocessing.get_context("fork")

    def work(share: Sequence[int], sender: Connection) -> None:
        sender.send([function(number) for number in share])
        sender.close()

    running = []
    for worker in range(workers):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(numbers[worker::workers], sender))
        process.start()
        sender.close()
        running.append((process, receiver))
    results: list[Result | None] = [None] * len(numbers)
    for worker, (process, receiver) in enumerate(running):
        results[worker::workers] = receiver.recv()
        process.join()
    return [result for result in results if result is not None]


def _packed(values: Sequence[bytes]) -> Hashes:
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, 32)


def _rows(sets: Sequence[Hashes], step: int = 1) -> BankRows:
    owners = np.repeat(np.arange(len(sets)) * step, [len(each) for each in sets])
    return BankRows(np.ascontiguousarray(np.concatenate(sets)), owners)
