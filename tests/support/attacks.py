"""Tools for attacks on matching: hashes at given distances, and a bank full of near copies."""

import secrets
from contextlib import closing
from datetime import UTC, datetime

from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.cases import lifecycle
from clearinghouse.cases.intake import prepare
from nciihash.signals import ALWAYS_MATCHED, Hashed, Item, Media, Signal, SignalType
from nciihash.wire import Declaration, ItemIn, Reason

BITS = SignalType.PDQ.bits


def some_pdq(draw):
    """Draw a plausible PDQ value, as an int: half of its bits are set."""
    return sum(1 << n for n in draw.sample(range(BITS), BITS // 2))


def flipped(draw, value, bits, positions=range(BITS)):
    """Flip an even number of bits at some positions, as many set as unset ones."""
    ones = [1 << n for n in positions if value >> n & 1]
    zeros = [1 << n for n in positions if not value >> n & 1]
    return value ^ sum(draw.sample(ones, bits // 2) + draw.sample(zeros, bits // 2))


def hashed(value, quality=90):
    """Return a PDQ hash from an int."""
    return Hashed(Signal(SignalType.PDQ, value.to_bytes(BITS // 8, "big")), quality)


def item_of(value):
    """Return a file with one hash."""
    return Item(Media.IMAGE, (hashed(value),))


def flood(process, values, a_case=200):
    """Open cases with these values, directly in the database: over HTTP it takes minutes."""
    with closing(process.store()) as store:
        lawful, now = AllowlistIndex(), datetime.now(UTC)
        for start in range(0, len(values), a_case):
            part = [ItemIn.of(item_of(value)) for value in values[start : start + a_case]]
            intake = prepare(store, lawful, part, ALWAYS_MATCHED)
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
