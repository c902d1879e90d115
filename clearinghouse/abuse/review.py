"""What the operator decides on, and what platforms decide together.

Nobody here ever sees a picture. The operator sees that a file is near a picture known to be lawful,
that many platforms met it at once, or that one key asks around it, with counts and verdicts. Many
hits alone take nothing out: they may be the very abuse, and an abuser could cause them. A file is
taken out by the operator, or when platforms agree (`clearinghouse.abuse.verdict_holds`).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from clearinghouse.abuse import verdict_holds
from clearinghouse.abuse.allowlist import LawfulList
from clearinghouse.abuse.oracle import Alarm
from clearinghouse.database import audit
from clearinghouse.database.audit import Act
from clearinghouse.database.queries.reviews import (
    HITS,
    KEPT,
    LAWFUL,
    ORACLE,
    QUARANTINED,
    RESUBMITTED,
    VERDICTS,
)
from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import ClearinghouseError
from clearinghouse.times import Hour, hour
from nciihash.signals import Signal, SignalType, Verdict
from nciihash.wire import TakenOut

_SUDDEN: Final = timedelta(days=1)
_PART: Final = 500  # files that one query names
_PAGE: Final = 5_000  # signals compared with a new lawful picture at a time


class ReviewUnknown(ClearinghouseError):
    """There is no open question with this number: `review list` shows them."""


class NotAboutAFile(ClearinghouseError):
    """The question is about a key, and no file is to be taken out for it."""


@dataclass(frozen=True, slots=True)
class Question:
    """An open question, without anything that tells whose file it is or what is in it.

    `count` is of different queries for `oracle`, of platforms for `hits` and `verdicts`. `platform`
    and `key` name whose queries they are. `held` is how many of the file's hashes verdicts hold
    back, and `said_by` names the platforms that do not block it. `media` is None where an alarm's
    file is forgotten by now.
    """

    number: int
    kind: str
    since: Hour
    media: str | None
    count: int
    platforms: int
    matches: int
    verdicts: dict[str, int]
    platform: str | None
    key: int | None
    held: int
    said_by: tuple[str, ...]


# --- asking ----------------------------------------------------------------------------------


def flag_hits(tx: Transaction, items: Collection[int], *, platforms: int, now: datetime) -> None:
    """Ask about those files that so many platforms met within a day of their addition."""
    chosen = sorted(items)
    for start in range(0, len(chosen), _PART):
        part = chosen[start : start + _PART]
        for item, count in tx.reviews.met_by_many(part, platforms, hour(now - _SUDDEN)):
            tx.reviews.add(HITS, item, count, hour(now))


def raise_alarms(tx: Transaction, alarms: Iterable[Alarm], *, now: datetime) -> None:
    """Tell the operator of keys whose queries gather around a file.

    An alarm stays until it is closed, although the file may be withdrawn or forgotten: whoever asks
    around files of her own could end it otherwise.
    """
    for alarm in alarms:
        tx.reviews.add_alarm(alarm.key, alarm.item, alarm.queries, hour(now))


# --- answering -------------------------------------------------------------------------------


def questions(store: Store) -> list[Question]:
    """List what waits for the operator, oldest first."""
    with store.read() as tx:
        names = {row.id: row.name for row in tx.platforms.all()}
        found = []
        for row in tx.reviews.list_open():
            met: list[int] = []
            said: dict[str, int] = {}
            if row.case_id is not None:
                met = [n for item, _, n in tx.cases.matches(row.case_id) if item == row.item_id]
                for item, _, verdict, count in tx.cases.verdicts(row.case_id):
                    if item == row.item_id:
                        said[verdict] = said.get(verdict, 0) + count
            found.append(
                Question(
                    number=row.id,
                    kind=row.kind,
                    since=row.opened,
                    media=row.media,
                    count=row.counted,
                    platforms=len(met),
                    matches=sum(met),
                    verdicts=said,
                    platform=names.get(row.platform_id),
                    key=row.key_id,
                    held=tx.signals.count_held(row.item_id),
                    said_by=tuple(tx.signals.said_of(row.item_id, Verdict.NOT_BLOCKED)),
                )
            )
        return found


def keep(store: Store, number: int, *, now: datetime) -> None:
    """Close a question and keep the file; what is held back of it goes out to platforms.

    While verdicts hold an equal value back, it is held back with that, and a question asks so.

    Raises:
        ReviewUnknown: no such question is open.
    """
    with store.write() as tx:
        row = _find(tx, number)
        if row.kind == QUARANTINED:
            if tx.signals.withhold(row.item_id, hour(now)):
                tx.reviews.add(RESUBMITTED, row.item_id, 1, hour(now))
            else:
                tx.signals.release(row.item_id, hour(now))
        elif row.kind in {VERDICTS, RESUBMITTED}:
            verdict_holds.put_back(tx, row.item_id, now=now)
        tx.reviews.close(number, KEPT, hour(now))
        audit.record(tx.vault, tx, Act.FILE_KEPT, count=1, hour=hour(now))


def put_back(store: Store, platform: int, *, now: datetime) -> int:
    """Keep every file about which a platform's verdicts ask, and count them.

    Those that are held back are put back, as one by one with `keep`.

    Args:
        store: where the questions are.
        platform: its row number.
        now: the time.
    """
    with store.write() as tx:
        name = tx.platforms.name(platform)
        chosen = tx.reviews.asked_by(platform)
        for item in chosen:
            verdict_holds.put_back(tx, item, now=now)
        if chosen:
            count = len(chosen)
            audit.record(tx.vault, tx, Act.VERDICTS_UNDONE, name, count=count, hour=hour(now))
    return len(chosen)


def remove(store: Store, number: int, *, now: datetime) -> None:
    """Take the file out, as if its holder had withdrawn it; she is told that it was the operator.

    Raises:
        ReviewUnknown: no such question is open.
        NotAboutAFile: it is about a key.
    """
    with store.write() as tx:
        row = _find(tx, number)
        if row.kind == ORACLE:
            raise NotAboutAFile(
                "This is about a key, not about a file. Ask the platform, or revoke the key with "
                f"`clearinghouse platform revoke`; then `clearinghouse review keep {number}`."
            )
        tx.cases.withdraw_items(row.case_id, row.ordinal, hour(now))
        tx.reviews.add_removal(row.item_id, TakenOut.OPERATOR)
        tx.reviews.close_all(row.item_id, hour(now))
        audit.record(tx.vault, tx, Act.FILE_REMOVED, count=1, hour=hour(now))


def _find(tx: Transaction, number: int) -> Any:  # noqa: ANN401 - a row of the database
    rows = tx.reviews.list_open(number)
    if not rows:
        raise ReviewUnknown(
            "No open question has this number. `clearinghouse review list` shows them."
        )
    return rows[0]


# --- the list of lawful pictures -------------------------------------------------------------


def list_lawful(store: Store, hashes: Sequence[Signal], *, now: datetime) -> tuple[int, int]:
    """Add hashes to the list, and ask about the live files that are near them.

    Returns:
        How many hashes were new, and about how many files the operator is asked.
    """
    new: list[Signal] = []
    with store.write() as tx:
        for signal in dict.fromkeys(hashes):
            lookup = tx.vault.lookup(f"lawful {signal.type}", signal.value)
            sealed = tx.vault.seal(signal.value, "lawful", "value", lookup.hex())
            if tx.allowlist.add(signal.type, sealed, lookup, hour(now)):
                new.append(signal)
        if new:
            audit.record(tx.vault, tx, Act.LAWFUL_LISTED, count=len(new), hour=hour(now))
    return len(new), _ask_about_near(store, now=now) if new else 0


def unlist_lawful(store: Store, hashes: Sequence[Signal], *, now: datetime) -> int:
    """Take hashes off the list; give how many were on it. What was decided stays."""
    with store.write() as tx:
        gone = sum(
            tx.allowlist.remove(tx.vault.lookup(f"lawful {signal.type}", signal.value))
            for signal in dict.fromkeys(hashes)
        )
        if gone:
            audit.record(tx.vault, tx, Act.LAWFUL_UNLISTED, count=gone, hour=hour(now))
        return gone


def _ask_about_near(store: Store, *, now: datetime) -> int:
    lawful = LawfulList()
    near: set[int] = set()
    after = 0
    while True:
        with store.read() as tx:
            rows = tx.signals.live(after, _PAGE)
            signals = [
                Signal(
                    SignalType(row.type),
                    store.vault.open(row.value, "signals", "value", row.item_id, row.ordinal),
                )
                for row in rows
            ]
            hits = lawful.near(tx, signals)
        near |= {row.item_id for row, hit in zip(rows, hits, strict=True) if hit}
        if len(rows) < _PAGE:
            break
        after = rows[-1].id
    with store.write() as tx:
        held = {row.item_id for row in tx.reviews.list_open() if row.kind == QUARANTINED}
        for item in sorted(near - held):
            tx.reviews.add(LAWFUL, item, 1, hour(now))
    return len(near - held)
