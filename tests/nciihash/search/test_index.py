"""The index equals brute force after any interleaving of calls, and refuses damaged files."""

import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

from nciihash import Index, Matches
from nciihash.errors import IndexFileInvalid, InvalidSignal
from nciihash.hamming import distances
from nciihash.search import index as index_module
from nciihash.search import segments
from nciihash.search.index import WIDTHS

kernel = index_module.kernel
BACKENDS = [*(kernel.backends() if kernel else []), "numpy"]

Ids = NDArray[np.uint64]
Packed = NDArray[np.uint8]


def as_ids(numbers) -> Ids:
    return np.array(list(numbers), dtype=np.uint64)


def brute_force(bank: dict[int, bytes], queries: Packed, radius: int) -> list[list]:
    """Return for each query the (id, distance) pairs that an index must report, in its order."""
    if not bank:
        return [[] for _ in queries]
    rows = np.frombuffer(b"".join(bank.values()), np.uint8).reshape(len(bank), -1)
    result = []
    for row in distances(queries, rows).tolist():
        matches = [(id, d) for id, d in zip(bank, row, strict=True) if d <= radius]
        result.append(sorted(matches, key=lambda hit: (hit[1], hit[0])))
    return result


def hits(found: Matches) -> list[list]:
    """Check the form of an index's result, and return it in the form of `brute_force`."""
    assert found.offsets.dtype == np.int64
    assert found.ids.dtype == np.uint64
    assert found.distances.dtype == np.uint16
    assert found.offsets[0] == 0
    assert found.offsets[-1] == len(found.ids) == len(found.distances)
    pairs = list(zip(found.ids.tolist(), found.distances.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def random_packed(rng: np.random.Generator, count: int, bits: int = 256) -> Packed:
    return rng.integers(0, 256, (count, bits // 8), dtype=np.uint8)


def flipped(rng: np.random.Generator, packed: Packed, most: int) -> Packed:
    """Flip up to `most` bits of each hash."""
    bits = np.unpackbits(packed, axis=1)
    for row in bits:
        row[rng.choice(bits.shape[1], rng.integers(0, most + 1), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


class Interleaving(RuleBasedStateMachine):
    """Any order of add, remove, save, open and query, compared with a dictionary."""

    @initialize(
        bits=st.sampled_from(WIDTHS),
        seed=st.integers(0, 2**32 - 1),
        clustered=st.booleans(),
        compact=st.booleans(),
    )
    def begin(self, bits: int, seed: int, clustered: bool, compact: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.bits = bits
        self.index = Index(bits, compact=compact and bits != 144)
        self.bank: dict[int, bytes] = {}
        # all hashes are close to a few centres, or to many
        self.centres = random_packed(self.rng, 3 if clustered else 200, bits)
        self.all_ids: list[int] = [0, 2**64 - 1, 2**63]
        self.folder = Path(os.environ["INDEX_TEST_FOLDER"])

    def near_centres(self, count: int) -> Packed:
        picks = self.centres[self.rng.integers(0, len(self.centres), count)]
        return flipped(self.rng, picks, self.bits // 6)

    @rule(count=st.integers(0, 40), rising=st.booleans())
    def add(self, count: int, rising: bool) -> None:
        if rising:
            first = max(self.bank, default=0)
            ids = [n for n in range(first + 1, first + 1 + count) if n < 2**64]
        else:
            fresh = self.rng.integers(0, 2**64, count, dtype=np.uint64, endpoint=False).tolist()
            ids = [n for n in dict.fromkeys([*self.all_ids[:4], *fresh]) if n not in self.bank]
        packed = self.near_centres(len(ids))
        self.index.add(as_ids(ids), packed)
        self.bank.update(zip(ids, map(bytes, packed), strict=True))
        self.all_ids.extend(ids)

    @rule(share=st.floats(0, 1), unknown=st.integers(0, 3))
    def remove(self, share: float, unknown: int) -> None:
        some = [n for n in self.all_ids if self.rng.random() < share]
        some += self.rng.integers(0, 2**64, unknown, dtype=np.uint64).tolist()
        known = {n for n in some if n in self.bank}
        assert self.index.remove(as_ids(some)) == len(known)
        for n in known:
            del self.bank[n]

    @rule()
    def settle(self) -> None:
        self.index.settle()

    @rule()
    def save_and_open(self) -> None:
        path = self.folder / "a.index"
        self.index.save(path)
        self.index = Index.open(path)
        self.index.verify()

    @precondition(lambda self: self.bank)
    @rule(twice=st.booleans())
    def refuse_duplicates(self, twice: bool) -> None:
        free = next(n for n in range(2**63, 2**64) if n not in self.bank)
        ids = as_ids([free, free] if twice else [free, next(iter(self.bank))])
        with pytest.raises(ValueError, match="already or was given twice"):
            self.index.add(ids, self.near_centres(2))

    @rule(count=st.integers(0, 6), data=st.data())
    def query(self, count: int, data: st.DataObject) -> None:
        radius = data.draw(st.one_of(st.integers(0, self.bits), st.sampled_from([0, 31, 63])))
        queries = self.near_centres(count)
        if count and self.bank:
            queries[0] = np.frombuffer(next(iter(self.bank.values())), np.uint8)
        assert hits(self.index.query(queries, radius)) == brute_force(self.bank, queries, radius)

    @rule(count=st.integers(1, 6), radius=st.integers(0, 63), beyond=st.integers(0, 40))
    def query_candidates(self, count: int, radius: int, beyond: int) -> None:
        queries = self.near_centres(count)
        found = hits(self.index.query(queries, radius, candidates=radius + beyond))
        within = [[hit for hit in each if hit[1] <= radius] for each in found]
        assert within == brute_force(self.bank, queries, radius)
        for each, all_within in zip(
            found, brute_force(self.bank, queries, radius + beyond), strict=True
        ):
            assert len(set(each)) == len(each)
            assert set(each) <= set(all_within)
            assert each == sorted(each, key=lambda hit: (hit[1], hit[0]))

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "bank"):
            assert len(self.index) == len(self.bank)
            for n in self.all_ids[-5:]:
                assert (n in self.index) == (n in self.bank)


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch) -> Iterator[str]:
    """Search with each available backend."""
    if request.param == "numpy":
        monkeypatch.setattr(segments, "kernel", None)
        monkeypatch.setattr(index_module, "kernel", None)
        yield request.param
    else:
        best = kernel.backend()
        kernel.choose(request.param)
        yield request.param
        kernel.choose(best)


@pytest.fixture(params=[1 << 16, 7], ids=["one block", "many blocks"])
def block(request, monkeypatch) -> int:
    """Make small banks span many blocks, as large ones do."""
    monkeypatch.setattr(segments, "_BLOCK", request.param)
    return request.param


@pytest.mark.parametrize("small", [4096, 32])
def test_any_interleaving_equals_brute_force(backend, small, tmp_path, monkeypatch):
    monkeypatch.setenv("INDEX_TEST_FOLDER", str(tmp_path))
    monkeypatch.setattr(index_module, "_SMALL", small)  # creates several segments
    for module in (segments, index_module):
        monkeypatch.setattr(module, "TABLES_FROM", small)  # and tables
    monkeypatch.setattr(segments, "WINDOWS_FROM", 4 * small)  # and windows
    if kernel:

        def query(*args, **keywords):
            return kernel.query(*args, 1, **keywords)  # the cost model would scan such small banks

        monkeypatch.setattr(segments, "_BLOCK", 7)
        if index_module.kernel:
            monkeypatch.setattr(index_module, "kernel", SimpleNamespace(query=query))
    run_state_machine_as_test(
        Interleaving,
        settings=settings(
            max_examples=max(20, settings().max_examples // 2), stateful_step_count=30
        ),
    )


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_radius_equals_brute_force(bits, block, backend):
    rng = np.random.default_rng(bits)
    centre = random_packed(rng, 1, bits)
    rows = np.concatenate(
        [flipped(rng, centre.repeat(150, 0), bits), random_packed(rng, 50, bits), centre, centre]
    )
    bank = dict(zip(rng.permutation(len(rows)).tolist(), map(bytes, rows), strict=True))
    index = Index(bits)
    index.add(as_ids(bank), rows)
    queries = np.concatenate([centre, rows[:2], random_packed(rng, 1, bits), ~centre])
    for radius in range(bits + 2):
        assert hits(index.query(queries, radius)) == brute_force(bank, queries, radius)


@pytest.mark.parametrize("constant", [0, 255])
@pytest.mark.parametrize("count", [1, 9, 5000, 20000])
def test_banks_of_equal_hashes_report_every_row_in_order_of_ids(constant, count, block, backend):
    index = Index(64)
    ids = np.random.default_rng(0).permutation(count).astype(np.uint64)
    index.add(ids, np.full((count, 8), constant, np.uint8))
    same = np.full((1, 8), constant, np.uint8)
    found = index.query(np.concatenate([same, ~same]), 0)
    assert found.offsets.tolist() == [0, count, count]
    assert found.ids.tolist() == list(range(count))
    assert not found.distances.any()


def test_empty_banks_and_empty_queries_are_valid(tmp_path):
    index = Index()
    index.add(as_ids([]), np.empty((0, 32), np.uint8))
    assert index.remove(as_ids([])) == 0
    assert len(index) == 0
    assert hits(index.query(np.zeros((2, 32), np.uint8))) == [[], []]
    assert hits(index.query(np.empty((0, 32), np.uint8))) == []
    index.save(tmp_path / "empty")
    opened = Index.open(tmp_path / "empty")
    opened.verify()
    assert hits(opened.query(np.zeros((1, 32), np.uint8), 256)) == [[]]
    opened.add(as_ids([5]), np.zeros((1, 32), np.uint8))
    assert hits(opened.query(np.empty((0, 32), np.uint8))) == []
    assert 5 in opened
    assert np.uint64(5) in opened
    assert 4 not in opened
    assert -1 not in opened
    assert 2**64 not in opened
    assert "5" not in opened


def test_read_only_strided_and_reversed_arrays_are_valid():
    rng = np.random.default_rng(1)
    wide = random_packed(rng, 40, 512)
    for packed in (wide[:, ::2], wide[::-1, 3:35], np.asfortranarray(wide[:, :32])):
        ids = np.arange(80, dtype=np.uint64)[::-2]
        packed.flags.writeable = False
        ids.flags.writeable = False
        index = Index()
        index.add(ids, packed)
        bank = dict(zip(ids.tolist(), map(bytes, packed), strict=True))
        assert hits(index.query(packed, 140)) == brute_force(bank, packed, 140)


def test_arrays_of_the_caller_are_copied():
    ids, packed = as_ids([1, 2]), np.zeros((2, 32), np.uint8)
    index = Index()
    index.add(ids, packed)
    ids[:], packed[:] = 9, 255
    assert hits(index.query(np.zeros((1, 32), np.uint8), 0)) == [[(1, 0), (2, 0)]]


@pytest.mark.parametrize(
    ("packed", "error"),
    [
        (np.zeros((1, 32), np.int8), InvalidSignal),
        (np.zeros((1, 31), np.uint8), InvalidSignal),
        (np.zeros(32, np.uint8), InvalidSignal),
        (np.zeros((1, 4), np.uint64), InvalidSignal),
        ([[0] * 32], InvalidSignal),
    ],
)
def test_invalid_hashes_are_refused_and_change_nothing(packed, error):
    index = Index()
    with pytest.raises(error, match=r"uint8 array of shape \(n, 32\)"):
        index.add(as_ids([1]), packed)
    with pytest.raises(error):
        index.query(packed)
    assert len(index) == 0


@pytest.mark.parametrize(
    "ids", [np.array([1]), np.array([[1]], np.uint64), [1], as_ids([]), as_ids([1, 2]), None]
)
def test_invalid_ids_are_refused_and_change_nothing(ids):
    index = Index()
    index.add(as_ids([7]), np.zeros((1, 32), np.uint8))
    with pytest.raises(ValueError, match=r"[Ii]ds"):
        index.add(ids, np.zeros((1, 32), np.uint8))
    if not (isinstance(ids, np.ndarray) and ids.dtype == np.uint64 and ids.ndim == 1):
        with pytest.raises(ValueError, match="Ids"):
            index.remove(ids)
    assert len(index) == 1
    assert 1 not in index


def test_invalid_radius_and_width_are_refused():
    index = Index()
    with pytest.raises(ValueError, match="0 or more"):
        index.query(np.zeros((1, 32), np.uint8), -1)
    with pytest.raises(TypeError):
        index.query(np.zeros((1, 32), np.uint8), 1.5)
    for bits in (0, 8, 255, 512):
        with pytest.raises(ValueError, match="64, 128, 144, 160, 256"):
            Index(bits)


def test_memory_stays_within_bounds_and_removed_rows_are_freed(backend):
    rng = np.random.default_rng(2)
    index = Index()
    for start in range(0, 150_000, 1500):
        index.add(np.arange(start, start + 1500, dtype=np.uint64), random_packed(rng, 1500))
    index.settle()
    assert len(index) == 150_000
    # 40 B per hash; the kernel's tables take 96 B and, at this size, 11 B of offsets
    assert index.nbytes <= (41 if backend == "numpy" else 150) * 150_000
    full = index.nbytes
    assert index.remove(np.arange(0, 150_000, 2, dtype=np.uint64)) == 75_000
    index.settle()
    assert index.nbytes <= full * 0.62
    index.remove(np.arange(150_000, dtype=np.uint64))
    index.settle()
    assert (len(index), index.nbytes) == (0, 0)


def test_queries_never_see_half_a_change_of_another_thread():
    # Every state of the bank has exactly 64 copies of the query in each group; a reader that saw
    # half an addition or removal would count another number.
    index = Index()
    query = np.zeros((1, 32), np.uint8)
    rng = np.random.default_rng(3)
    index.add(np.arange(10**6, 10**6 + 20_000, dtype=np.uint64), random_packed(rng, 20_000) | 1)
    stop, torn, seen = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            ids = index.query(query, 0).ids
            groups, counts = np.unique(ids // np.uint64(64), return_counts=True)
            if (counts != 64).any() or len(groups) > 2:
                torn.append(ids)
            seen.update(groups.tolist())

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    for group in range(150):
        ids = np.arange(64 * group, 64 * group + 64, dtype=np.uint64)
        index.add(ids, query.repeat(64, 0))
        if group:
            assert index.remove(ids - np.uint64(64)) == 64
    stop.set()
    for thread in readers:
        thread.join()
    assert not torn
    assert len(seen) > 1


# --- the file --------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path) -> Path:
    index = Index(144)
    rng = np.random.default_rng(4)
    index.add(np.arange(100, 150, dtype=np.uint64), random_packed(rng, 50, 144))
    path = tmp_path / "bank.index"
    index.save(path)
    return path


def with_checksum(data: bytes) -> bytes:
    """Return a file with the checksum of its modified header corrected."""
    return data[:120] + blake2b(data[:120], digest_size=16).digest() + data[136:]


def test_a_flipped_bit_in_any_byte_is_detected(saved):
    good = saved.read_bytes()
    assert len(good) == 192 + 448 + 960  # ids and hashes, padded to 64 bytes
    for offset in range(len(good)):
        data = bytearray(good)
        data[offset] ^= 1 << offset % 8
        saved.write_bytes(data)
        if offset < 192:
            with pytest.raises(IndexFileInvalid):
                Index.open(saved)
        else:
            index = Index.open(saved)
            with pytest.raises(IndexFileInvalid, match="ids" if offset < 640 else "hashes"):
                index.verify()
    saved.write_bytes(good)
    Index.open(saved).verify()


def test_a_truncated_or_extended_file_is_refused(saved):
    good = saved.read_bytes()
    for length in (0, 1, 7, 8, 20, 127, 191, 192, 193, 640, len(good) - 1):
        saved.write_bytes(good[:length])
        with pytest.raises(IndexFileInvalid, match="truncated" if length else "not an index"):
            Index.open(saved)
    saved.write_bytes(good + b"\0")
    with pytest.raises(IndexFileInvalid, match="longer"):
        Index.open(saved)


def test_foreign_newer_swapped_and_unknown_files_have_messages_of_their_own(saved):
    good = saved.read_bytes()
    cases = {
        b"\x89PNG\r\n\x1a\n" + good[8:]: "not an index file",
        with_checksum(good[:12] + struct.pack("=I", 2) + good[16:]): "newer version",
        good[:8] + good[8:12][::-1] + good[12:]: "other byte order",
        good[:8] + b"abcd" + good[12:]: "damaged",
        with_checksum(good[:16] + struct.pack("=I", 77) + good[20:]): "77 bits",
        # a wrong length in a header that is otherwise valid
        with_checksum(good[:24] + struct.pack("=Q", 2**61) + good[32:]): "truncated",
    }
    for data, message in cases.items():
        saved.write_bytes(data)
        with pytest.raises(IndexFileInvalid, match=message):
            Index.open(saved)
    saved.unlink()
    with pytest.raises(FileNotFoundError):
        Index.open(saved)


def test_changes_in_memory_do_not_modify_the_opened_file(saved):
    before = saved.read_bytes()
    index = Index.open(saved)
    assert index.remove(np.arange(120, dtype=np.uint64)) == 20
    index.add(as_ids([3]), np.zeros((1, 18), np.uint8))
    assert len(index) == 31
    assert saved.read_bytes() == before
    index.save(saved)  # over the file that it is mapped from
    opened = Index.open(saved)
    opened.verify()
    query = np.zeros((1, 18), np.uint8)
    assert hits(opened.query(query, 144)) == hits(index.query(query, 144))
    assert len(opened) == 31


def test_a_saved_file_is_private_and_contains_no_removed_value(tmp_path):
    index = Index()
    secret = np.frombuffer(b"a value that its owner withdrew!", np.uint8).reshape(1, 32)
    index.add(as_ids([1]), secret)
    index.add(as_ids(range(2, 9)), random_packed(np.random.default_rng(5), 7))
    index.remove(as_ids([1]))
    index.save(tmp_path / "bank")
    assert (tmp_path / "bank").stat().st_mode & 0o777 == 0o600
    assert b"withdrew" not in np.fromfile(tmp_path / "bank", np.uint8).tobytes()
    words = np.fromfile(tmp_path / "bank", np.uint64)
    assert not np.isin(words, segments.scrambled(secret).view(np.uint64)).any()


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(moment, saved, monkeypatch):
    before = saved.read_bytes()
    index = Index(144)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    if moment == "write":
        monkeypatch.setattr("nciihash.search.index_file.blake2b", interrupt)
    elif moment == "fsync":
        monkeypatch.setattr(os, "fsync", interrupt)
    else:
        monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index.save(saved)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]
    assert saved.read_bytes() == before


def test_a_save_is_synced_before_it_replaces_the_old_file(saved, monkeypatch):
    order = []
    fsync, replace = os.fsync, Path.replace

    def record_fsync(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112 - follows a descriptor
        fsync(descriptor)

    def record_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    Index(144).save(saved)
    assert order == ["file", "rename", "folder"]


@given(st.binary(max_size=300))
def test_random_bytes_are_not_an_index(data):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with pytest.raises(IndexFileInvalid):
            Index.open(file.name)


def at_distance(rng: np.random.Generator, packed: Packed, bits: int) -> Packed:
    """Flip exactly `bits` bits of each hash."""
    flat = np.unpackbits(packed, axis=1)
    for row in flat:
        row[rng.choice(flat.shape[1], bits, replace=False)] ^= 1
    return np.packbits(flat, axis=1)


@pytest.mark.parametrize(
    ("distance", "least"), [(31, 1.0), (34, 0.98), (40, 0.95), (47, 0.80), (54, 0.60), (60, 0.35)]
)
def test_most_true_pairs_beyond_the_radius_are_candidates(backend, distance, least):
    rng = np.random.default_rng(distance)
    index = Index()
    packed = random_packed(rng, 20_000)
    index.add(np.arange(20_000, dtype=np.uint64), packed)
    index.settle()
    if backend != "numpy":
        assert index._segments[0].tables is not None
    queries = at_distance(rng, packed[:400], distance)
    found = index.query(queries, candidates=60)
    numbers = np.repeat(np.arange(400), np.diff(found.offsets))
    share = (found.ids == numbers).sum() / 400
    assert share >= (1.0 if backend == "numpy" else least)


def test_candidates_must_reach_the_radius():
    index = Index()
    with pytest.raises(ValueError, match="at least the radius"):
        index.query(random_packed(np.random.default_rng(0), 1), 31, candidates=30)
    with pytest.raises(TypeError):
        index.query(random_packed(np.random.default_rng(0), 1), 31, candidates=40.5)


def test_candidates_at_the_radius_are_the_matches(backend):
    rng = np.random.default_rng(1)
    index = Index()
    packed = random_packed(rng, 17_000)
    index.add(np.arange(17_000, dtype=np.uint64), packed)
    queries = flipped(rng, packed[:100], 60)
    for radius in (0, 31, 300):
        plain = index.query(queries[:5], radius)
        with_candidates = index.query(queries[:5], radius, candidates=radius)
        for one, other in zip(plain, with_candidates, strict=True):
            np.testing.assert_array_equal(one, other)
