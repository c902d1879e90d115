"""Times as they are kept: rounded down to the hour."""

from datetime import UTC, datetime
from typing import Final

_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR


def hour(now: datetime) -> int:
    """Blur a time to the beginning of its hour, in seconds since 1970 (UTC)."""
    return int(now.timestamp()) // _HOUR * _HOUR


def day(now: datetime) -> int:
    """Round a time down to the beginning of its day (UTC), in seconds since 1970."""
    return day_of(hour(now))


def day_of(seconds: int) -> int:
    """Round an hour down to the beginning of its day (UTC), in seconds since 1970."""
    return seconds // _DAY * _DAY


def moment(seconds: int) -> datetime:
    """Read a stored hour back."""
    return datetime.fromtimestamp(seconds, UTC)
