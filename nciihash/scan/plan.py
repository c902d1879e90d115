"""Split a source into blocks, each of which is scanned independently, on any machine.

A source holds either pictures and videos, or Parquet files of hashes with the columns `file`,
`type` and `value`, as `nciihash hash --out hashes.parquet` writes them. A column `time` is copied
to the results. In a source of Parquet files, names that start with a dot or an underscore are
skipped: other programs write such files next to Parquet files.
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

_READERS: Final = 16  # Parquet files whose footers are read at the same time
_REQUIRED: Final = ("file", "type", "value")


class Kind(StrEnum):
    """What a source holds."""

    FILES = "files"
    HASHES = "hashes"


# Some seconds of work for one core: a lost machine costs little, and result files are not tiny.
PER_BLOCK: Final = {Kind.FILES: 256, Kind.HASHES: 1 << 18}


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or some row groups of a Parquet file.

    Attributes:
        name: name of the file in the source.
        size: of the file, in bytes.
        count: 1, or the number of rows.
        first: first row group.
        last: row group after the last one.
        row: number of the first row in the Parquet file.
    """

    name: str
    size: int
    count: int = 1
    first: int = 0
    last: int = 0
    row: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """The unit of work: its result is saved as a whole."""

    number: int
    parts: tuple[Part, ...]

    @property
    def count(self) -> int:
        """Number of files or hashes."""
        return sum(part.count for part in self.parts)


@dataclass(frozen=True, slots=True)
class FileRefusal:
    """A file or row that was not scanned: its name, a code for programs, and a reason."""

    name: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All blocks of a source.

    Attributes:
        kind: what the source holds.
        files: number of files in the source.
        count: number of files or hashes to scan.
        fingerprint: digest of all names, sizes and versions, and of the size of blocks.
        blocks: the blocks, in order of their numbers.
        refused: Parquet files that hold no hashes, or cannot be read.
    """

    kind: Kind
    files: int
    count: int
    fingerprint: str
    blocks: Sequence[Block]
    refused: Sequence[FileRefusal]


def plan(source: ScanSource, per_block: int | None = None) -> Plan:
    """List a source and split it into blocks. The same source always has the same blocks.

    Args:
        source: the source.
        per_block: files or hashes in a block, unless a single row group has more.

    Raises:
        SourceInvalid: there are no files, or there are both Parquet files and others.
        ExtraMissing: there are Parquet files, and pyarrow is not installed.
        OSError: the store does not answer.
    """
    entries = list(source.entries())
    visible = [entry for entry in entries if PurePath(entry.name).name[:1] not in {".", "_"}]
    tables = [entry for entry in visible if entry.name.endswith(".parquet")]
    if tables and len(tables) < len(visible):
        raise SourceInvalid(
            f"There are {len(tables):,} Parquet files and {len(visible) - len(tables):,} others. "
            "Name a folder that holds only hashes, or only pictures and videos."
        )
    kind = Kind.HASHES if tables else Kind.FILES
    per_block = per_block or PER_BLOCK[kind]
    state = sha256(json.dumps([kind, per_block]).encode())
    for entry in tables or entries:
        state.update(json.dumps([entry.name, entry.size, entry.version]).encode())
    refused: list[FileRefusal] = []
    if tables:
        parts = _row_groups(source, tables, refused)
    else:
        parts = (Part(entry.name, entry.size) for entry in entries)
    blocks = list(_group(parts, per_block))
    count = sum(block.count for block in blocks)
    files = len(tables or entries)
    return Plan(kind, files, count, state.hexdigest(), blocks, tuple(refused))


def _group(parts: Iterable[Part], per_block: int) -> Iterator[Block]:
    """Yield blocks of consecutive parts; adjacent row groups of a file are merged into one part."""
    number, count = 0, 0
    block_parts: list[Part] = []
    for part in parts:
        if block_parts and count + part.count > per_block:
            yield Block(number, tuple(block_parts))
            number, count, block_parts = number + 1, 0, []
        last = block_parts[-1] if block_parts else None
        if last is not None and part.first and last.name == part.name:
            rows = last.count + part.count
            block_parts[-1] = Part(part.name, part.size, rows, last.first, part.last, last.row)
        else:
            block_parts.append(part)
        count += part.count
    if block_parts:
        yield Block(number, tuple(block_parts))


def _row_groups(
    source: ScanSource, tables: Sequence[SourceFile], refused: list[FileRefusal]
) -> Iterator[Part]:
    """Yield the row groups of all files; add files that hold no hashes to `refused`."""
    if find_spec("pyarrow") is None:
        raise ExtraMissing(
            'Parquet files need pyarrow, which is not installed: pip install "nciihash[parquet]"'
        )

    def read(entry: SourceFile) -> list[int] | FileRefusal:
        return _read_footer(source, entry)

    with ThreadPoolExecutor(_READERS) as pool:
        for entry, footer in zip(tables, pool.map(read, tables), strict=True):
            if isinstance(footer, FileRefusal):
                refused.append(footer)
                continue
            row = 0
            for number, rows in enumerate(footer):
                yield Part(entry.name, entry.size, rows, number, number + 1, row)
                row += rows


def _read_footer(source: ScanSource, entry: SourceFile) -> list[int] | FileRefusal:
    """Return the number of rows in each row group of a file, or why it cannot be scanned.

    Raises:
        OSError: the store has failed, rather than this file.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with source.open(entry.name) as file:
            metadata = parquet.read_metadata(file)
            schema = metadata.schema.to_arrow_schema()
    except OSError as error:
        if (refusal := source.refusal(error)) is None:
            raise
        return FileRefusal(entry.name, refusal.code, str(refusal))
    except pa.ArrowInvalid:
        reason = "The file is damaged, or not a Parquet file. Write it again."
        return FileRefusal(entry.name, "corrupt_file", reason)
    for name in _REQUIRED:
        if name not in schema.names or not _is_text(schema.field(name).type):
            reason = f"It has no text column `{name}`. Write it as `nciihash hash --out` does."
            return FileRefusal(entry.name, "no_hashes", reason)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def _is_text(type: "pa.DataType") -> bool:
    """Whether a type is text, possibly dictionary-encoded."""
    import pyarrow as pa

    if pa.types.is_dictionary(type):
        type = type.value_type
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type))
