"""The journal of a bank, its write-ahead log: one checksummed, fsynced record per page of the feed.

Numbers are little-endian. The file starts with a header:

    offset  bytes  content
    0       8      magic
    8       4      version of the format
    12      4      zeros
    16      16     lineage: identifies the bank
    32      8      generation: of the snapshot on which the pages build
    40      24     the first 24 bytes of the SHA-256 of the 40 bytes above

Records follow. Each starts with a frame of 48 bytes: the word `PAGE`, the length of the payload (4
bytes), the record's number in this file (8), and the SHA-256 (32) of the header's checksum, the
frame's first 16 bytes and the payload. The checksum ties a record to one position in one journal,
and lets a valid record be recognised even if the ones before it are damaged.
"""

import json
import os
import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Self, assert_never

from nciihash.durable import atomic_write, filename_in_errors
from nciihash.errors import BankCorrupt
from nciihash.feed import Added, FeedEntry, FeedPage, Removed
from nciihash.signals import Media, Signal, SignalType, Variant

ID_BYTES: Final = 16

_MAGIC: Final = b"NCIIjnl\n"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sII16sQ")
_CHECKSUM: Final = 24
_START: Final = _HEADER.size + _CHECKSUM
_WORD: Final = b"PAGE"
_FRAME: Final = struct.Struct("<4sIQ")
_DIGEST: Final = 32
_LENGTH: Final = struct.Struct("<I")
_CODE: Final = struct.Struct("<H")
_REMOVED: Final = 0xFFFF  # the code of a removal
_UNRATED: Final = 0xFF  # the code of a missing quality


