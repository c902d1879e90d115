"""What platforms decide together, how much of it, and for how long it can be put back.

When two platforms say `not_blocked` of a signal and none says `blocked`, it is held back: it
matches nothing from then on, its removal is logged, and its value stays sealed for `HELD_DAYS`. The
operator is asked. What she keeps is put back; what she removes is purged at once; what she does not
decide in that time is purged by `carry_out`. A later `blocked` of any platform puts it back too.

Two keys alone must not empty the bank. So a platform's verdicts help to hold back at most `bound`
files on a day (UTC), and above that the file stays matched and the operator is asked. The count is
made in the write transaction, of which there is one at a time. What the operator has kept, verdicts
alone do not hold back again; she is asked again when more platforms agree than before.

Whoever submits an equal value meanwhile is not refused: her file is held back as well
(`RESUBMITTED`) until the operator decides. If she does not within `HELD_DAYS`, it goes out, and
verdicts alone do not hold it back again. No two keys can bar somebody from the service.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.queries.reviews import KEPT, OPEN, REMOVED, RESUBMITTED, VERDICTS
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.times import Day, Hour, day_of, hour
from nciihash.signals import Verdict
from nciihash.wire import TakenOut

AGREEING: Final = 2  # platforms that say `not_blocked`
HELD_DAYS: Final = 7
FILES_A_DAY: Final = 20
_SHARE: Final = 1_000  # of so many files one, where that is more
_BATCH: Final = 100  # files decided in one transaction, so that writers between are not kept


def bound(files: int) -> int:
    """Return how many of so many files a platform's verdicts may help to hold back on a day."""
    return max(FILES_A_DAY, -(-files // _SHARE))


def weigh(tx: Transaction, platform: int, signals: Iterable[int], *, now: datetime) -> int:
    """Hold back the signals that platforms agree on, after a verdict, and count them.

    Args:
        tx: a write transaction.
        platform: whose verdict it was; the trail names it.
        signals: what it was given on.
        now: the time.
    """
    day = _Day(tx, day_of(hour(now)))
    return sum(_weigh(tx, day, platform, signal, now=now) for signal in dict.fromkeys(signals))


class _Day:
    """How much platforms' verdicts may hold back today.

    Args:
        tx: a write transaction.
        start: the beginning of the day (UTC), in seconds since 1970.
    """

    def __init__(self, tx: Transaction, start: Day) -> None:
        self._tx = tx
        self._start = start
        self._bound: int | None = None

    def allows(self, agreeing: Sequence[int], item: int) -> bool:
        """Whether none of these platforms would help to hold back more files than it may."""
        most = max(self._tx.takeouts.count(by, self._start, other_than=item) for by in agreeing)
        if most < FILES_A_DAY:
            return True
        if self._bound is None:  # once, and only where it matters: it reads every file
            self._bound = bound(self._tx.takeouts.survivors_files())
        return most < self._bound

    def count(self, agreeing: Sequence[int], item: int) -> None:
        """Count a file for each of these platforms."""
        self._tx.takeouts.add(agreeing, self._start, item)


def _weigh(tx: Transaction, day: _Day, platform: int, signal: int, *, now: datetime) -> bool:
    said = tx.signals.verdicts(signal)
    agreeing = [by for by, verdict in said.items() if verdict == Verdict.NOT_BLOCKED]
    if len(agreeing) < AGREEING or Verdict.BLOCKED in said.values():
        return False
    item = tx.signals.item(signal)
    assert item is not None  # noqa: S101 - it has verdicts
    asked = tx.reviews.last(VERDICTS, item)
    held = tx.signals.count_held(item)
    if asked is not None and asked.state == KEPT and len(agreeing) <= asked.counted:
        return False
    again = tx.reviews.last(RESUBMITTED, item)
    tx.reviews.add(VERDICTS, item, len(agreeing), hour(now))
    # the operator has kept it, or was asked without anything being held back
    decided = asked is not None and (asked.state == KEPT or (asked.state == OPEN and not held))
    if decided or again is not None or not day.allows(agreeing, item):
        return False
    day.count(agreeing, item)
    tx.signals.hold(signal, hour(now))
    if not held:
        _record(tx, Act.FILE_HELD, tx.platforms.name(platform), now=now)
    return True


def object_to(tx: Transaction, platform: int, signals: Iterable[int], *, now: datetime) -> None:
    """Put back the files of which a platform now says `blocked`."""
    for signal in signals:
        item = tx.signals.item(signal)
        if item is not None and tx.signals.is_held(signal):
            put_back(tx, item, now=now)
            _record(tx, Act.FILE_PUT_BACK, tx.platforms.name(platform), now=now)


def put_back(tx: Transaction, item: int, *, now: datetime) -> None:
    """Let what is held back of a file match again, and close the questions about it.

    What was submitted again because of this file goes out with it.
    """
    others = []
    if tx.reviews.last(VERDICTS, item) is not None:
        others = [other for other in tx.signals.held_with(item) if _is_resubmitted(tx, other)]
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


def carry_out(store: Store, *, now: datetime) -> int:
    """Purge what was held back for `HELD_DAYS` without a decision, and count the files.

    What was submitted again goes out instead.
    """
    total = 0
    before = hour(now - timedelta(days=HELD_DAYS))
    while True:
        with store.write() as tx:
            due = tx.signals.held_before(before, _BATCH)
            ended = sum(_carry_out(tx, item, before, now=now) for item in due)
            for act, count in (
                (Act.VERDICTS_DONE, ended),
                (Act.VERDICTS_UNDONE, len(due) - ended),
            ):
                if count:
                    audit.record(tx.vault, tx, act, count=count, hour=hour(now))
            tx.takeouts.forget(hour(now - timedelta(days=2)))
        total += ended
        if len(due) < _BATCH:
            return total


def _carry_out(tx: Transaction, item: int, before: Hour, *, now: datetime) -> bool:
    if _is_resubmitted(tx, item):
        put_back(tx, item, now=now)
        return False
    if not tx.signals.end_held(item, before, hour(now)):
        tx.reviews.add_removal(item, TakenOut.PLATFORMS)
        tx.reviews.close_all(item, hour(now))
    elif not tx.signals.count_held(item) and (asked := tx.reviews.last(VERDICTS, item)):
        tx.reviews.close(asked.id, REMOVED, hour(now))
    return True


def _record(tx: Transaction, act: Act, platform: str, *, now: datetime) -> None:
    audit.record(tx.vault, tx, act, platform, count=1, hour=hour(now))
