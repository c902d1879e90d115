"""Acknowledgements of the feed and verdicts on matches, as platforms send them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from clearinghouse.abuse import overturned, verdict_holds
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import CursorExpired
from clearinghouse.platforms.feed import read_cursor
from clearinghouse.platforms.keys import Platform
from clearinghouse.sealing.platform_ids import PlatformIds
from clearinghouse.times import hour
from nciihash.signals import Verdict
from nciihash.wire import Acknowledgement, VerdictIn

BATCH: Final = 20  # verdicts per write transaction, so that other writers get their turn


def acknowledge(
    store: Store, tx: Transaction, platform: Platform, cursor: str, *, now: datetime
) -> Acknowledgement:
    """Record that the platform has stored, and matches against, everything up to a cursor.

    Nothing beyond what the feed has released is recorded: the cursor may be the `as_of` of a match,
    which covers log entries that feeds are sent only when the release period ends.

    Raises:
        BadCursor, CursorExpired: see `read_cursor`.
    """
    seq = read_cursor(store, platform, cursor)
    if seq > tx.log.head():
        raise CursorExpired  # the log was longer before the database was restored
    release_point, _ = tx.log.release_point()
    tx.platforms.acknowledge(platform.number, min(seq, release_point), hour(now))
    return Acknowledgement(cursor=cursor)


SignalVerdict = tuple[int, Verdict]  # the signal's row number, the verdict


def resolve(platform: Platform, verdicts: Sequence[VerdictIn]) -> list[SignalVerdict]:
    """Return verdicts by row number; drop those whose id was never issued to this platform."""
    decoded = [(platform.ids.read(PlatformIds.SIGNAL, v.id), v.verdict) for v in verdicts]
    return [(found[1], verdict) for found, verdict in decoded if found]


def batches(verdicts: Sequence[SignalVerdict]) -> list[Sequence[SignalVerdict]]:
    """Split verdicts into batches for one transaction each; returns at least one batch."""
    starts = range(0, max(len(verdicts), 1), BATCH)
    return [verdicts[start : start + BATCH] for start in starts]


def record(
    tx: Transaction, platform: Platform, verdicts: Sequence[SignalVerdict], *, now: datetime
) -> int:
    """Record verdicts; return how many were on signals that exist."""
    recorded = 0
    disputed: list[int] = []
    wrongly_blocked: list[int] = []
    for signal, verdict in verdicts:
        if overturned.overturns(tx, platform.number, signal, verdict):
            wrongly_blocked.append(signal)
        if tx.platforms.add_verdict(platform.number, signal, verdict.value, hour(now)):
            recorded += 1
            if verdict is Verdict.NOT_BLOCKED:
                disputed.append(signal)
            elif verdict is Verdict.BLOCKED:
                verdict_holds.release_blocked(tx, platform.number, [signal], now=now)
    verdict_holds.hold_agreed(tx, platform.number, disputed, now=now)
    overturned.ask(tx, platform.key, wrongly_blocked, now=now)
    return recorded
