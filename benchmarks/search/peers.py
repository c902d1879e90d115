"""Banks with the distribution of hashes of photos, and the programs that are compared."""

import ctypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import folders
from nciihash import Index, pdq
from nciihash.search.index import kernel

Packed = NDArray[np.uint8]
# Methods of the kernel: the faster of the two for a radius, the index, the flat scan.
CHOSEN, INDEX, FLAT = 0, 1, 2
Search = Callable[[Packed, int], int]  # queries, radius -> number of hits


def photos(folder: Path | None) -> list[Packed]:
    """Read the photos of a folder, or scikit-image's without a folder."""
    if folder is not None and folder.is_dir():
        return [pixels for _, pixels in folders.pictures(folder, side=1600)]
    from skimage import data

    names = ("astronaut", "coffee", "chelsea", "rocket", "cat", "immunohistochemistry")
    return [getattr(data, name)() for name in names]


def real_hashes(
    folder: Path | None, crops: int, rng: np.random.Generator, *, turned: bool = False
) -> Packed:
    """Hash random crops of photos, upright or in all eight orientations, without plain ones."""
    pictures = photos(folder)
    hashes: list[Packed] = []
    while sum(map(len, hashes)) < crops:
        photo = pictures[rng.integers(len(pictures))]
        size = [max(64, int(side * rng.uniform(0.15, 0.9))) for side in photo.shape[:2]]
        size = [min(one, side) for one, side in zip(size, photo.shape, strict=False)]
        top, left = (
            rng.integers(0, side - one + 1) for one, side in zip(size, photo.shape, strict=False)
        )
        crop = photo[top : top + size[0], left : left + size[1]]
        if (shrink := min(size) / 256) > 1:
            smaller = Image.fromarray(crop).resize((int(size[1] / shrink), int(size[0] / shrink)))
            crop = np.asarray(smaller)
        if pdq.hash_pixels(crop)[1] >= 50:
            hashes.append(pdq.dihedral(crop)[: 8 if turned else 1])
    return np.concatenate(hashes)


def bootstrap(real: Packed, count: int, rng: np.random.Generator) -> Packed:
    """Combine new hashes out of four bands of four rows of frequencies, each of one real hash."""
    out = np.empty((count, 32), dtype=np.uint8)
    for band in range(0, 32, 8):
        out[:, band : band + 8] = real[rng.integers(0, len(real), count), band : band + 8]
    return out


