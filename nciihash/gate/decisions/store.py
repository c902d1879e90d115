"""The decisions of a gate: their references, and what people decided about them.

The store is one SQLite file of mode 0600, as that of `nciihash.sdk.verdict_queue`. It contains
nothing about an upload or its sender: no hash, name, size or address, and times rounded down to the
hour. Only a file that an operator excepts has its hashes here.

When `record` or `decide` returns, the change survives a power cut. In the same transaction, a
verdict on each matched signal is stored, until `nciihash.gate.decisions.verdicts` has added it to
the queue for the clearinghouse, which keeps one verdict of a platform on each signal. So the gate
sends a verdict of its own only if it says more than the one before: `blocked` unless that is
`blocked`, and `pending` only if there is none. A person's verdict is always sent.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Final, Self

from nciihash.gate.decisions.counts import DecisionCounts
from nciihash.gate.decisions.excepted_files import ExceptedFiles
from nciihash.gate.decisions.records import (
    DecisionKind,
    DecisionsInvalid,
    ReferenceUnknown,
    StateCount,
    StoredDecision,
    new_reference,
    operator_name,
    read_reference,
)
from nciihash.gate.decisions.tables import (
    APPLICATION_ID,
    DAY,
    HOUR,
    KIND,
    NEVER,
    TABLES,
    VERSION,
    columns,
    hour_of,
    read_kind,
)
from nciihash.gate.outcome import Decision
from nciihash.sdk.sqlite_file import SQLiteFile
from nciihash.signals import Match, Verdict
from nciihash.wire import Hit

DECISIONS_FILE: Final = "decisions"  # in the gate's folder
REFERENCE_DAYS: Final = 90
COUNT_DAYS: Final = 1100  # three years, for yearly reports
FILE_MAX: Final = 4 << 30  # bytes: some ten million references; a flood must not fill the disk
MATCHES_MAX: Final = 100  # matched signals of a decision; a video may match thousands

_ANY_HOUR: Final = 1 << 62
_INSERT: Final = f"""
INSERT INTO decisions (reference, {KIND}, signals, items, hour, state, changed, decided, by)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, '')
"""  # noqa: S608 - the names are constants
_SELECT: Final = f"""
SELECT {KIND}, reference, signals, items, hour, state, changed, decided, by
FROM decisions WHERE reference = ? AND hour >= ?
"""  # noqa: S608 - the names are constants
_STATES: Final = f"""
SELECT strftime('%Y-%m', hour, 'unixepoch') AS month, {KIND}, state,
    ifnull(max(0, decided - hour) / {HOUR}, {NEVER}) AS hours, count(*) AS count
FROM decisions WHERE hour < ? GROUP BY month, {KIND}, state, hours
"""  # noqa: S608 - the names are constants
_STATES_OF_MONTH: Final = f"""
SELECT {KIND}, state, hours, count FROM ({_STATES}) WHERE month = ?
UNION ALL SELECT {KIND}, state, hours, count FROM past WHERE month = ?
"""  # noqa: S608 - the names are constants
_MOVE_TO_PAST: Final = f"""
INSERT INTO past (month, {KIND}, state, hours, count) {_STATES}
ON CONFLICT (month, {KIND}, state, hours) DO UPDATE SET count = count + excluded.count
"""
_REPLACED: Final = (
    "(NOT :automatic OR (excluded.verdict = 'blocked' AND verdicts.verdict <> 'blocked'))"
)
_ADD_VERDICT: Final = f"""
INSERT INTO verdicts (signal, verdict, hour, queued) VALUES (:signal, :verdict, :hour, 0)
ON CONFLICT (signal) DO UPDATE SET
    hour = excluded.hour,
    verdict = CASE WHEN {_REPLACED} THEN excluded.verdict ELSE verdicts.verdict END,
    queued = CASE WHEN {_REPLACED} THEN 0 ELSE verdicts.queued END
