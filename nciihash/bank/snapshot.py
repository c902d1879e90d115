"""The snapshot of a bank: every signal with its ids, and the cursor, in one memory-mapped file.

The file has a header, a JSON description and the tables:

    offset  bytes  content
    0       8      magic
    8       4      byte-order mark 0x01020304; all numbers are in the writer's byte order
    12      4      version of the format
    16      16     lineage: random, identifies the bank
    32      8      generation: counts the snapshots of a lineage
    40      8      length of the description
    48      8      length of everything after the header
    56      32     SHA-256 of everything after the header
    88      32     SHA-256 of the 88 bytes above
    120     8      zeros
    128     …      the description: the cursor, and the rows and kinds of each type's table
    …       …      the tables, each column padded to 8 bytes: ids and items (16 bytes each), kinds
                   (2), qualities (1; 255 for none), values
"""

import json
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from nciihash.bank.journal import ID_BYTES, NEWER_SIGNALS, START_OVER
from nciihash.durable import atomic_write
from nciihash.errors import BankCorrupt
from nciihash.feed import Added
from nciihash.signals import Media, Signal, SignalType, Variant

_MAGIC: Final = b"NCIIbnk\n"
_MARK: Final = 0x01020304
_VERSION: Final = 1
_FIELDS: Final = struct.Struct("=8sII16sQQQ32s")
_START: Final = 128
_UNRATED: Final = 0xFF