def flipped(rows: Packed, most: int, rng: np.random.Generator) -> Packed:
    """Flip 0 to `most` random bits of each hash."""
    bits = np.unpackbits(rows, axis=1)
    for row in bits:
        row[rng.choice(bits.shape[1], rng.integers(0, most + 1), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


@dataclass(frozen=True)
class Peer:
    """A program with a bank loaded."""

    name: str
    search: Search
    build_seconds: float  # processor time, which other load does not lengthen
    bytes_a_hash: float | None = None
    exact: bool = True
    slow: bool = False  # takes milliseconds per query: run fewer queries


def ours(rows: Packed, threads: int, *, compact: bool = False) -> tuple[Peer, Index]:
    """Build nciihash's index; return the peer and the index itself."""
    index = Index(rows.shape[1] * 8, compact=compact)
    ids = np.arange(len(rows), dtype=np.uint64)
    start = time.process_time()
    index.add(ids, rows)
    seconds = time.process_time() - start
    index.settle()

    def search(queries: Packed, radius: int) -> int:
        return len(index.query(queries, radius, threads=threads).ids)

    name = "nciihash compact" if compact else "nciihash"
    return Peer(name, search, seconds, index.nbytes / len(rows)), index


def faiss_flat(rows: Packed) -> Peer:
    """Compare with every row, by faiss."""
    import faiss

    return _faiss("faiss Flat", faiss.IndexBinaryFlat(rows.shape[1] * 8), rows, slow=True)


def faiss_multihash(
    rows: Packed,
    tables: int,
    bits: int,
    flips: int,
    *,
    scramble: bool = False,
    slow: bool = False,
) -> Peer:
    """Look up in faiss's hash tables; `threatexchange` uses 16x16 with one flip."""
    import faiss

    from nciihash.search.segments import scrambled

    index = faiss.IndexBinaryMultiHash(rows.shape[1] * 8, tables, bits)
    index.nflip = flips
    name = f"faiss MultiHash {tables}x{bits}, {flips} flips"
    if not scramble:
        return _faiss(name, index, rows, slow=slow)
    peer = _faiss(name + ", scrambled", index, scrambled(rows))
    return Peer(
        peer.name, lambda q, r: peer.search(scrambled(q), r), peer.build_seconds, peer.bytes_a_hash
    )


def _faiss(name: str, index: Any, rows: Packed, *, slow: bool = False) -> Peer:  # noqa: ANN401
    before, start = resident(), time.process_time()
    index.add(rows)
    seconds = time.process_time() - start

    def search(queries: Packed, radius: int) -> int:
        return len(index.range_search(queries, radius + 1)[1])  # faiss excludes the radius itself

    return Peer(name, search, seconds, (resident() - before) / len(rows), slow=slow)


def faiss_hnsw(rows: Packed) -> Peer:
    """Search an HNSW graph: approximate, the ten nearest instead of all within a radius."""
    import faiss

    index = faiss.IndexBinaryHNSW(rows.shape[1] * 8, 16)
    index.hnsw.efSearch = 64
    before, start = resident(), time.process_time()
    index.add(rows)
    seconds = time.process_time() - start

    def search(queries: Packed, radius: int) -> int:
        return int((index.search(queries, 10)[0] <= radius).sum())

    size = (resident() - before) / len(rows)
    return Peer("faiss HNSW (approximate)", search, seconds, size, exact=False)


def usearch_exact(rows: Packed) -> Peer:
    """Compare with every row, by usearch; finds the ten nearest."""
    from usearch.index import MetricKind, search

    def run(queries: Packed, radius: int) -> int:
        found = search(rows, queries, 10, MetricKind.Hamming, exact=True, threads=1)
        return int((found.distances <= radius).sum())

    return Peer("usearch exact, ten nearest", run, 0.0, rows.shape[1], slow=True)


def usearch_hnsw(rows: Packed) -> Peer:
    """Search an HNSW graph: approximate, the ten nearest instead of all within a radius."""
    from usearch.index import Index as Graph
    from usearch.index import MetricKind, ScalarKind

    before, start = resident(), time.process_time()
    graph = Graph(ndim=rows.shape[1] * 8, metric=MetricKind.Hamming, dtype=ScalarKind.B1)
    graph.add(np.arange(len(rows), dtype=np.uint64), rows, threads=1)
    seconds = time.process_time() - start

    def run(queries: Packed, radius: int) -> int:
        found = graph.search(queries, 10, threads=1)
        return int((found.distances <= radius).sum())

    size = (resident() - before) / len(rows)
    return Peer("usearch HNSW (approximate)", run, seconds, size, exact=False)


def numkong(rows: Packed) -> Peer:
    """Compute the matrix of distances in blocks of rows, and select from it."""
    import numkong

    start = time.process_time()
    blocks = [numkong.hammings_pack(rows[at : at + 65536]) for at in range(0, len(rows), 65536)]
    seconds = time.process_time() - start

    def search(queries: Packed, radius: int) -> int:
        hits = 0
        for block in blocks:
            hits += int((np.asarray(numkong.hammings_packed(queries, block)) <= radius).sum())
        return hits

    return Peer("NumKong packed", search, seconds, float(rows.shape[1]), slow=True)


def numpy(rows: Packed) -> Peer:
    """Compare with every row in NumPy."""
    words = np.ascontiguousarray(rows).view(np.uint64)

    def search(queries: Packed, radius: int) -> int:
        words_asked = queries.view(np.uint64)
        return sum(
            int((np.bitwise_count(words ^ one).sum(axis=1) <= radius).sum()) for one in words_asked
        )

    return Peer("NumPy", search, 0.0, float(rows.shape[1]), slow=True)


def threatexchange(rows: Packed) -> Peer:
    """Search with the package that platforms use, with hexadecimal queries as it takes them."""
    from threatexchange.signal_type.pdq.pdq_index import PDQIndex

    start = time.process_time()
    index = PDQIndex.build([(row.tobytes().hex(), number) for number, row in enumerate(rows)])
    seconds = time.process_time() - start

    def search(queries: Packed, radius: int) -> int:
        if radius != 31:
            raise ValueError("PDQIndex only has radius 31")
        return sum(len(index.query(one.tobytes().hex())) for one in queries)

    return Peer("threatexchange PDQIndex", search, seconds, slow=True)


def bk_tree(rows: Packed) -> Peer:
    """Search a Burkhard-Keller tree in Python."""
    import pybktree

    start = time.process_time()
    numbers = [int.from_bytes(row.tobytes(), "big") for row in rows]
    tree = pybktree.BKTree(lambda a, b: (a ^ b).bit_count(), numbers)
    seconds = time.process_time() - start

    def search(queries: Packed, radius: int) -> int:
        return sum(len(tree.find(int.from_bytes(q.tobytes(), "big"), radius)) for q in queries)

    return Peer("pybktree", search, seconds, slow=True)


def kernel_query(index: Index, queries: Packed, radius: int, method: int) -> None:
    """Query by one method of the kernel: `CHOSEN`, `INDEX` or `FLAT`; on one thread."""
    if kernel is None:
        raise RuntimeError("nciihash's compiled search kernel is not installed")
    kernel.query(index._handles, queries, radius, 1, method)


def resident() -> int:
    """Return the resident memory of this process in bytes, after trimming the heap."""
    ctypes.CDLL(None).malloc_trim(0)
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def rounds(peers: list[Peer], queries: Packed, radius: int, count: int) -> Iterator[dict[str, Any]]:
    """Time all peers in turn, `count` times: seconds per single query and per query in a batch."""
    for _ in range(count):
        for peer in peers:
            batch = queries[:32] if peer.slow else queries
            start = time.perf_counter()
            hits = peer.search(batch, radius)
            took = (time.perf_counter() - start) / len(batch)
            sample = queries[:8] if peer.slow else queries[:512]
            start = time.perf_counter()
            for number in range(len(sample)):
                peer.search(sample[number : number + 1], radius)
            single = (time.perf_counter() - start) / len(sample)
            yield {
                "peer": peer.name, "batch": took, "single": single,
                "asked": len(batch), "hits": hits,
            }  # fmt: skip
