"""Checks of the clock, before anything is deleted because of its age.

With a clock that is years ahead, a purge would expire every case. So the clock is compared with the
server's (on PostgreSQL), with the hour at which it was last found right, and with what has happened
since. The hourly purge records each hour in which the clock was right. From the last of these on,
there must be activity without a gap of more than `GAP_DAYS`: entries that were written under a
wrong clock lie after such a gap. A service that was stopped for longer needs the operator's word.
"""

from datetime import datetime, timedelta
from struct import Struct
from typing import Final

from clearinghouse.database.store import Store
from clearinghouse.database.transaction import Transaction
from clearinghouse.errors import ClearinghouseError
from clearinghouse.times import Hour, hour, moment

GAP_DAYS: Final = 14  # longer than most outages, and 2 % of the 24 months for which cases are open
_GAP: Final = int(timedelta(days=GAP_DAYS).total_seconds())
_DIFFERENCE: Final = timedelta(days=1)  # more than a wrong time zone makes
_FACT: Final = "clock"
# the last hour in which the clock was right, and an hour up to which entries in the future are
# known to be wrong
_VALUES: Final = Struct(">QQ")
_ADVICE: Final = (
    "Nothing was purged. Check the clock of this machine (`date -u`) and its synchronization: with "
    "a wrong clock, a purge would remove cases before their time. If the clock is right, run "
    "`clearinghouse purge --clock-is-right` once."
)


class ClockDoubtful(ClearinghouseError):
    """The clock may be wrong; the message says why, and what to do."""


def check(store: Store, now: datetime, *, confirmed: bool = False) -> None:
    """Check that the clock is plausible, and record that it was right in this hour.

    Args:
        store: the store.
        now: the time, by the clock of this machine.
        confirmed: whether the operator says that the clock is right, which is recorded instead.

    Raises:
        ClockDoubtful: it may be wrong.
    """
    with store.write() as tx:
        last, wrong_until = _read(tx)
        newest = tx.activity.newest()
        if confirmed:
            _write(tx, hour(now), max(newest or 0, wrong_until))
            return
        _check_server(store.server_time(tx), now)
        _check_not_slow(max(last or 0, newest if newest and newest > wrong_until else 0), now)
        _check_not_fast(tx, last, now)
        if last is None or hour(now) > last:
            _write(tx, hour(now), wrong_until)


def _read(tx: Transaction) -> tuple[Hour | None, int]:
    value = tx.facts.read([_FACT]).get(_FACT)
    if value is None:
        return None, 0
    last, wrong_until = _VALUES.unpack(value)
    return Hour(last), wrong_until


def _write(tx: Transaction, last: Hour, wrong_until: int) -> None:
    tx.facts.write(_FACT, _VALUES.pack(last, wrong_until))


def _check_server(server: datetime | None, now: datetime) -> None:
    if server is not None and abs(server - now) > _DIFFERENCE:
        raise ClockDoubtful(
            f"The clock of this machine shows {_text(now)}, and that of the database server "
            f"{_text(server)}. {_ADVICE}"
        )


def _check_not_slow(newest: int, now: datetime) -> None:
    if newest - now.timestamp() > _DIFFERENCE.total_seconds():
        raise ClockDoubtful(
            f"The clock of this machine shows {_text(now)}, but the database has entries of "
            f"{_text(moment(Hour(newest)))}. Either the clock is slow, or it was fast then. "
            f"{_ADVICE}"
        )


def _check_not_fast(tx: Transaction, last: Hour | None, now: datetime) -> None:
    """Follow the activity from the last hour in which the clock was right until now."""
    end = hour(now)
    at = tx.activity.newest(end) if last is None else last
    if at is None:  # an empty database, which never had a purge
        return
    while end - at > _GAP:
        following = tx.activity.newest(Hour(at + _GAP))
        if following is None or following <= at:
            days = (end - at) // 86_400
            raise ClockDoubtful(
                f"The clock of this machine shows {_text(now)}, {days:,} days after the last "
                f"activity of the service, which was at {_text(moment(at))}. {_ADVICE}"
            )
        at = following


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
