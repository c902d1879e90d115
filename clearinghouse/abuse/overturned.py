"""Overturned blocks: a platform reports `not_blocked` on a hash that it had blocked.

This happens after an appeal: a person found that an upload should not have been stopped. A single
such mistake puts nothing on hold, since strangers' pictures sometimes resemble each other, and the
same platform continues to block copies of the file. But the operator is asked, because a file on
which it happens again and again may not be what its submitter declared. The question stays open
when the platform blocks the next copy.

One key must not be able to bury other questions, so a platform can open as many of these in a day
(UTC) as its verdicts can help to put files on hold (`clearinghouse.abuse.verdict_holds`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from clearinghouse.abuse.verdict_holds import daily_limit
from clearinghouse.database.transaction import Transaction
from clearinghouse.times import day, hour
from nciihash.signals import Verdict


def overturns(tx: Transaction, platform: int, signal: int, verdict: Verdict) -> bool:
    """Whether a new verdict says that a block of this platform was wrong.

    Args:
        tx: a transaction in which the new verdict has not been recorded yet.
        platform: row number of the platform.
        signal: row number of the signal.
        verdict: the new verdict.
    """
    return (
        verdict is Verdict.NOT_BLOCKED
        and tx.signals.verdicts(signal).get(platform) == Verdict.BLOCKED
    )


def ask(tx: Transaction, key: int, signals: Iterable[int], *, now: datetime) -> None:
    """Open questions about the files of overturned blocks, or count them in open ones.

    Args:
        tx: a write transaction.
        key: row number of the key that sent the verdicts.
        signals: row numbers of the signals.
        now: the time.
    """
    items = Counter(item for signal in signals if (item := tx.signals.item(signal)) is not None)
    if items:
        _ask(tx, key, items, now=now)


def _ask(tx: Transaction, key: int, items: Mapping[int, int], *, now: datetime) -> None:
    opened = tx.reviews.count_overturned(key, since=day(now))
    limit: int | None = None
    for item, count in items.items():
        if tx.reviews.add_to_overturned(key, item, count):
            continue
        if limit is None:  # it reads every file
            limit = daily_limit(tx.takeouts.count_survivors_files())
        if opened < limit:
            tx.reviews.add_overturned(key, item, count, hour(now))
            opened += 1
