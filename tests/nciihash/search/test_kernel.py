"""The kernel's loops compared with brute force, on adversarial banks and damaged files."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from nciihash import Index
from nciihash.errors import IndexFileInvalid
from nciihash.search import segments
from nciihash.search.index import WIDTHS, _matches, kernel
from nciihash.search.segments import SIG_PADDING, Segment, Tables, scrambled

pytestmark = pytest.mark.skipif(kernel is None, reason="there is no compiled kernel")

BACKENDS = kernel.backends() if kernel else []
INDEX, SCAN = 1, 2  # strategies, see kernel.hpp


@pytest.fixture(params=BACKENDS)
def backend(request):
    best = kernel.backend()
    kernel.choose(request.param)
    yield request.param
    kernel.choose(best)


def perturbed(rng: np.random.Generator, rows: NDArray[np.uint8], share) -> NDArray[np.uint8]:
    bits = np.unpackbits(rows, axis=1)
    return np.packbits(bits ^ (rng.random(bits.shape) < share), axis=1)


def uniform(rng, count, size):
    return rng.integers(0, 256, (count, size), dtype=np.uint8)


def clustered(rng, count, size):
    centres = uniform(rng, 3, size)
    share = rng.random((count, 1)) * 0.3
    return perturbed(rng, centres[rng.integers(0, 3, count)], share)


def duplicated(rng, count, size):
    return uniform(rng, 7, size)[rng.integers(0, 7, count)]


def constant(rng, count, size):
    return np.full((count, size), 255, dtype=np.uint8)


def alike_in_half(rng, count, size):
    """Make half of the scrambled chunks equal in all rows, so that one bucket has every row."""
    scrambled_rows = uniform(rng, count, size)
    scrambled_rows[:, : size // 4 * 2] = 0x5A
    return unscrambled(scrambled_rows)


def unscrambled(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    order = segments._permutation(rows.shape[1] * 8)
    bits = np.empty((len(rows), rows.shape[1] * 8), dtype=np.uint8)
    bits[:, order] = np.unpackbits(rows, axis=1, bitorder="little")
    return np.packbits(bits, axis=1)


def ranked(ids, live, distances):
    """Return for each query the ids and distances of all live rows, closest first."""
    rows = [np.flatnonzero(live)[np.lexsort((ids[live], each[live]))] for each in distances]
    return [(ids[r], each[r]) for r, each in zip(rows, distances, strict=True)]


def expected_matches(ranking, radius):
    """Return the offsets, ids and distances that queries with these rankings must find."""
    counts = [int(np.searchsorted(distances, radius, side="right")) for _, distances in ranking]
    offsets = np.cumsum([0, *counts])
    ids, distances = (
        np.concatenate([each[n][:count] for each, count in zip(ranking, counts, strict=True)])
        for n in (0, 1)
    )
    return offsets, ids, distances


@pytest.mark.parametrize("make", [uniform, clustered, duplicated, constant, alike_in_half])
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("stride", [1, 2])
def test_both_strategies_equal_brute_force_at_every_radius(bits, make, stride, backend):
    if bits // 16 % stride:
        pytest.skip("an odd number of chunks has no compact form")
    rng = np.random.default_rng(bits)
    count = 1500
    packed = make(rng, count, bits // 8)
    queries = np.concatenate(
        [perturbed(rng, packed[:14], 0.06), packed[14:16], uniform(rng, 4, bits // 8)]
    )
    ids = np.sort(rng.choice(2**40, count, replace=False)).astype(np.uint64)
    removed = np.packbits(rng.random(count) < 0.1)
    live = np.unpackbits(removed, count=count) == 0
    distances = np.bitwise_count(queries[:, None] ^ packed).sum(axis=2, dtype=np.uint16)
    ranking = ranked(ids, live, distances)
    rows = scrambled(packed)
    flat = kernel.Segment(rows, ids, removed, kernel.slice_rows(rows), None, None, None)
    key_bits = (8, 11, 16)[bits % 3]
    tabled, windowed = (
        kernel.Segment(rows, ids, removed, None, *kernel.build(rows, key_bits, stride, windows, 2))
        for windows in (False, True)
    )
    radii = range(64) if bits == 256 else range(17)
    for radius in [*radii, 64, 100, bits]:
        for some in (slice(None), slice(3, 4), slice(17, 18)):
            expected = expected_matches(ranking[some], radius)
            runs = ((flat, 0), (tabled, INDEX), (windowed, INDEX), (tabled, SCAN), (tabled, 0))
            for segment, strategy in runs:
                raw = kernel.query((segment,), queries[some], radius, 1, strategy)
                found = _matches(raw, len(queries[some]))
                # NumPy's own assertion shows the differences, but is a hundred times slower
                if not all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)):
                    for actual, desired in zip(found, expected, strict=True):
                        np.testing.assert_array_equal(actual, desired)


@pytest.mark.parametrize("make", [uniform, clustered, duplicated, constant, alike_in_half])
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("stride", [1, 2])
def test_candidates_are_exact_within_the_radius_and_a_part_of_those_beyond(
    bits, make, stride, backend
):
    if bits // 16 % stride:
        pytest.skip("an odd number of chunks has no compact form")
    rng = np.random.default_rng(bits + 1)
    count = 1000
    packed = make(rng, count, bits // 8)
    shares = rng.random((24, 1)) * 0.25
    queries = np.concatenate([perturbed(rng, packed[:24], shares), uniform(rng, 3, bits // 8)])
    removed = np.packbits(rng.random(count) < 0.1)
    live = np.unpackbits(removed, count=count) == 0
    distances = np.bitwise_count(queries[:, None] ^ packed).sum(axis=2, dtype=np.uint16)
    rows, ids = scrambled(packed), np.arange(count, dtype=np.uint64)
    flat = kernel.Segment(rows, ids, removed, kernel.slice_rows(rows), None, None, None)
    tabled, windowed = (
        kernel.Segment(rows, ids, removed, None, *kernel.build(rows, 10, stride, windows, 2))
        for windows in (False, True)
    )
    segments_and_strategies = (
        (flat, 0), (tabled, INDEX), (windowed, INDEX), (tabled, SCAN), (tabled, 0),
    )  # fmt: skip
    for radius, reach in ((0, 20), (15, 15), (31, 60), (bits // 8 - 1, bits // 4 - 4)):
        for slack in (0, 20, 300):
            for segment, strategy in segments_and_strategies:
                raw = kernel.query((segment,), queries, radius, 1, strategy, reach, slack)
                found = _matches(raw, len(queries))
                numbers = np.repeat(np.arange(len(queries)), np.diff(found.offsets))
                pairs = numbers * count + found.ids.astype(np.int64)
                assert len(np.unique(pairs)) == len(pairs)
                np.testing.assert_array_equal(found.distances, distances.ravel()[pairs])
                assert (found.distances <= max(radius, reach)).all()
                assert live[found.ids].all()
                near = found.distances <= radius
                expected = np.flatnonzero((distances <= radius) & live)
                np.testing.assert_array_equal(np.sort(pairs[near]), expected)
                if segment is flat or strategy == SCAN:
                    assert len(pairs) == ((distances <= max(radius, reach)) & live).sum()


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_kernel_and_numpy_scramble_equally(bits, monkeypatch):
    packed = uniform(np.random.default_rng(0), 50, bits // 8)
    compiled = scrambled(packed)
    monkeypatch.setattr(segments, "kernel", None)
    np.testing.assert_array_equal(scrambled(packed), compiled)
    np.testing.assert_array_equal(unscrambled(compiled), packed)


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_tables_contain_every_row_once_under_its_key(windows, threads):
    rows = clustered(np.random.default_rng(1), 3000, 32)
    offsets, refs, sigs = kernel.build(rows, 12, 1, windows, threads)
    assert offsets.shape == (16, ((1 << 12) + 1) * (4 if windows else 1))
    chunks = rows.view(np.uint16)
    assert sigs.shape == (16 * 3000 + SIG_PADDING,)
    for table in range(16):
        np.testing.assert_array_equal(np.sort(refs[table]), np.arange(3000))
        starts = offsets[table].reshape((1 << 12) + 1, -1)[:, 0]
        keys = np.repeat(np.arange(1 << 12), np.diff(starts))
        np.testing.assert_array_equal(keys, chunks[refs[table], table] >> 4)
        following = chunks[refs[table], (table + 1) % 16]
        np.testing.assert_array_equal(sigs[3000 * table :][:3000], following)


def test_window_bounds_divide_buckets_by_the_ones_in_signatures():
    rows = clustered(np.random.default_rng(1), 3000, 32)
    offsets, _, sigs = kernel.build(rows, 8, 1, True, 1)
    for table in range(16):
        records = offsets[table].reshape(257, 4)
        ones = np.bitwise_count(sigs[3000 * table :][:3000])
        for start, stop, bounds in zip(
            records[:-1, 0], records[1:, 0], records[:-1, 1:].copy().view(np.uint8), strict=True
        ):
            bucket = ones[start:stop]
            assert (np.diff(bucket.astype(int)) >= 0).all()
            first = np.searchsorted(bucket, np.arange(3, 15))
            expected = np.minimum(first * 256 // max(len(bucket), 1), 255)
            np.testing.assert_array_equal(bounds, expected)


def test_results_do_not_depend_on_threads_and_batches():
    rng = np.random.default_rng(2)
    packed = clustered(rng, 40_000, 32)
    index = Index()
    index.add(rng.permutation(40_000).astype(np.uint64), packed)
    queries = np.concatenate([perturbed(rng, packed[:500], 0.03), uniform(rng, 500, 32)])
    for radius in (0, 20, 31, 63, 90):
        one = index.query(queries[:300], radius, threads=1)
        many = index.query(queries[:300], radius, threads=7)
        np.testing.assert_array_equal(one.offsets, many.offsets)
        np.testing.assert_array_equal(one.ids, many.ids)
        np.testing.assert_array_equal(one.distances, many.distances)
        for number in range(0, 300, 29):
            single = index.query(queries[number : number + 1], radius)
            start, stop = one.offsets[number : number + 2]
            np.testing.assert_array_equal(single.ids, one.ids[start:stop])


def test_queries_are_exact_while_segments_merge_and_rows_change():
    rng = np.random.default_rng(3)
    index = Index()
    kept = uniform(rng, 200, 32)
    index.add(np.arange(200, dtype=np.uint64), kept)
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            found = index.query(kept, 0)
            if not np.array_equal(found.ids, np.arange(200)):
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    expected_ids = set(range(200))
    for start in range(1000, 101_000, 5000):
        ids = np.arange(start, start + 5000, dtype=np.uint64)
        index.add(ids, uniform(rng, 5000, 32))
        removed = rng.choice(ids, 700, replace=False)
        assert index.remove(removed) == 700
        expected_ids |= set(ids.tolist()) - set(removed.tolist())
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    index.settle()
    matches = index.query(kept[:1], 256)
    assert set(matches.ids.tolist()) == expected_ids
    assert len(index) == len(expected_ids)


def damaged(tables: Tables, **changes) -> Tables:
    arrays = {"offsets": tables.offsets, "refs": tables.refs, "sigs": tables.sigs, **changes}
    return Tables(**arrays)


@pytest.mark.parametrize("fill", [0, 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("array", ["offsets", "refs"])
@pytest.mark.parametrize("windows_from", [1, 1 << 40])
def test_damaged_tables_cause_an_error_or_a_wrong_result_never_a_crash(
    array, fill, windows_from, monkeypatch
):
    monkeypatch.setattr(segments, "WINDOWS_FROM", windows_from)
    rng = np.random.default_rng(4)
    packed = uniform(rng, 20_000, 32)
    good = Segment.build(np.arange(20_000, dtype=np.uint64), scrambled(packed))
    values = getattr(good.tables, array).copy()
    values[:, rng.random(values.shape[1]) < 0.5] = fill
    bad = Segment(good.ids, good.rows, damaged(good.tables, **{array: values})).with_handle()
    errors = 0
    for number in range(0, 200, 10):
        try:
            kernel.query((bad.handle,), packed[number : number + 10], 31, 1, INDEX)
        except ValueError as error:
            assert "damaged" in str(error)  # noqa: PT017 - a wrong result is allowed too
            errors += 1
    assert errors or fill < 20_000


def test_searching_a_damaged_file_raises_an_error(tmp_path):
    rng = np.random.default_rng(5)
    index = Index()
    packed = uniform(rng, 20_000, 32)
    index.add(np.arange(20_000, dtype=np.uint64), packed)
    index.save(tmp_path / "bank")
    data = bytearray((tmp_path / "bank").read_bytes())
    refs = len(data) - 2 * (16 * 20_000 + SIG_PADDING)  # where the row numbers end
    data[refs - 1_000_000 : refs] = b"\xff" * 1_000_000
    (tmp_path / "bank").write_bytes(data)
    opened = Index.open(tmp_path / "bank")
    with pytest.raises(IndexFileInvalid, match="damaged"):
        opened.query(packed[:2000])
    with pytest.raises(IndexFileInvalid, match="refs"):
        opened.verify()


@pytest.mark.parametrize(
    ("bits", "compact", "windows_from", "bytes_per_hash"),
    [
        (256, False, 1 << 40, 147),
        (256, True, 1 << 40, 93),
        (64, False, 1 << 40, 49),
        (256, False, 1, 193),
        (256, True, 1, 117),
    ],
)
def test_a_saved_index_keeps_its_tables_and_stays_compact(
    bits, compact, windows_from, bytes_per_hash, tmp_path, monkeypatch
):
    monkeypatch.setattr(segments, "WINDOWS_FROM", windows_from)
    rng = np.random.default_rng(6)
    packed = uniform(rng, 70_000, bits // 8)
    index = Index(bits, compact=compact)
    index.add(rng.permutation(70_000).astype(np.uint64), packed)
    assert index.nbytes <= bytes_per_hash * 70_000
    index.save(tmp_path / "bank")
    opened = Index.open(tmp_path / "bank")
    opened.verify()
    assert opened.compact == compact
    assert opened.nbytes == index.nbytes
    queries = perturbed(rng, packed[:50], 0.05)
    np.testing.assert_array_equal(index.query(queries, 12).ids, opened.query(queries, 12).ids)
    opened.remove(np.arange(0, 70_000, 2, dtype=np.uint64))
    opened.settle()
    assert opened.compact == compact
    assert not (opened.query(packed, 0).ids % 2 == 0).any()


def test_a_file_written_without_the_kernel_gets_tables_in_the_background(tmp_path, monkeypatch):
    packed = uniform(np.random.default_rng(7), 20_000, 32)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "kernel", None)
        index = Index()
        index.add(np.arange(20_000, dtype=np.uint64), packed)
        index.save(tmp_path / "bank")
        assert index._segments[0].tables is None
    opened = Index.open(tmp_path / "bank")
    np.testing.assert_array_equal(opened.query(packed[5:6]).ids, [5])
    opened.settle()
    assert opened._segments[0].tables is not None
    np.testing.assert_array_equal(opened.query(packed[5:6]).ids, [5])


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={k: v for k, v in os.environ.items() if "NCIIHASH" not in k} | environment,
        capture_output=True,
        text=True,
    )


PRINT_BACKEND = "from nciihash.search.index import backend; print(backend())"


@pytest.mark.parametrize("name", [*BACKENDS, "numpy"])
def test_the_environment_selects_the_backend(name):
    result = run(PRINT_BACKEND, NCIIHASH_BACKEND=name)
    assert (result.stdout, result.stderr) == (f"{name}\n", "")


def test_an_unknown_backend_is_an_error_that_lists_the_available_ones():
    result = run(PRINT_BACKEND, NCIIHASH_BACKEND="abacus")
    assert result.returncode == 1
    assert "'abacus'; available on this machine: " in result.stderr


WITHOUT_KERNEL = "import sys; sys.modules['nciihash.search._kernel'] = None; "


def test_without_the_kernel_numpy_searches_after_one_warning():
    result = run(
        "import warnings; warnings.simplefilter('default'); " + WITHOUT_KERNEL + PRINT_BACKEND
    )
    assert result.stdout == "numpy\n"
    assert result.stderr.count("RuntimeWarning") == 1
    assert "installed without its compiled kernel" in result.stderr


def test_a_missing_kernel_is_an_error_if_it_is_required():
    result = run(WITHOUT_KERNEL + PRINT_BACKEND, NCIIHASH_REQUIRE_KERNEL="1")
    assert result.returncode == 1
    assert "compiled search kernel is missing" in result.stderr
