"""What platforms say back: acknowledgements of the feed, and verdicts on matches."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from clearinghouse.abuse import verdict_holds
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import CursorExpired
from clearinghouse.platforms.feed import read_cursor
from clearinghouse.platforms.keys import Platform
from clearinghouse.sealing.platform_ids import PlatformIds
from clearinghouse.times import hour
from nciihash.signals import Verdict
from nciihash.wire import Acknowledgement, VerdictIn

AT_ONCE: Final = 20  # verdicts recorded in one transaction


def acknowledge(
    store: Store, tx: Transaction, platform: Platform, cursor: str, *, now: datetime
) -> Acknowledgement:
    """Record that everything up to a cursor is on the platform's disk and in its matcher.

    At most what feeds have been given is recorded: `as_of` of a match stands behind what they are
    only given at the end of the period, too.

    Raises:
        BadCursor, CursorExpired: as `read_cursor`.
    """
    seq = read_cursor(store, platform, cursor)
    if seq > tx.log.head():
        raise CursorExpired  # of a log that was longer: the database was put back
    given, _ = tx.log.released()
    tx.platforms.acknowledge(platform.number, min(seq, given), hour(now))
    return Acknowledgement(cursor=cursor)


Read = tuple[int, Verdict]


def read(platform: Platform, verdicts: Sequence[VerdictIn]) -> list[Read]:
    """Return the signals that verdicts are on, but for ids that this platform was never given."""
    named = [(platform.names.read(PlatformIds.SIGNAL, v.id), v.verdict) for v in verdicts]
    return [(found[1], verdict) for found, verdict in named if found]


def parts(verdicts: Sequence[Read]) -> list[Sequence[Read]]:
    """Divide verdicts among transactions, so that nobody else has to wait long; one at least."""
    starts = range(0, max(len(verdicts), 1), AT_ONCE)
    return [verdicts[start : start + AT_ONCE] for start in starts]


def record(tx: Transaction, platform: Platform, verdicts: Sequence[Read], *, now: datetime) -> int:
    """Record verdicts, and count those on signals that are known."""
    recorded = 0
    doubted: list[int] = []
    for signal, verdict in verdicts:
        if tx.platforms.add_verdict(platform.number, signal, verdict.value, hour(now)):
            recorded += 1
            if verdict is Verdict.NOT_BLOCKED:
                doubted.append(signal)
            elif verdict is Verdict.BLOCKED:
                verdict_holds.object_to(tx, platform.number, [signal], now=now)
    verdict_holds.weigh(tx, platform.number, doubted, now=now)
    return recorded
