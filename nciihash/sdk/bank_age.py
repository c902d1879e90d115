"""The age of a bank: the time since it had everything in the feed."""

from typing import Final

from nciihash.errors import BankStale

_CLOCK_SKEW: Final = 60.0  # seconds by which a note may be in the future


def noted_age(at: float | None, now: float) -> float | None:
    """Return the age of a bank, given the note about it (`Bank.current_at`).

    Args:
        at: when the bank had everything in the feed, in Unix seconds; None if it is unknown.
        now: Unix time in seconds.

    Returns:
        The age in seconds; None if it is unknown, as after the clock was set back.
    """
    return None if at is None or at > now + _CLOCK_SKEW else max(0.0, now - at)


def check_age(age: float | None, max_age: float | None) -> None:
    """Check whether a bank can be relied on.

    Args:
        age: of the bank, in seconds; None if it is not known to have ever had everything.
        max_age: the largest age in seconds; None for no limit.

    Raises:
        BankStale: it cannot.
    """
    if age is None:
        raise BankStale(
            "The bank is not known to have ever had everything in the feed, so it cannot say that "
            "a file matches nothing. Wait until it is `ready`; `health` says what prevents that."
        )
    if max_age is not None and age > max_age:
        raise BankStale(
            f"The bank last had everything in the feed {age:,.0f} seconds ago, and the limit is "
            f"{max_age:,.0f}. Delay the upload; `health` says what prevents an update."
        )