"""  # noqa: S608 - the condition is a constant


class DecisionStore:
    """The stored decisions of a gate; any number of threads may share it.

    One process, the gate, records decisions. Others may open the same file at the same time, as
    the commands of an operator do.

    Args:
        path: the path of the file; created if it does not exist (its folder must exist).
        reference_days: days for which references are valid.
        max_bytes: the largest size of the file. At that size nothing is recorded, as on a full
            disk, until `purge` makes space.

    Attributes:
        counts: how many uploads were decided in which way.
        exceptions: the files that operators have excepted.

    Raises:
        DecisionsInvalid: the file is damaged, contains something else, or was written by a newer
            version.
        OSError: the file cannot be opened.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        reference_days: int = REFERENCE_DAYS,
        max_bytes: int = FILE_MAX,
    ) -> None:
        self._reference_days = reference_days
        self._file = SQLiteFile(
            path,
            application_id=APPLICATION_ID,
            version=VERSION,
            tables=TABLES,
            content="a file of decisions",
            invalid=DecisionsInvalid,
            max_bytes=max_bytes,
        )
        self.counts = DecisionCounts(self._file)
        self.exceptions = ExceptedFiles(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Store the counts, and close the file.

        Raises:
            OSError: the counts cannot be written; the file is closed.
        """
        try:
            self.counts.flush()
        finally:
            self._file.close()

    def record(
        self, kind: DecisionKind, matches: Sequence[Match | Hit], *, obeyed: bool, now: float
    ) -> str:
        """Store a decision, and return its new reference. Does not count it.

        Args:
            kind: what was decided.
            matches: the matches that led to it, nearest first; at most `MATCHES_MAX` are stored.
            obeyed: whether the caller must obey, so that a block is `blocked`.
            now: the time, in Unix seconds.

        Raises:
            OSError: the file cannot be written, for example on a full disk; nothing was stored.
        """
        blocked = kind.decision is Decision.BLOCK and obeyed and not kind.dry_run
        state = Verdict.BLOCKED if blocked else Verdict.PENDING
        chosen = _chosen(matches)
        signals = list(dict.fromkeys(match.id for match in chosen))
        items = dict.fromkeys(match.item for match in chosen)
        reference, hour = new_reference(), hour_of(now)
        row = (reference, *columns(kind), _joined(signals), _joined(items), hour, state, hour)
        with self._file.change() as database:
            database.execute(_INSERT, row)
            if not kind.dry_run:
                _add_verdicts(database, signals, state, hour=hour, automatic=True)
        return reference

    def get(self, reference: str, *, now: float) -> StoredDecision:
        """Return the decision of a reference.

        Args:
            reference: the reference, as a person may type it.
            now: the time, in Unix seconds.

        Raises:
            ReferenceUnknown: there is no such decision, or it has expired.
        """
        with self._file.read() as database:
            return self._get(database, reference, now)

    def decide(
        self, reference: str, verdict: Verdict, *, by: str = "", now: float
    ) -> StoredDecision:
        """Store a person's verdict on a decision, and return the decision.

        It may be changed any number of times, for example after an appeal. To repeat the latest
        verdict changes nothing.

        Args:
            reference: the reference, as a person may type it.
            verdict: `blocked`, `not_blocked` or `unsure`.
            by: the name of who decides.
            now: the time, in Unix seconds.

        Raises:
            ReferenceUnknown: there is no such decision, or it has expired.
            ValueError: the verdict is `pending`, or the name is not valid.
            OSError: the file cannot be written.
        """
        if verdict is Verdict.PENDING:
            raise ValueError("A person's verdict is not `pending`.")
        by, hour = operator_name(by), hour_of(now)
        with self._file.change() as database:
            before = self._get(database, reference, now)
            if before.decided is not None and before.state is verdict:
                return before
            database.execute(
                "UPDATE decisions SET state = ?, changed = ?, decided = ifnull(decided, ?), by = ?"
                " WHERE reference = ?",
                (verdict, hour, hour, by, before.reference),
            )
            if not before.kind.dry_run:
                _add_verdicts(database, before.signals, verdict, hour=hour, automatic=False)
            return self._get(database, before.reference, now)

    def states(self, month: str) -> list[StateCount]:
        """Return the states of the decisions of a month (UTC) such as "2026-11".

        Those whose reference has expired are included.
        """
        with self._file.read() as database:
            rows = database.execute(_STATES_OF_MONTH, (_ANY_HOUR, month, month)).fetchall()
        return [
            StateCount(read_kind(kind), Verdict(state), None if hours == NEVER else hours, count)
            for *kind, state, hours, count in rows
        ]

    @contextmanager
    def unqueued_verdicts(self, limit: int) -> Iterator[dict[str, Verdict]]:
        """Yield verdicts to queue, by signal; those left in it count as queued when the block ends.

        `not_blocked` comes last, since it may have to wait.

        Other processes that write wait for the block to end, so they cannot queue a newer verdict
        in the meantime.

        Args:
            limit: the largest number of verdicts.

        Raises:
            OSError: the file cannot be read or written.
        """
        with self._file.change() as database:
            rows = database.execute(
                "SELECT signal, verdict FROM verdicts WHERE queued = 0"
                " ORDER BY verdict = 'not_blocked' LIMIT ?",
                (limit,),
            ).fetchall()
            verdicts = {signal: Verdict(verdict) for signal, verdict in rows}
            yield verdicts
            database.executemany(
                "UPDATE verdicts SET queued = 1 WHERE signal = ?", [(id,) for id in verdicts]
            )

    def purge(self, *, now: float) -> int:
        """Delete expired references, and counts after `COUNT_DAYS`; return how many references.

        Of expired references, counts by month remain for reports.

        Raises:
            OSError: the file cannot be written.
        """
        oldest, oldest_count = self._oldest(now), hour_of(now) - COUNT_DAYS * DAY
        with self._file.change() as database:
            database.execute(_MOVE_TO_PAST, (oldest,))
            gone = database.execute("DELETE FROM decisions WHERE hour < ?", (oldest,)).rowcount
            database.execute("DELETE FROM verdicts WHERE queued AND hour < ?", (oldest,))
            database.execute("DELETE FROM counts WHERE hour < ?", (oldest_count,))
            database.execute(
                "DELETE FROM past WHERE month < strftime('%Y-%m', ?, 'unixepoch')", (oldest_count,)
            )
        return gone

    def _oldest(self, now: float) -> int:
        return hour_of(now) - self._reference_days * DAY

    def _get(self, database: sqlite3.Connection, reference: str, now: float) -> StoredDecision:
        values = (read_reference(reference), self._oldest(now))
        row = database.execute(_SELECT, values).fetchone()
        if row is None:
            raise ReferenceUnknown
        *kind, own, signals, items, hour, state, changed, decided, by = row
        return StoredDecision(
            reference=own,
            kind=read_kind(kind),
            signals=_split(signals),
            items=_split(items),
            hour=hour,
            state=Verdict(state),
            changed=changed,
            decided=decided,
            by=by,
        )


def _chosen(matches: Sequence[Match | Hit]) -> list[Match | Hit]:
    """Return at most `MATCHES_MAX` matches: the nearest of each item, then the nearest others."""
    nearest: dict[str, Match | Hit] = {}
    for match in matches:
        nearest.setdefault(match.item, match)
    others = (match for match in matches if match is not nearest[match.item])
    return [*nearest.values(), *others][:MATCHES_MAX]


def _joined(ids: Iterable[str]) -> str:
    return "\n".join(ids)  # those of a clearinghouse are hexadecimal, others have spaces


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _add_verdicts(
    database: sqlite3.Connection,
    signals: Sequence[str],
    verdict: Verdict,
    *,
    hour: int,
    automatic: bool,
) -> None:
    shared = {"verdict": verdict, "hour": hour, "automatic": automatic}
    database.executemany(_ADD_VERDICT, [shared | {"signal": signal} for signal in signals])
