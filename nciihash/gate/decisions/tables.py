"""The tables in which a gate stores decisions. Times are Unix seconds rounded down to the hour."""

from collections.abc import Sequence
from typing import Any, Final

from nciihash.gate.decisions.records import DecisionKind
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.signals import Band, Media

HOUR: Final = 3600
DAY: Final = 24 * HOUR
APPLICATION_ID: Final = 0x4E434944  # "NCID"
VERSION: Final = 1
NEVER: Final = -1  # `past.hours` without a person's verdict

KIND: Final = "dialect, media, decision, reason, band, stopped, dry_run"
_KIND_TYPES: Final = (
    "dialect TEXT NOT NULL, media TEXT NOT NULL, decision TEXT NOT NULL, reason TEXT NOT NULL,"
    " band TEXT NOT NULL, stopped INTEGER NOT NULL, dry_run INTEGER NOT NULL"
)

# decisions.decided: the hour of the first verdict of a person
# past: what remains of expired references, for reports; `hours` until that verdict
# verdicts: the latest on each signal; `queued` once it is in the queue for the clearinghouse
TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS decisions (
    reference TEXT PRIMARY KEY, {_KIND_TYPES}, signals TEXT NOT NULL, items TEXT NOT NULL,
    hour INTEGER NOT NULL, state TEXT NOT NULL, changed INTEGER NOT NULL, decided INTEGER,
    by TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS decisions_hour ON decisions (hour);
CREATE TABLE IF NOT EXISTS past (
    month TEXT NOT NULL, {_KIND_TYPES}, state TEXT NOT NULL, hours INTEGER NOT NULL,
    count INTEGER NOT NULL, PRIMARY KEY (month, {KIND}, state, hours)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
    hour INTEGER NOT NULL, {_KIND_TYPES}, count INTEGER NOT NULL,
    PRIMARY KEY (hour, {KIND})) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdicts (
    signal TEXT PRIMARY KEY, verdict TEXT NOT NULL, hour INTEGER NOT NULL,
    queued INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS verdicts_queued ON verdicts (signal) WHERE queued = 0;
CREATE TABLE IF NOT EXISTS exceptions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, hashes TEXT NOT NULL, reference TEXT NOT NULL,
    by TEXT NOT NULL, hour INTEGER NOT NULL);
"""


def hour_of(now: float) -> int:
    """Return the hour of a time, as it is stored."""
    return int(now) // HOUR * HOUR


def columns(kind: DecisionKind) -> tuple[str | int, ...]:
    """Return a kind as the values of its columns, `KIND`."""
    names = (kind.dialect, kind.media or "", kind.decision, kind.reason, kind.band or "")
    return (*map(str, names), int(kind.stopped), int(kind.dry_run))


def read_kind(values: Sequence[Any]) -> DecisionKind:
    """Return the kind that these values of the columns `KIND` are."""
    dialect, media, decision, reason, band, stopped, dry_run = values
    return DecisionKind(
        Dialect(dialect),
        Media(media) if media else None,
        Decision(decision),
        Reason(reason),
        Band(band) if band else None,
        bool(stopped),
        bool(dry_run),
    )
