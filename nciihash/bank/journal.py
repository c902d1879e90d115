"""The journal of a bank: each page of the feed is one checksummed record, fsynced as it is written.

Numbers are little-endian. The file starts with a header:

    0    8   magic
    8    4   version of the format
    12   4   zero
    16   16  lineage: which bank this journal belongs to
    32   8   generation: which of the bank's snapshots its pages come after
    40   24  the first bytes of the SHA-256 of all that

Then come records, each behind a frame of 48 bytes: the word `PAGE`, the length of the payload (4),
its number in this file (8), and the SHA-256 (32) of the header's checksum, these 16 bytes and the
payload. So a record is valid in one place of one journal only, and can be recognized there even
when what comes before it is damaged.
"""

import json
import os
import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Self, assert_never

from nciihash.durable import naming, replacing
from nciihash.errors import BankCorrupt
from nciihash.feed import Added, FeedEntry, FeedPage, Removed
from nciihash.signals import Media, Signal, SignalType, Variant

ID_BYTES: Final = 16

_MAGIC: Final = b"NCIIjnl\n"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sII16sQ")
_SEAL: Final = 24
_START: Final = _HEADER.size + _SEAL
_WORD: Final = b"PAGE"
_FRAME: Final = struct.Struct("<4sIQ")
_DIGEST: Final = 32
_LENGTH: Final = struct.Struct("<I")
_CODE: Final = struct.Struct("<H")
_REMOVED: Final = 0xFFFF  # in the place of an addition's kind
_UNRATED: Final = 0xFF  # in the place of a quality


class Journal:
    """An open journal. Not for use by several threads at once.

    `lineage` and `generation` are the header's; `offset` is where the next record belongs.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._number = 0
        self.offset = _START
        header = os.pread(descriptor, _START, 0)
        if header[:8] != _MAGIC:
            raise BankCorrupt(f"{path} is not the journal of a bank. {AGAIN}")
        fields, self._seal = header[: _HEADER.size], header[_HEADER.size :]
        if sha256(fields).digest()[:_SEAL] != self._seal:
            raise BankCorrupt(f"The header of {path} is damaged. {AGAIN}")
        _, version, _, self.lineage, self.generation = _HEADER.unpack(fields)
        if version != _VERSION:
            raise BankCorrupt(f"{path} was written by a newer version of nciihash: upgrade it.")

    @classmethod
    def create(cls, path: Path, lineage: bytes, generation: int) -> Self:
        """Put an empty journal in the place of the one that may be there, durably, and open it."""
        fields = _HEADER.pack(_MAGIC, _VERSION, 0, lineage, generation)
        with replacing(path) as file:
            file.write(fields + sha256(fields).digest()[:_SEAL])
        return cls.open(path, write=True)

    @classmethod
    def open(cls, path: Path, *, write: bool) -> Self:
        """Open a journal and check its header.

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
        """Give the file back."""
        os.close(self._descriptor)

    def read(self) -> Iterator[FeedPage]:
        """Read the records from `offset` to the last valid one, moving `offset` behind each.

        What follows the last valid record is a write that a crash or a power cut interrupted: its
        page was never reported durable, and is fetched from the feed again.

        Raises:
            BankCorrupt: a record is damaged although valid ones follow it.
        """
        data = memoryview(self._rest())
        at = 0
        while (payload := self._payload(data, at, self._number)) is not None:
            page = decode(payload)
            size = _FRAME.size + _DIGEST + len(payload)
            at += size
            self.offset += size
            self._number += 1
            yield page
        if self._valid_later(data, at):
            raise BankCorrupt(
                f"Record {self._number} of {self.path}, at byte {self.offset}, is damaged. {AGAIN}"
            )

    def cut(self) -> None:
        """Cut off, durably, what stands behind `offset`: the rest of an interrupted write."""
        if os.fstat(self._descriptor).st_size > self.offset:
            with naming(self.path):
                os.ftruncate(self._descriptor, self.offset)
                os.fsync(self._descriptor)

    def append(self, payload: bytes) -> None:
        """Write one record behind the last and fsync it.

        After an error the file may hold a part of the record, or all of it: open it anew.

        Raises:
            OSError: the disk is full or failing.
        """
        start = _FRAME.pack(_WORD, len(payload), self._number)
        record = memoryview(start + self._digest(start, payload) + payload)
        written = 0
        with naming(self.path):
            while written < len(record):
                written += os.pwrite(self._descriptor, record[written:], self.offset + written)
            os.fsync(self._descriptor)
        self.offset += len(record)
        self._number += 1

    def _rest(self) -> bytes:
        """Read everything behind `offset`."""
        parts = []
        at = self.offset
        with naming(self.path):
            while part := os.pread(self._descriptor, 1 << 24, at):
                parts.append(part)
                at += len(part)
        return b"".join(parts)

    def _digest(self, start: bytes | memoryview, payload: bytes | memoryview) -> bytes:
        state = sha256(self._seal)
        state.update(start)
        state.update(payload)
        return state.digest()

    def _payload(self, data: memoryview, at: int, number: int | None) -> memoryview | None:
        """Give the payload of the record at a place of `data`, or None if none is valid there."""
        body = at + _FRAME.size + _DIGEST
        if len(data) < body:
            return None
        word, length, stated = _FRAME.unpack_from(data, at)
        payload = data[body : body + length]
        if word != _WORD or len(payload) != length or number not in {None, stated}:
            return None
        start = data[at : at + _FRAME.size]
        if self._digest(start, payload) != data[at + _FRAME.size : body]:
            return None
        return payload

    def _valid_later(self, data: memoryview, at: int) -> bool:
        rest = bytes(data[at:])
        place = rest.find(_WORD, 1)
        while place >= 0:
            if self._payload(data, at + place, None) is not None:
                return True
            place = rest.find(_WORD, place + 1)
        return False


