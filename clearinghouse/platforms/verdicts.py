"""What platforms say back: acknowledgements of the feed, and verdicts on matches."""

from collections.abc import Sequence
from datetime import datetime

from clearinghouse.abuse import verdict_holds
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import CursorExpired
from clearinghouse.platforms.feed import read_cursor
from clearinghouse.platforms.keys import Platform
from clearinghouse.sealing.platform_ids import Names
from clearinghouse.times import hour
from nciihash.signals import Verdict
from nciihash.wire import Acknowledgement, FeedbackTaken, VerdictIn


def acknowledge(
    store: Store, tx: Transaction, platform: Platform, cursor: str, *, now: datetime
) -> Acknowledgement:
    """Record that everything up to a cursor is on the platform's disk and in its matcher.

    Raises:
        BadCursor, CursorExpired: as `read_cursor`.
    """
    seq = read_cursor(store, platform, cursor)
    if seq > tx.log.head():
        raise CursorExpired  # of a log that was longer: the database was put back
    tx.platforms.acknowledge(platform.number, seq, hour(now))
    return Acknowledgement(cursor=cursor)


def record(
    tx: Transaction, platform: Platform, verdicts: Sequence[VerdictIn], *, now: datetime
) -> FeedbackTaken:
    """Record verdicts; those on ids that this platform was never given are counted and ignored."""
    recorded = 0
    doubted: list[int] = []
    for verdict in verdicts:
        named = platform.names.read(Names.SIGNAL, verdict.id)
        if named and tx.platforms.add_verdict(
            platform.number, named[1], verdict.verdict.value, hour(now)
        ):
            recorded += 1
            if verdict.verdict is Verdict.NOT_BLOCKED:
                doubted.append(named[1])
            elif verdict.verdict is Verdict.BLOCKED:
                verdict_holds.object_to(tx, platform.number, [named[1]], now=now)
    verdict_holds.weigh(tx, platform.number, doubted, now=now)
    return FeedbackTaken(recorded=recorded, unknown=len(verdicts) - recorded)
