"""Counts by month that may be published: small ones are hidden, the others rounded.

A count below ten is not told, and the others are rounded to tens, so that nobody can find out by
subtraction what one person did. No totals are given, for the same reason. What was forgotten past
its time is no longer counted, so that a month that has been published is not counted again later.
"""

from collections import Counter
from typing import Final

from clearinghouse.database.store import Store
from clearinghouse.times import moment

SMALLEST: Final = 10


def by_month(store: Store) -> dict[str, dict[str, int | None]]:
    """Give each month's counts, the earliest first; None for a count that is too small to tell."""
    with store.read() as tx:
        hours = tx.figures.by_hour()
    months: dict[str, Counter[str]] = {}
    for name, rows in hours.items():
        for at, count in rows:
            months.setdefault(f"{moment(at):%Y-%m}", Counter())[name] += count
    return {
        month: {name: _blurred(months[month][name]) for name in hours} for month in sorted(months)
    }


def _blurred(count: int) -> int | None:
    """Round to tens; nothing at all is told as 0, since it concerns nobody."""
    if 0 < count < SMALLEST:
        return None
    return (count + SMALLEST // 2) // SMALLEST * SMALLEST
