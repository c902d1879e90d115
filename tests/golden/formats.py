"""Write the golden files of docs/formats.md: every byte follows from the constants below.

    python tests/golden/formats.py FOLDER

The files in tests/golden/formats were written by this program once. A second implementation reads
them and compares what it found with vectors.json, or, for `withdrawals`, with `write_withdrawals`.
They change only with the version of a format.
"""

import json
import sys
from pathlib import Path

import numpy as np

from clearinghouse.database.withdrawal_journal import Removal, WithdrawalJournal
from clearinghouse.sealing.platform_ids import PlatformIds
from nciihash import Index
from nciihash.bank import snapshot
from nciihash.bank.journal import Journal, encode
from nciihash.feed import Added, FeedPage, Removed
from nciihash.signals import Media, Signal, SignalType, Variant
from nciihash.veil import Veil
from nciihash.wire import FeedReply

LINEAGE = bytes(range(16))
GENERATION = 3
SECRET = bytes(range(32, 48))
VEIL_KEY = bytes(range(32))


def _id(number):
    return f"{number:032x}"


def _pdq(number):
    half = bytes((number * 37 + 11 * i) % 256 for i in range(16))
    return half + bytes(byte ^ 0xFF for byte in half)


def pages():
    """Return three pages of a feed: the first is in the snapshot, the others in the journal."""
    pdq, md5 = SignalType.PDQ, SignalType.MD5
    image, video = Media.IMAGE, Media.VIDEO
    original, mirror = Variant.ORIGINAL, Variant.MIRROR
    return (
        FeedPage(
            (
                Added(_id(1), _id(101), Signal(pdq, _pdq(1)), 90, image, original),
                Added(_id(2), _id(101), Signal(pdq, _pdq(2)), 88, image, mirror),
                Added(_id(3), _id(102), Signal(md5, bytes(range(16))), None, image, original),
                Added(_id(4), _id(103), Signal(pdq, _pdq(4)), 51, video, original),
            ),
            _id(1001),
            True,
        ),
        FeedPage(
            (
                Removed(_id(2)),
                Added(_id(5), _id(104), Signal(pdq, _pdq(5)), 100, image, original),
            ),
            _id(1002),
            True,
        ),
        FeedPage((), _id(1003), False),
    )


def write_bank(folder):
    """Write `bank`, a snapshot of the first page, and `bank-journal` with the other two."""
    first, *later = pages()
    tables = [
        snapshot.Table.empty(type).merged(
            np.ones(0, np.bool_), [entry for entry in first.entries if entry.signal.type is type]
        )
        for type in (SignalType.PDQ, SignalType.MD5)
    ]
    snapshot.write(folder / "bank", LINEAGE, GENERATION, first.cursor, tables)
    journal = Journal.create(folder / "bank-journal", LINEAGE, GENERATION)
    for page in later:
        journal.append(encode(page))
    journal.close()


def write_index(folder):
    """Write `index`: four PDQ hashes under the ids 7, 8, 9 and 4294967296, without tables."""
    index = Index(bits=256)
    hashes = np.frombuffer(b"".join(_pdq(n) for n in range(4)), np.uint8).reshape(4, 32)
    index.add(np.array([7, 8, 9, 2**32], np.uint64), hashes)
    index.save(folder / "index")


def write_withdrawals(folder):
    """Write `withdrawals`: two withdrawals, an expiry, a revoked key and an epoch."""
    journal = WithdrawalJournal(folder / "withdrawals")
    removals = [Removal(3, 1, expired=False), Removal(7, 2, expired=True), Removal(2**32, 5, False)]
    journal.catch_up(2**32, lambda after, _limit: [r for r in removals if r.seq > after])
    journal.add_keys([4])
    journal.set_epoch(2**40)


def vectors():
    """Return what the files hold, and examples of ids, cursors and veiled values."""
    ids = PlatformIds(SECRET)
    kinds = {"signal": 1, "item": 2, "cursor": 3, "record": 4, "page": 5}
    cases = [("signal", 0, 1), ("item", 0, 2**40), ("cursor", 1, 12), ("page", 2, 99)]
    values = [_pdq(n) for n in range(4)]
    return {
        "lineage": LINEAGE.hex(),
        "generation": GENERATION,
        "pages": [FeedReply.of(page).model_dump(mode="json") for page in pages()],
        "index": {
            "ids": [7, 8, 9, 2**32],
            "hashes": [value.hex() for value in values],
        },
        "ids": {
            "secret": SECRET.hex(),
            "names": [
                {
                    "kind": kind,
                    "epoch": epoch,
                    "number": number,
                    "id": ids.write(kinds[kind], [number], epoch=epoch)[0],
                }
                for kind, epoch, number in cases
            ],
        },
        "veil": {
            "key": VEIL_KEY.hex(),
            "values": [
                {"type": type, "value": value.hex(), "veiled_type": over.type, "veiled": over.hex}
                for type, value, over in _veiled()
            ],
        },
    }


def _veiled():
    for name in (SignalType.PDQ_VEIL128, SignalType.PDQ_VEIL144, SignalType.PDQ_VEIL160):
        signal = Signal(SignalType.PDQ, _pdq(1))
        yield SignalType.PDQ, signal.value, Veil(name, VEIL_KEY).over([signal])[0]
    for type in (SignalType.MD5, SignalType.SHA256):
        signal = Signal(type, bytes(range(type.bits // 8)))
        yield type, signal.value, Veil(SignalType.PDQ_VEIL128, VEIL_KEY).over([signal])[0]


def write(folder):
    """Write all golden files into a folder."""
    write_bank(folder)
    write_index(folder)
    write_withdrawals(folder)
    text = json.dumps(vectors(), indent=1)
    (folder / "vectors.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
