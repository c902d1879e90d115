"""Times as they are stored: rounded down to the hour or the day, in UTC."""

from datetime import UTC, datetime
from typing import Final, NewType

Hour = NewType("Hour", int)
"""Unix seconds rounded down to the hour."""

Day = NewType("Day", Hour)
"""The first hour of a day, UTC: Unix seconds rounded down to the day."""

_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR


def hour(now: datetime) -> Hour:
    """Round a time down to the hour."""
    return Hour(int(now.timestamp()) // _HOUR * _HOUR)


def day(now: datetime) -> Day:
    """Round a time down to the day."""
    return day_of(hour(now))


def day_of(hour: Hour) -> Day:
    """Return the day of an hour."""
    return Day(Hour(hour // _DAY * _DAY))


def moment(hour: Hour) -> datetime:
    """Return a stored hour as an aware datetime, in UTC."""
    return datetime.fromtimestamp(hour, UTC)
