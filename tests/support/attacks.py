"""What attackers on matching need: hashes at chosen distances, and a bank full of near copies."""

import secrets
from contextlib import closing
from datetime import UTC, datetime

from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.cases import lifecycle
from clearinghouse.cases.intake import prepare
from nciihash.signals import MATCHED, Hashed, Item, Media, Signal, SignalType
from nciihash.wire import Declaration, ItemIn, Reason

BITS = SignalType.PDQ.bits


def some_pdq(draw):
    """Draw a value that PDQ could give, as a number: half of its bits are set."""
    return sum(1 << place for place in draw.sample(range(BITS), BITS // 2))


def flipped(draw, value, bits, places=range(BITS)):
    """Flip an even number of bits among some places, as many that are set as that are not."""
    ones = [1 << place for place in places if value >> place & 1]
    zeros = [1 << place for place in places if not value >> place & 1]
    return value ^ sum(draw.sample(ones, bits // 2) + draw.sample(zeros, bits // 2))


def hashed(value, quality=90):
    """Return a PDQ hash from a number."""
    return Hashed(Signal(SignalType.PDQ, value.to_bytes(BITS // 8, "big")), quality)


def item_of(value):
    """Return a file of one hash."""
    return Item(Media.IMAGE, (hashed(value),))


def flood(process, values, a_case=200):
    """Open cases that hold these values, next to the service, since over HTTP it takes minutes."""
    with closing(process.store()) as store:
        lawful, now = LawfulList(), datetime.now(UTC)
        for start in range(0, len(values), a_case):
            part = [ItemIn.of(item_of(value)) for value in values[start : start + a_case]]
            intake = prepare(store, lawful, part, MATCHED)
            with store.write() as tx:
                lifecycle.open_case(
                    tx,
                    Declaration(adult=True, depicted=True),
                    Reason.SHARED,
                    intake,
                    lookup=secrets.token_bytes(32),
                    number="",
                    passphrase="",
                    verifier="",
                    months=1,
                    now=now,
                )