Kind = tuple[Media, Variant]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The signals of one type, sorted by id.

    Attributes:
        type: the type.
        kind_names: the media and variants that occur.
        ids: 16-byte strings (n,), ascending and unique.
        items: uint8 (n, 16), the items' ids.
        kinds: uint16 (n,), indices into `kind_names`.
        qualities: uint8 (n,), 255 for none.
        values: uint8 (n, bits // 8).
    """

    type: SignalType
    kind_names: tuple[Kind, ...]
    ids: NDArray[np.bytes_]
    items: NDArray[np.uint8]
    kinds: NDArray[np.uint16]
    qualities: NDArray[np.uint8]
    values: NDArray[np.uint8]

    @classmethod
    def empty(cls, type: SignalType) -> Self:
        """Return a table without rows."""
        return cls(type, (), *_columns(memoryview(b""), 0, type, 0)[0])

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def find(self, ids: NDArray[np.bytes_]) -> NDArray[np.intp]:
        """Return the rows of ids, intp (n,); -1 for an id that is not in the table."""
        rows = np.searchsorted(self.ids, ids)
        rows[rows == len(self.ids)] = -1
        if len(self.ids):
            rows[self.ids[rows] != ids] = -1
        return rows

    def entry(self, row: int) -> Added:
        """Return a row as it came from the feed."""
        media, variant = self.kind_names[int(self.kinds[row])]
        quality = int(self.qualities[row])
        return Added(
            # a slice, because an element of a bytes array loses its trailing zeros
            id=self.ids[row : row + 1].tobytes().hex(),
            item=self.items[row].tobytes().hex(),
            signal=Signal(self.type, self.values[row].tobytes()),
            quality=None if quality == _UNRATED else quality,
            media=media,
            variant=variant,
        )

    def merged(self, kept: NDArray[np.bool_], added: Sequence[Added]) -> "Table":
        """Return a table of some of these rows and of additions, with distinct ids.

        Args:
            kept: bool (n,), which rows to keep.
            added: the additions, all of this type.
        """
        names = {kind: code for code, kind in enumerate(self.kind_names)}
        codes = [names.setdefault((e.media, e.variant), len(names)) for e in added]
        ids = b"".join(bytes.fromhex(e.id) for e in added)
        items = b"".join(bytes.fromhex(e.item) for e in added)
        values = b"".join(e.signal.value for e in added)
        qualities = [_UNRATED if e.quality is None else e.quality for e in added]
        new = Table(
            self.type,
            tuple(names),
            np.frombuffer(ids, dtype=f"S{ID_BYTES}"),
            np.frombuffer(items, dtype=np.uint8).reshape(-1, ID_BYTES),
            np.array(codes, dtype=np.uint16),
            np.array(qualities, dtype=np.uint8),
            np.frombuffer(values, dtype=np.uint8).reshape(-1, self.type.bits // 8),
        )
        joined = np.concatenate([self.ids[kept], new.ids])
        order = np.argsort(joined, kind="stable")  # fast, since the old rows are already sorted
        return Table(
            self.type,
            new.kind_names,
            joined[order],
            np.concatenate([self.items[kept], new.items])[order],
            np.concatenate([self.kinds[kept], new.kinds])[order],
            np.concatenate([self.qualities[kept], new.qualities])[order],
            np.concatenate([self.values[kept], new.values])[order],
        )

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        """The columns in the order of the file."""
        return (self.ids, self.items, self.kinds, self.qualities, self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A bank's state at one cursor of the feed.

    Attributes:
        lineage: identifies the bank.
        generation: counts the snapshots of the bank.
        cursor: the feed's cursor; None if no page was applied.
        tables: one per type of signal.
        size: of the file, in bytes.
        inode: device and inode number of the file.
        data: the mapped file; while it is mapped, no other file can have its inode.
    """

    lineage: bytes
    generation: int
    cursor: str | None
    tables: tuple[Table, ...]
    size: int
    inode: tuple[int, int]
    data: memoryview

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> Self:
        """Map a snapshot into memory and verify its checksums.

        Args:
            path: the file.
            verify: check every byte; if false, only the header.

        Raises:
            BankCorrupt: the file is damaged, foreign, newer, or of another byte order.
            OSError: the file cannot be opened.
        """
        with path.open("rb") as file:
            header = file.read(_START)
            status = os.fstat(file.fileno())
            if header[:8] != _MAGIC:
                raise BankCorrupt(f"{path} is not a bank. Check the path.")
            fields, rest = header[: _FIELDS.size], header[_FIELDS.size :]
            if sha256(fields).digest() + bytes(8) != rest:
                raise BankCorrupt(f"The header of the bank {path} is damaged. {START_OVER}")
            _, mark, version, lineage, generation, described, length, digest = _FIELDS.unpack(
                fields
            )
            if mark != _MARK:
                raise BankCorrupt(
                    f"{path} was written on a machine with another byte order. {START_OVER}"
                )
            if version != _VERSION:
                raise BankCorrupt(
                    f"{path} was written by a newer version of nciihash: upgrade nciihash."
                )
            if status.st_size != _START + length:
                raise BankCorrupt(f"The bank {path} is truncated. {START_OVER}")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if verify and sha256(data[_START:]).digest() != digest:
            raise BankCorrupt(f"The bank {path} is damaged. {START_OVER}")
        description = json.loads(bytes(data[_START : _START + described]))
        tables = []
        offset = _padded(_START + described)
        for entry in description["tables"]:
            try:
                type = SignalType(entry["type"])
                kinds = tuple((Media(m), Variant.named(v)) for m, v in entry["kinds"])
            except ValueError as error:
                raise BankCorrupt(NEWER_SIGNALS) from error
            columns, offset = _columns(data, offset, type, entry["rows"])
            tables.append(Table(type, kinds, *columns))
        inode = (status.st_dev, status.st_ino)
        cursor = description["cursor"]
        return cls(lineage, generation, cursor, tuple(tables), status.st_size, inode, data)

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is still this one."""
        status = path.stat()
        return self.inode == (status.st_dev, status.st_ino)


def write(
    path: Path, lineage: bytes, generation: int, cursor: str | None, tables: Sequence[Table]
) -> None:
    """Write a snapshot durably, replacing an existing one.

    Raises:
        OSError: the file cannot be written; an existing one is unchanged.
    """
    described = json.dumps(
        {
            "cursor": cursor,
            "tables": [
                {"type": t.type.value, "rows": len(t), "kinds": t.kind_names} for t in tables
            ],
        }
    ).encode()
    state = sha256()
    length = 0
    with atomic_write(path) as file:
        file.write(bytes(_START))
        for part in _parts(described, tables):
            state.update(part)
            file.write(part)
            length += len(part)
        fields = _FIELDS.pack(
            _MAGIC, _MARK, _VERSION, lineage, generation, len(described), length, state.digest()
        )
        file.seek(0)
        file.write(fields + sha256(fields).digest() + bytes(8))


def _parts(described: bytes, tables: Sequence[Table]) -> Iterator[bytes | memoryview]:
    yield described
    yield bytes(-len(described) % 8)
    for table in tables:
        for column in table.columns:
            if column.nbytes:
                yield np.ascontiguousarray(column).view(np.uint8).reshape(-1).data
            yield bytes(-column.nbytes % 8)


def _padded(size: int) -> int:
    return size + -size % 8


def _columns(
    data: memoryview, offset: int, type: SignalType, rows: int
) -> tuple[tuple[Any, ...], int]:
    """Return the columns of the table at an offset of `data`, as views, and where it ends."""
    columns: list[NDArray[Any]] = []
    for dtype, width in (
        (np.dtype(f"S{ID_BYTES}"), 1),
        (np.dtype(np.uint8), ID_BYTES),
        (np.dtype(np.uint16), 1),
        (np.dtype(np.uint8), 1),
        (np.dtype(np.uint8), type.bits // 8),
    ):
        column = np.frombuffer(data, dtype, rows * width, offset) if rows else np.empty(0, dtype)
        columns.append(column if width == 1 else column.reshape(rows, width))
        offset = _padded(offset + column.nbytes)
    return tuple(columns), offset
