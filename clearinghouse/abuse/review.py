"""The operator's review queue, and decisions on it.

Nobody sees a picture here. The operator learns that a file is near a picture known to be lawful,
that many platforms matched it at once, or that one key sends suspicious queries around it, together
with counts and verdicts. Many hits alone remove nothing: they may be the abuse itself, and an
abuser could cause them. A file is removed by the operator, or when platforms agree
(`clearinghouse.abuse.verdict_holds`).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from clearinghouse.abuse import verdict_holds
from clearinghouse.abuse.allowlist import AllowlistIndex
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
    """No open question has this number; `review list` shows them."""


class NotAboutAFile(ClearinghouseError):
    """The question is about a key, not about a file that could be removed."""


@dataclass(frozen=True, slots=True)
class Question:
    """An open question, without anything that shows whose file it is or what is in it.

    Attributes:
        number: its number.
        kind: as in `clearinghouse.database.queries.reviews`.
        since: when it was opened.
        media: of the file; None if the file of an alarm has been deleted.
        count: different queries for `oracle`, platforms for `hits` and `verdicts`, verdicts for
            `overturned`.
        platforms: platforms that matched the file.
        matches: their matches.
        verdicts: how many verdicts of each kind there are.
        platform: whose queries raised an alarm, or which overturned blocks.
        key: the key that sent these queries or verdicts.
        held: hashes of the file that are on hold.
        said_by: the platforms that reported `not_blocked`.
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


# --- questions -------------------------------------------------------------------------------


def flag_hits(tx: Transaction, items: Collection[int], *, platforms: int, now: datetime) -> None:
    """Open questions about files that enough platforms matched within a day of submission."""
    chosen = sorted(items)
    for start in range(0, len(chosen), _PART):
        part = chosen[start : start + _PART]
        for item, count in tx.reviews.list_widely_matched(part, platforms, hour(now - _SUDDEN)):
            tx.reviews.add(HITS, item, count, hour(now))


def raise_alarms(tx: Transaction, alarms: Iterable[Alarm], *, now: datetime) -> None:
    """Open questions about keys with suspicious queries around a file.

    An alarm stays until it is closed, even if the file is withdrawn or deleted: an attacker who
    probes files of her own could otherwise clear it.
    """
    for alarm in alarms:
        tx.reviews.add_alarm(alarm.key, alarm.item, alarm.queries, hour(now))


# --- decisions -------------------------------------------------------------------------------


def questions(store: Store) -> list[Question]:
    """Return the open questions, oldest first."""
    with store.read() as tx:
        names = {row.id: row.name for row in tx.platforms.all()}
        found = []
        for row in tx.reviews.list_open():
            matches: list[int] = []
            verdicts: dict[str, int] = {}
            if row.case_id is not None:
                matches = [n for item, _, n in tx.cases.matches(row.case_id) if item == row.item_id]
                for item, _, verdict, count in tx.cases.verdicts(row.case_id):
                    if item == row.item_id:
                        verdicts[verdict] = verdicts.get(verdict, 0) + count
            found.append(
                Question(
                    number=row.id,
                    kind=row.kind,
                    since=row.opened,
                    media=row.media,
                    count=row.counted,
                    platforms=len(matches),
                    matches=sum(matches),
                    verdicts=verdicts,
                    platform=names.get(row.platform_id),
                    key=row.key_id,
                    held=tx.signals.count_held(row.item_id),
                    said_by=tuple(
                        tx.signals.list_platforms_by_verdict(row.item_id, Verdict.NOT_BLOCKED)
                    ),
                )
            )
        return found


def keep(store: Store, number: int, *, now: datetime) -> None:
    """Close a question and keep the file; what is on hold or quarantined of it is published.

    If an equal value is on hold after verdicts, a quarantined file is put on hold as well, and a
    new question is opened.

    Raises:
        ReviewUnknown: no such question is open.
    """
    with store.write() as tx:
        row = _find(tx, number)
        if row.kind == QUARANTINED:
            if tx.signals.hold_resubmitted(row.item_id, hour(now)):
                tx.reviews.add(RESUBMITTED, row.item_id, 1, hour(now))
            else:
                tx.signals.release(row.item_id, hour(now))
        elif row.kind in {VERDICTS, RESUBMITTED}:
            verdict_holds.release(tx, row.item_id, now=now)
        tx.reviews.close(number, KEPT, hour(now))
        audit.record(tx.vault, tx, Act.FILE_KEPT, count=1, hour=hour(now))


def put_back(store: Store, platform: int, *, now: datetime) -> int:
    """Keep every file in question because of a platform's verdicts; return how many.

    The effect is that of `keep` on each of these questions.

    Args:
        store: the store.
        platform: row number of the platform.
        now: the time.
    """
    with store.write() as tx:
        name = tx.platforms.name(platform)
        chosen = tx.reviews.list_disputed_items(platform)
        for item in chosen:
            verdict_holds.release(tx, item, now=now)
        count = len({*chosen, *tx.reviews.close_overturned(platform, hour(now))})
        if count:
            audit.record(tx.vault, tx, Act.VERDICTS_UNDONE, name, count=count, hour=hour(now))
    return count


def remove(store: Store, number: int, *, now: datetime) -> None:
    """Remove the file as if its holder had withdrawn it; her status shows that the operator did.

    Raises:
        ReviewUnknown: no such question is open.
        NotAboutAFile: the question is about a key.
    """
    with store.write() as tx:
        row = _find(tx, number)
        if row.kind == ORACLE:
            raise NotAboutAFile(
                "This question is about a key, not about a file. Ask the platform, or revoke the "
                "key with `clearinghouse platform revoke`. Then close the question with "
                f"`clearinghouse review keep {number}`."
            )
        tx.cases.withdraw_items(row.case_id, row.ordinal, hour(now))
        tx.reviews.add_removal(row.item_id, TakenOut.OPERATOR)
        tx.reviews.close_all(row.item_id, hour(now))
        audit.record(tx.vault, tx, Act.FILE_REMOVED, count=1, hour=hour(now))


def _find(tx: Transaction, number: int) -> Any:  # noqa: ANN401 - a row of the database
    rows = tx.reviews.list_open(number)
    if not rows:
        raise ReviewUnknown(
            "No open question has this number. List them with `clearinghouse review list`."
        )
    return rows[0]


# --- the allowlist ---------------------------------------------------------------------------


def list_lawful(store: Store, hashes: Sequence[Signal], *, now: datetime) -> tuple[int, int]:
    """Add hashes to the allowlist, and open questions about live files near them.

    Returns:
        How many hashes were new, and how many files the operator is asked about.
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
    """Remove hashes from the allowlist; return how many were on it. Past decisions remain."""
    with store.write() as tx:
        gone = sum(
            tx.allowlist.remove(tx.vault.lookup(f"lawful {signal.type}", signal.value))
            for signal in dict.fromkeys(hashes)
        )
        if gone:
            audit.record(tx.vault, tx, Act.LAWFUL_UNLISTED, count=gone, hour=hour(now))
        return gone


def _ask_about_near(store: Store, *, now: datetime) -> int:
    lawful = AllowlistIndex()
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
