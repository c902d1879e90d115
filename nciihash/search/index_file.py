"""The index file: a header with checksums, then the arrays of one segment, mapped into memory.

    offset  bytes  content
    0       8      magic
    8       4      byte-order mark 0x01020304; all numbers are in the writer's byte order
    12      4      version of the format
    16      4      bits per hash
    20      4      bits per key, k; 0 without tables
    24      8      number of rows, n
    32      4      number of tables, t; 0 to bits / 16
    36      4      words per offset, w: 1 or 4; 0 without tables
    40      80     BLAKE2b-128 of each of the five sections, padding included
    120     16     BLAKE2b-128 of the 120 bytes above
    136     56     zeros
    192     …      the sections, each padded with zeros to a multiple of 64 bytes:
                   ids     uint64 (n,), ascending and unique
                   hashes  uint8 (n, bits / 8), scrambled as described in nciihash.search.segments
                   offsets uint32 (t, (2^k + 1) * w)
                   refs    uint32 (t, n)
                   sigs    uint16 (t * n + 64,)

Without tables the last three sections are empty. A file of another length is refused.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nciihash.durable import atomic_write
from nciihash.errors import IndexFileInvalid
from nciihash.search.segments import SIG_PADDING, WIDTHS, Segment, Tables

MAGIC: Final = b"NCIIidx\n"
_MARK: Final = 0x01020304
_VERSION: Final = 1
_FIELDS: Final = struct.Struct("=8sIIIIQII80s")
_DIGEST: Final = 16
_START: Final = 192
_ALIGN: Final = 64
_CHUNK: Final = 1 << 24  # bytes of a section that are checked or written at once
_REBUILD: Final = "Rebuild it from its source."
_SECTIONS: Final = ("ids", "hashes", "offsets", "refs", "sigs")


def write(path: Path, bits: int, segment: Segment) -> None:
    """Write a segment without removed rows to a file, replacing an existing one.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    arrays: list[NDArray[Any]] = [segment.ids, segment.rows]
    key_bits = tables = words = 0
    if (built := segment.tables) is not None:
        arrays += [built.offsets, built.refs, built.sigs]
        tables, key_bits, words = len(built.offsets), built.key_bits, built.words
    digests = []
    with atomic_write(path) as file:
        file.write(bytes(_START))
        for array in arrays:
            state = blake2b(digest_size=_DIGEST)
            for chunk in _chunks(array):
                state.update(chunk)
                file.write(chunk)
            digests.append(state.digest())
        empty = blake2b(digest_size=_DIGEST).digest()
        digests += [empty] * (len(_SECTIONS) - len(digests))
        fields = _FIELDS.pack(
            MAGIC, _MARK, _VERSION, bits, key_bits, len(segment.ids), tables, words,
            b"".join(digests),
        )  # fmt: skip
        file.seek(0)
        file.write(fields + blake2b(fields, digest_size=_DIGEST).digest())


def _chunks(array: NDArray[Any]) -> Iterator[memoryview]:
    """Yield the bytes of an array in pieces, then its padding."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, len(flat), _CHUNK):
        yield flat[start : start + _CHUNK].data
    yield memoryview(bytes(-len(flat) % _ALIGN))


def _shapes(
    bits: int, keys: int, tables: int, words: int, count: int
) -> tuple[tuple[DTypeLike, tuple[int, ...]], ...]:
    """Return the dtype and shape of each section."""
    head = ((np.uint64, (count,)), (np.uint8, (count, bits // 8)))
    if not tables:
        return (*head, (np.uint32, (0,)), (np.uint32, (0,)), (np.uint16, (0,)))
    return (
        *head,
        (np.uint32, (tables, ((1 << keys) + 1) * words)),
        (np.uint32, (tables, count)),
        (np.uint16, (tables * count + SIG_PADDING,)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class IndexFile:
    """A mapped index file whose header has been verified."""

    path: Path
    bits: int
    segment: Segment
    sections: tuple[NDArray[np.uint8], ...]
    digests: bytes

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a file into memory and check its header and its length, not its sections.

        Raises:
            IndexFileInvalid: the file is truncated, damaged, foreign, newer, or of another byte
                order.
            OSError: the file cannot be opened.
        """
        with path.open("rb") as file:
            header = file.read(_START)
            _check_start(path, header)
            fields, digest = header[: _FIELDS.size], header[_FIELDS.size :][:_DIGEST]
            rest = header[_FIELDS.size + _DIGEST :]
            if blake2b(fields, digest_size=_DIGEST).digest() != digest or any(rest):
                raise IndexFileInvalid(f"The header of {path} is damaged. {_REBUILD}")
            _, _, _, bits, keys, count, tables, words, digests = _FIELDS.unpack(fields)
            if bits not in WIDTHS:
                raise IndexFileInvalid(
                    f"{path} has hashes of {bits} bits, which this version does not support. "
                    "Upgrade nciihash."
                )
            if keys > 16 or tables > bits // 16 or (tables and words not in {1, 4}):
                raise IndexFileInvalid(f"{path} has tables of an unknown form. {_REBUILD}")
            shapes = _shapes(bits, keys, tables, words, count)
            sizes = [np.dtype(dtype).itemsize * prod(shape) for dtype, shape in shapes]
            padded = [size + -size % _ALIGN for size in sizes]
            length, expected = file.seek(0, 2), _START + sum(padded)
            if length != expected:
                fault = "truncated" if length < expected else "longer than its header says"
                raise IndexFileInvalid(f"The index file {path} is {fault}. {_REBUILD}")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        content = np.frombuffer(mapped, dtype=np.uint8)
        sections, arrays, start = [], [], _START
        for (dtype, shape), size, padded_size in zip(shapes, sizes, padded, strict=True):
            sections.append(content[start : start + padded_size])
            arrays.append(content[start : start + size].view(dtype).reshape(shape))
            start += padded_size
        ids, rows, *table_arrays = arrays
        segment = Segment(ids, rows, Tables(*table_arrays) if tables else None)
        return cls(path, bits, segment, tuple(sections), digests)

    def verify(self) -> None:
        """Check every section against its checksum.

        Raises:
            IndexFileInvalid: a section is damaged.
        """
        for number, (name, section) in enumerate(zip(_SECTIONS, self.sections, strict=True)):
            state = blake2b(digest_size=_DIGEST)
            for start in range(0, len(section), _CHUNK):
                state.update(section[start : start + _CHUNK].data)
            if state.digest() != self.digests[_DIGEST * number : _DIGEST * (number + 1)]:
                raise IndexFileInvalid(f"The section {name} of {self.path} is damaged. {_REBUILD}")


def _check_start(path: Path, header: bytes) -> None:
    """Refuse foreign, truncated, byte-swapped, damaged and newer files, checked in this order."""
    if header[:8] != MAGIC[: len(header)] or not header:
        raise IndexFileInvalid(f"{path} is not an index file. Check the path.")
    if len(header) < _START:
        raise IndexFileInvalid(f"The index file {path} is truncated. {_REBUILD}")
    mark, version = struct.unpack_from("=II", header, 8)
    if mark == int.from_bytes(_MARK.to_bytes(4, "little"), "big"):
        raise IndexFileInvalid(
            f"{path} was written on a machine with the other byte order. Rebuild it on this one."
        )
    if mark != _MARK:
        raise IndexFileInvalid(f"The header of {path} is damaged. {_REBUILD}")
    if version > _VERSION:
        raise IndexFileInvalid(
            f"{path} was written by a newer version of nciihash (format {version}; this one reads "
            f"up to {_VERSION}). Upgrade nciihash, or rebuild the file with this version."
        )
