"""Cut what is to be scanned into blocks, each of which is done on its own, wherever that is.

A source holds either pictures and videos, or Parquet files of hashes, with the columns `file`,
`type` and `value` as `nciihash hash --out hashes.parquet` writes them; `time` is passed on if it is
there. Names that begin with a dot or an underscore are what other programs leave beside Parquet
files, and passed over.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from nciihash.errors import ExtraMissing, SourceInvalid
from nciihash.scan.sources import ScanSource, SourceFile

if TYPE_CHECKING:
    import pyarrow as pa

_READERS: Final = 16  # footers of Parquet files that are read at once
_NEEDED: Final = ("file", "type", "value")


class Kind(StrEnum):
    """What a source holds."""

    FILES = "files"
    HASHES = "hashes"


# Some seconds of work on one core: little is lost with a node, and a result file is not tiny.
PER_BLOCK: Final = {Kind.FILES: 256, Kind.HASHES: 1 << 18}


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or of a Parquet file the row groups `first` to `last - 1`, of which `row` begins.

    `count` is 1 or the number of rows.
    """

    name: str
    size: int
    count: int = 1
    first: int = 0
    last: int = 0
    row: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """What is done, and its result kept, as a whole."""

    number: int
    parts: tuple[Part, ...]

    @property
    def count(self) -> int:
        """Count the files or hashes."""
        return sum(part.count for part in self.parts)


@dataclass(frozen=True, slots=True)
class FileRefusal:
    """Something that was not scanned: its name, a code for machines and a reason."""

    name: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All blocks of a source.

    Attributes:
        kind: what the source holds.
        files: how many files it has.
        count: how many files, or hashes, are to be scanned.
        fingerprint: changes with every name, size and version, and with the way they are cut.
        refused: Parquet files that hold no hashes, or cannot be read.
    """

    kind: Kind
    files: int
    count: int
    fingerprint: str
    blocks: Sequence[Block]
    refused: Sequence[FileRefusal]


def plan(store: ScanSource, per_block: int | None = None) -> Plan:
    """List a source and cut it into blocks; the same source always gives the same ones.

    Args:
        store: where it lies.
        per_block: files, or hashes, of a block; row groups are not cut.

    Raises:
        SourceInvalid: nothing is there, or Parquet files beside others.
        ExtraMissing: there are Parquet files, and pyarrow is not installed.
        OSError: a store does not answer.
    """
    entries = list(store.entries())
    named = [entry for entry in entries if PurePath(entry.name).name[:1] not in {".", "_"}]
    tables = [entry for entry in named if entry.name.endswith(".parquet")]
    if tables and len(tables) < len(named):
        raise SourceInvalid(
            f"There are {len(tables):,} Parquet files beside {len(named) - len(tables):,} others. "
            "Name a folder that holds hashes alone, or pictures and videos alone."
        )
    kind = Kind.HASHES if tables else Kind.FILES
    per_block = per_block or PER_BLOCK[kind]
    state = sha256(json.dumps([kind, per_block]).encode())
    for entry in tables or entries:
        state.update(json.dumps([entry.name, entry.size, entry.mark]).encode())
    refused: list[FileRefusal] = []
    if tables:
        parts = _row_groups(store, tables, refused)
    else:
        parts = (Part(entry.name, entry.size) for entry in entries)
    blocks = list(_cut(parts, per_block))
    count = sum(block.count for block in blocks)
    files = len(tables or entries)
    return Plan(kind, files, count, state.hexdigest(), blocks, tuple(refused))


def _cut(parts: Iterable[Part], per_block: int) -> Iterator[Block]:
    """Put parts together until the next would make a block too large."""
    number, count = 0, 0
    taken: list[Part] = []
    for part in parts:
        if taken and count + part.count > per_block:
            yield Block(number, tuple(taken))
            number, count, taken = number + 1, 0, []
        last = taken[-1] if taken else None
        if last is not None and part.first and last.name == part.name:
            rows = last.count + part.count
            taken[-1] = Part(part.name, part.size, rows, last.first, part.last, last.row)
        else:
            taken.append(part)
        count += part.count
    if taken:
        yield Block(number, tuple(taken))


def _row_groups(
    store: ScanSource, tables: Sequence[SourceFile], refused: list[FileRefusal]
) -> Iterator[Part]:
    """Go through the row groups of all files; note the files that hold no hashes."""
    if find_spec("pyarrow") is None:
        raise ExtraMissing(
            'Parquet files need pyarrow, which is not installed: pip install "nciihash[parquet]"'
        )

    def read(entry: SourceFile) -> list[int] | FileRefusal:
        return _footer(store, entry)

    with ThreadPoolExecutor(_READERS) as pool:
        for entry, found in zip(tables, pool.map(read, tables), strict=True):
            if isinstance(found, FileRefusal):
                refused.append(found)
                continue
            row = 0
            for number, rows in enumerate(found):
                yield Part(entry.name, entry.size, rows, number, number + 1, row)
                row += rows


def _footer(store: ScanSource, entry: SourceFile) -> list[int] | FileRefusal:
    """Give the rows of each row group of a file, or say why it cannot be scanned.

    Raises:
        OSError: it is the store that fails, and not this file.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with store.opened(entry.name) as file:
            metadata = parquet.read_metadata(file)
            schema = metadata.schema.to_arrow_schema()
    except OSError as error:
        if (refusal := store.refusal(error)) is None:
            raise
        return FileRefusal(entry.name, refusal.code, str(refusal))
    except pa.ArrowInvalid:
        reason = "The file is damaged, or no Parquet file. Write it again."
        return FileRefusal(entry.name, "corrupt_file", reason)
    for name in _NEEDED:
        if name not in schema.names or not _is_text(schema.field(name).type):
            reason = f"It has no column `{name}` of text. Write it as `nciihash hash --out` does."
            return FileRefusal(entry.name, "no_hashes", reason)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def _is_text(type: "pa.DataType") -> bool:
    """Tell whether a column is of text, in a dictionary perhaps."""
    import pyarrow as pa

    if pa.types.is_dictionary(type):
        type = type.value_type
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type))
