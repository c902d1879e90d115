"""Verdict holds: signals that platforms agree not to block are put on hold.

When two platforms report `not_blocked` for a signal and none reports `blocked`, the signal is put
on hold: it matches nothing from then on, its removal is logged, and its value stays sealed for
`HELD_DAYS`. The operator is asked. If she keeps the file, the signal is released; if she removes
it, the signal is purged at once; if she does not decide in time, `purge_undecided` purges it. A
later `blocked` from any platform releases it too.

Two keys alone must not be able to empty the bank. A platform's verdicts can therefore help to put
at most `daily_limit` files on hold in a day (UTC); above that, the file keeps matching and the
operator is asked. Files are counted in the write transaction, of which there is one at a time.
Verdicts alone do not put on hold again what the operator has kept; she is asked again when more
platforms agree than before.

A survivor who submits an equal value in the meantime is not refused: her file is put on hold as
well (`RESUBMITTED`) until the operator decides. Without a decision within `HELD_DAYS` it is
released, and verdicts alone do not put it on hold again. So no two keys can exclude anybody from
the service.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.queries.reviews import KEPT, OPEN, REMOVED, RESUBMITTED, VERDICTS
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.times import Day, Hour, day, hour
from nciihash.signals import Verdict
from nciihash.wire import TakenOut

AGREEING: Final = 2  # platforms that report `not_blocked`
HELD_DAYS: Final = 7
FILES_A_DAY: Final = 20
_SHARE: Final = 1_000  # one file in a thousand a day, if that is more than `FILES_A_DAY`
_BATCH: Final = 100  # files decided in one transaction, so that other writers need not wait long


def daily_limit(files: int) -> int:
    """Return how many files a platform's verdicts may help to put on hold in a day.

    Args:
        files: files of survivors that are not withdrawn.
    """
    return max(FILES_A_DAY, -(-files // _SHARE))


def hold_agreed(tx: Transaction, platform: int, signals: Iterable[int], *, now: datetime) -> int:
    """Put those signals on hold on which platforms now agree; return how many.

    Args:
        tx: a write transaction.
        platform: whose verdict it was, for the audit trail.
        signals: row numbers of the signals with a new verdict.
        now: the time.
    """
    limit = _DailyLimit(tx, day(now))
    return sum(
        _hold_if_agreed(tx, limit, platform, signal, now=now) for signal in dict.fromkeys(signals)
    )


class _DailyLimit:
    """How many files platforms' verdicts have put on hold today, and may still put on hold.

    Args:
        tx: a write transaction.
        day: the day.
    """

    def __init__(self, tx: Transaction, day: Day) -> None:
        self._tx = tx
        self._day = day
        self._limit: int | None = None

    def allows(self, agreeing: Sequence[int], item: int) -> bool:
        """Whether each of these platforms may help to put one more file on hold."""
        most = max(self._tx.takeouts.count(by, self._day, other_than=item) for by in agreeing)
        if most < FILES_A_DAY:
            return True
        if self._limit is None:  # once, and only when needed: it reads every file
            self._limit = daily_limit(self._tx.takeouts.count_survivors_files())
        return most < self._limit

    def count(self, agreeing: Sequence[int], item: int) -> None:
        """Count a file for each of these platforms."""
        self._tx.takeouts.add(agreeing, self._day, item)


def _hold_if_agreed(
    tx: Transaction, limit: _DailyLimit, platform: int, signal: int, *, now: datetime
) -> bool:
    verdicts = tx.signals.verdicts(signal)
    agreeing = [by for by, verdict in verdicts.items() if verdict == Verdict.NOT_BLOCKED]
    if len(agreeing) < AGREEING or Verdict.BLOCKED in verdicts.values():
        return False
    item = tx.signals.item(signal)
    assert item is not None  # noqa: S101 - it has verdicts
    asked = tx.reviews.last(VERDICTS, item)
    held = tx.signals.count_held(item)
    if asked is not None and asked.state == KEPT and len(agreeing) <= asked.counted:
        return False
    again = tx.reviews.last(RESUBMITTED, item)
    tx.reviews.add(VERDICTS, item, len(agreeing), hour(now))
    # the operator has kept it, or was asked when nothing was on hold
    decided = asked is not None and (asked.state == KEPT or (asked.state == OPEN and not held))
    if decided or again is not None or not limit.allows(agreeing, item):
        return False
    limit.count(agreeing, item)
    tx.signals.hold(signal, hour(now))
    if not held:
        _record(tx, Act.FILE_HELD, tx.platforms.name(platform), now=now)
    return True


def release_blocked(
    tx: Transaction, platform: int, signals: Iterable[int], *, now: datetime
) -> None:
    """Release the files for which a platform now reports `blocked`."""
    for signal in signals:
        item = tx.signals.item(signal)
        if item is not None and tx.signals.is_held(signal):
            release(tx, item, now=now)
            _record(tx, Act.FILE_PUT_BACK, tx.platforms.name(platform), now=now)


def release(tx: Transaction, item: int, *, now: datetime) -> None:
    """Release the signals of a file that are on hold, and close the questions about it.

    They match again. Files on hold because they repeat its values are released too.
    """
    others = []
    if tx.reviews.last(VERDICTS, item) is not None:
        others = [
            other
            for other in tx.signals.list_items_with_same_held_value(item)
            if _is_resubmitted(tx, other)
        ]
    for each in (item, *others):
        _release(tx, each, now=now)


def _release(tx: Transaction, item: int, *, now: datetime) -> None:
    tx.signals.release(item, hour(now), held=True)
    for kind in (VERDICTS, RESUBMITTED):
        question = tx.reviews.last(kind, item)
        if question is not None and question.state == OPEN:
            tx.reviews.close(question.id, KEPT, hour(now))


def _is_resubmitted(tx: Transaction, item: int) -> bool:
    asked = tx.reviews.last(RESUBMITTED, item)
    return asked is not None and asked.state == OPEN


def purge_undecided(store: Store, *, now: datetime) -> int:
    """Purge signals on hold for `HELD_DAYS` without a decision; return of how many files.

    Resubmitted files are released instead.
    """
    total = 0
    before = hour(now - timedelta(days=HELD_DAYS))
    while True:
        with store.write() as tx:
            due = tx.signals.list_held_items(before, _BATCH)
            ended = sum(_purge_item(tx, item, before, now=now) for item in due)
            for act, count in (
                (Act.VERDICTS_DONE, ended),
                (Act.VERDICTS_UNDONE, len(due) - ended),
            ):
                if count:
                    audit.record(tx.vault, tx, act, count=count, hour=hour(now))
            tx.takeouts.delete_before(hour(now - timedelta(days=2)))
        total += ended
        if len(due) < _BATCH:
            return total


def _purge_item(tx: Transaction, item: int, before: Hour, *, now: datetime) -> bool:
    if _is_resubmitted(tx, item):
        release(tx, item, now=now)
        return False
    if not tx.signals.remove_held(item, before, hour(now)):
        tx.reviews.add_removal(item, TakenOut.PLATFORMS)
        tx.reviews.close_all(item, hour(now))
    elif not tx.signals.count_held(item) and (asked := tx.reviews.last(VERDICTS, item)):
        tx.reviews.close(asked.id, REMOVED, hour(now))
    return True


def _record(tx: Transaction, act: Act, platform: str, *, now: datetime) -> None:
    audit.record(tx.vault, tx, act, platform, count=1, hour=hour(now))
