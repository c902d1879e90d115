"""Times as they are kept: rounded down to the hour."""

from datetime import UTC, datetime
from typing import Final

_HOUR: Final = 3600


def hour(now: datetime) -> int:
    """Blur a time to the beginning of its hour, in seconds since 1970 (UTC)."""
    return int(now.timestamp()) // _HOUR * _HOUR


def moment(seconds: int) -> datetime:
    """Read a stored hour back."""
    return datetime.fromtimestamp(seconds, UTC)
