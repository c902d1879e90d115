"""The file of an index: a checked header, then the ids, then the words column by column.

    offset  bytes  what
    0       8      magic
    8       4      byte-order mark 0x01020304, in the writer's byte order like all that follows
    12      4      version of the format
    16      4      bits of a hash
    20      4      words of a hash, w
    24      8      rows, n
    32      16     BLAKE2b-128 of the ids
    48      16     BLAKE2b-128 of the words
    64      16     BLAKE2b-128 of the 64 bytes above
    128     8 n    ids: uint64, ascending, each once
    …       8 n w  words: uint64 (w, n)

Nothing follows: the length is 128 + 8 n (1 + w), or the file is refused.
"""

import mmap
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from nciihash.durable import replacing
from nciihash.errors import IndexFileInvalid
from nciihash.segments import Segment, living_ids, living_words

_MAGIC: Final = b"NCIIidx\n"
_MARK: Final = 0x01020304
_VERSION: Final = 1
_FIELDS: Final = struct.Struct("=8sIIIIQ16s16s")
_DIGEST: Final = 16
_START: Final = 128
_CHUNK: Final = 1 << 20  # rows of a column that are checked or written at a time
_AGAIN: Final = "Build it again from its source."


def write(path: Path, bits: int, segments: Sequence[Segment]) -> None:
    """Write the living rows of segments (at least one), replacing the file that may be there.

    Raises:
        OSError: the file cannot be written; what was there before is unharmed.
    """
    width = segments[0].words.shape[0]
    ids, order = living_ids(segments)
    with replacing(path) as file:
        file.write(bytes(_START))
        ids_digest = blake2b(digest_size=_DIGEST)
        for chunk in _chunks(ids):
            ids_digest.update(chunk)
            file.write(chunk)
        words_digest = blake2b(digest_size=_DIGEST)
        for word in range(width):
            for chunk in _chunks(living_words(segments, word, order)):
                words_digest.update(chunk)
                file.write(chunk)
        fields = _FIELDS.pack(
            _MAGIC, _MARK, _VERSION, bits, width, len(ids),
            ids_digest.digest(), words_digest.digest(),
        )  # fmt: skip
        file.seek(0)
        file.write(fields + blake2b(fields, digest_size=_DIGEST).digest())


def _chunks(column: NDArray[np.uint64]) -> Iterable[memoryview]:
    column = np.ascontiguousarray(column)
    return (column[i : i + _CHUNK].data for i in range(0, len(column), _CHUNK))


@dataclass(frozen=True, slots=True, eq=False)
class IndexFile:
    """A mapped file whose header has been checked."""

    path: Path
    bits: int
    segment: Segment
    ids_digest: bytes
    words_digest: bytes

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a file into memory and check its header and length, not its sections.

        Raises:
            IndexFileInvalid: truncated, damaged, foreign, newer, or of another byte order.
            OSError: the file cannot be opened.
        """
        with path.open("rb") as file:
            header = file.read(_START)
            _check_start(path, header)
            fields, digest = header[: _FIELDS.size], header[_FIELDS.size :][:_DIGEST]
            rest = header[_FIELDS.size + _DIGEST :]
            if blake2b(fields, digest_size=_DIGEST).digest() != digest or any(rest):
                raise IndexFileInvalid(f"The header of {path} is damaged. {_AGAIN}")
            _, _, _, bits, width, count, ids_digest, words_digest = _FIELDS.unpack(fields)
            length = file.seek(0, 2)
            expected = _START + 8 * count * (1 + width)
            if length != expected:
                how = "truncated" if length < expected else "longer than its header says"
                raise IndexFileInvalid(f"The index file {path} is {how}. {_AGAIN}")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        words = np.frombuffer(mapped, dtype=np.uint64, offset=_START)
        segment = Segment(words[:count], words[count:].reshape(width, count))
        return cls(path, bits, segment, ids_digest, words_digest)

    def verify(self) -> None:
        """Check every byte of the ids and the words against their checksums.

        Raises:
            IndexFileInvalid: a section is damaged.
        """
        ids, words = self.segment.ids, self.segment.words
        for name, columns, digest in (
            ("ids", [ids], self.ids_digest),
            ("hashes", list(words), self.words_digest),
        ):
            state = blake2b(digest_size=_DIGEST)
            for column in columns:
                for chunk in _chunks(column):
                    state.update(chunk)
            if state.digest() != digest:
                raise IndexFileInvalid(f"The {name} in {self.path} are damaged. {_AGAIN}")


def _check_start(path: Path, header: bytes) -> None:
    """Tell foreign, byte-swapped, newer and truncated files apart, in this order."""
    if header[:8] != _MAGIC[: len(header)] or not header:
        raise IndexFileInvalid(f"{path} is not an index file. Check the path.")
    if len(header) < _START:
        raise IndexFileInvalid(f"The index file {path} is truncated. {_AGAIN}")
    mark, version = struct.unpack_from("=II", header, 8)
    if mark == int.from_bytes(_MARK.to_bytes(4, "little"), "big"):
        raise IndexFileInvalid(
            f"{path} was written on a machine of the other byte order. Build it again on this one."
        )
    if mark != _MARK:
        raise IndexFileInvalid(f"The header of {path} is damaged. {_AGAIN}")
    if version > _VERSION:
        raise IndexFileInvalid(
            f"{path} was written by a newer version of nciihash (format {version}; this one reads "
            f"up to {_VERSION}). Upgrade nciihash, or build the file again."
        )