AGAIN: Final = "Move the bank away and follow the feed again from the beginning."


def raw_id(id: str) -> bytes:
    """Give the 16 bytes that an id or an item of the feed stands for.

    Raises:
        ValueError: it is not 32 lowercase hexadecimal digits, as the wire writes them.
    """
    try:
        raw = bytes.fromhex(id)
    except ValueError:
        raw = b""
    if len(raw) != ID_BYTES or raw.hex() != id:
        raise ValueError(f"The ids of a feed have {2 * ID_BYTES} lowercase hexadecimal digits.")
    return raw


def encode(page: FeedPage) -> bytes:
    """Write a page down: its cursor and kinds as JSON, then its entries column by column.

    The columns: a 2-byte code for each entry (its place in `kinds`, or 65535 for a removal), the
    ids, and of the additions the items, the qualities (255 for none), and the values. Names of
    types, media and variants are written out, so that the file does not depend on their order.

    Raises:
        ValueError: an id or an item is not 32 lowercase hexadecimal digits, or a quality not 0-100.
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
                    raise ValueError("A quality is a number from 0 to 100.")
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
    """Read back what `encode` wrote and a checksum has vouched for.

    Raises:
        BankCorrupt: a type, medium or variant that only a newer version knows.
    """
    (length,) = _LENGTH.unpack_from(payload)
    head = json.loads(bytes(payload[4 : 4 + length]))
    count = head["entries"]
    try:
        kinds = [(SignalType(t), Media(m), Variant(v)) for t, m, v in head["kinds"]]
    except ValueError as error:
        raise BankCorrupt(NEWER) from error
    at = 4 + length
    codes = struct.unpack_from(f"<{count}H", payload, at)
    id_at = at + 2 * count
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
        rated = None if quality == _UNRATED else quality
        entries.append(Added(id, item, signal, rated, media, variant))
        value_at, item_at, quality_at = value_at + size, item_at + ID_BYTES, quality_at + 1
    return FeedPage(tuple(entries), head["cursor"], head["more"])


NEWER: Final = "The bank holds signals that this version of nciihash does not know: upgrade it."