class Journal:
    """An open journal. Not thread-safe.

    Attributes:
        path: the file.
        lineage: from the header.
        generation: from the header.
        offset: the byte offset of the next record.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._number = 0
        self.offset = _START
        header = os.pread(descriptor, _START, 0)
        if header[:8] != _MAGIC:
            raise BankCorrupt(f"{path} is not the journal of a bank. {START_OVER}")
        fields, self._checksum = header[: _HEADER.size], header[_HEADER.size :]
        if sha256(fields).digest()[:_CHECKSUM] != self._checksum:
            raise BankCorrupt(f"The header of {path} is damaged. {START_OVER}")
        _, version, _, self.lineage, self.generation = _HEADER.unpack(fields)
        if version != _VERSION:
            raise BankCorrupt(
                f"{path} was written by a newer version of nciihash: upgrade nciihash."
            )

    @classmethod
    def create(cls, path: Path, lineage: bytes, generation: int) -> Self:
        """Write an empty journal durably, replacing an existing one, and open it."""
        fields = _HEADER.pack(_MAGIC, _VERSION, 0, lineage, generation)
        with atomic_write(path) as file:
            file.write(fields + sha256(fields).digest()[:_CHECKSUM])
        return cls.open(path, write=True)

    @classmethod
    def open(cls, path: Path, *, write: bool) -> Self:
        """Open a journal and verify its header.

        Raises:
            BankCorrupt: the header is damaged, foreign or newer.
            OSError: the file cannot be opened.
        """
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            return cls(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def read(self) -> Iterator[FeedPage]:
        """Yield the pages from `offset` to the last valid record, moving `offset` after each.

        Anything after the last valid record is a torn record of a write that a crash or a power cut
        interrupted. Its page was never reported as durable, and is fetched from the feed again.

        Raises:
            BankCorrupt: a record is damaged, but valid ones follow it.
        """
        data = memoryview(self._read_rest())
        start = 0
        while (payload := self._payload(data, start, self._number)) is not None:
            page = decode(payload)
            size = _FRAME.size + _DIGEST + len(payload)
            start += size
            self.offset += size
            self._number += 1
            yield page
        if self._has_valid_record(data, start):
            raise BankCorrupt(
                f"Record {self._number} of {self.path}, at byte {self.offset}, is damaged. "
                f"{START_OVER}"
            )

    def truncate(self) -> None:
        """Truncate the file durably at `offset`, after which there may be a torn record."""
        if os.fstat(self._descriptor).st_size > self.offset:
            with filename_in_errors(self.path):
                os.ftruncate(self._descriptor, self.offset)
                os.fsync(self._descriptor)

    def append(self, payload: bytes) -> None:
        """Append one record and fsync it.

        After an error the file may contain a part of the record, or all of it: open it again.

        Raises:
            OSError: the disk is full or failing.
        """
        frame = _FRAME.pack(_WORD, len(payload), self._number)
        record = memoryview(frame + self._digest(frame, payload) + payload)
        written = 0
        with filename_in_errors(self.path):
            while written < len(record):
                written += os.pwrite(self._descriptor, record[written:], self.offset + written)
            os.fsync(self._descriptor)
        self.offset += len(record)
        self._number += 1

    def _read_rest(self) -> bytes:
        """Read the file from `offset` to its end."""
        parts = []
        offset = self.offset
        with filename_in_errors(self.path):
            while part := os.pread(self._descriptor, 1 << 24, offset):
                parts.append(part)
                offset += len(part)
        return b"".join(parts)

    def _digest(self, frame: bytes | memoryview, payload: bytes | memoryview) -> bytes:
        state = sha256(self._checksum)
        state.update(frame)
        state.update(payload)
        return state.digest()

    def _payload(self, data: memoryview, start: int, number: int | None) -> memoryview | None:
        """Return the payload of the record at `start`, or None if there is no valid record.

        Args:
            data: the file from `offset` on.
            start: where in `data` the record starts.
            number: the number that the record must have; None for any.
        """
        body = start + _FRAME.size + _DIGEST
        if len(data) < body:
            return None
        word, length, actual = _FRAME.unpack_from(data, start)
        payload = data[body : body + length]
        if word != _WORD or len(payload) != length or number not in {None, actual}:
            return None
        frame = data[start : start + _FRAME.size]
        if self._digest(frame, payload) != data[start + _FRAME.size : body]:
            return None
        return payload

    def _has_valid_record(self, data: memoryview, start: int) -> bool:
        """Whether any record after `start` is valid."""
        rest = bytes(data[start:])
        position = rest.find(_WORD, 1)
        while position >= 0:
            if self._payload(data, start + position, None) is not None:
                return True
            position = rest.find(_WORD, position + 1)
        return False


START_OVER: Final = "Move the bank away and follow the feed from the beginning."


def raw_id(id: str) -> bytes:
    """Return the 16 bytes of an id, or of an item's id, from the feed.

    Raises:
        ValueError: it is not 32 lowercase hexadecimal digits, as in the wire format.
    """
    try:
        raw = bytes.fromhex(id)
    except ValueError:
        raw = b""
    if len(raw) != ID_BYTES or raw.hex() != id:
        raise ValueError(f"An id in a feed must be {2 * ID_BYTES} lowercase hexadecimal digits.")
    return raw


def encode(page: FeedPage) -> bytes:
    """Serialize a page: its cursor and kinds as JSON, then its entries column by column.

    The columns are a 2-byte code for each entry (an index into `kinds`, or 65535 for a removal) and
    the ids, then for the additions only the items, the qualities (255 for none) and the values.
    Types, media and variants are written by name, so that the format does not depend on the order
    of the enums.

    Raises:
        ValueError: an id or an item's id is not 32 lowercase hexadecimal digits, or a quality is
            not from 0 to 100.
    """
    kinds: dict[tuple[str, str, str], int] = {}
    codes, ids, items, qualities, values = [], [], [], bytearray(), []
    for entry in page.entries:
        ids.append(raw_id(entry.id))
        match entry:
            case Added():
                kind = (entry.signal.type.value, entry.media.value, entry.variant.value)
                codes.append(_CODE.pack(kinds.setdefault(kind, len(kinds))))
                items.append(raw_id(entry.item))
                if entry.quality is not None and not 0 <= entry.quality <= 100:
                    raise ValueError("A quality must be a number from 0 to 100.")
                qualities.append(_UNRATED if entry.quality is None else entry.quality)
                values.append(entry.signal.value)
            case Removed():
                codes.append(_CODE.pack(_REMOVED))
            case _ as never:
                assert_never(never)
    head = {"cursor": page.cursor, "more": page.more, "entries": len(ids), "kinds": list(kinds)}
    text = json.dumps(head).encode()
    return b"".join([_LENGTH.pack(len(text)), text, *codes, *ids, *items, qualities, *values])


def decode(payload: memoryview) -> FeedPage:
    """Deserialize what `encode` wrote. The payload's checksum must have been verified.

    Raises:
        BankCorrupt: a type or medium is unknown, so a newer version wrote it.
    """
    (length,) = _LENGTH.unpack_from(payload)
    head = json.loads(bytes(payload[4 : 4 + length]))
    count = head["entries"]
    try:
        kinds = [(SignalType(t), Media(m), Variant.named(v)) for t, m, v in head["kinds"]]
    except ValueError as error:
        raise BankCorrupt(NEWER_SIGNALS) from error
    code_at = 4 + length
    codes = struct.unpack_from(f"<{count}H", payload, code_at)
    id_at = code_at + 2 * count
    item_at = id_at + ID_BYTES * count
    additions = sum(code != _REMOVED for code in codes)
    quality_at = item_at + ID_BYTES * additions
    value_at = quality_at + additions
    entries: list[FeedEntry] = []
    for code in codes:
        id = payload[id_at : id_at + ID_BYTES].hex()
        id_at += ID_BYTES
        if code == _REMOVED:
            entries.append(Removed(id))
            continue
        type, media, variant = kinds[code]
        size = type.bits // 8
        signal = Signal(type, bytes(payload[value_at : value_at + size]))
        quality = payload[quality_at]
        item = payload[item_at : item_at + ID_BYTES].hex()
        entries.append(
            Added(id, item, signal, None if quality == _UNRATED else quality, media, variant)
        )
        value_at, item_at, quality_at = value_at + size, item_at + ID_BYTES, quality_at + 1
    return FeedPage(tuple(entries), head["cursor"], head["more"])


NEWER_SIGNALS: Final = (
    "The bank has signals of a type that this version does not know: upgrade nciihash."
)
