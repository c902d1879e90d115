"""Counts by month for a transparency report: small ones are suppressed, the others rounded.

Counts below ten are suppressed and the others rounded to tens, so that the actions of one person
cannot be found by subtraction. There are no totals, for the same reason. Deleted cases are no
longer counted, so publish a month once and do not count it again later.
"""

from collections import Counter
from typing import Final

from clearinghouse.database.store import Store
from clearinghouse.times import moment

SMALLEST: Final = 10


def by_month(store: Store) -> dict[str, dict[str, int | None]]:
    """Return the counts of each month, "YYYY-MM", in order; None for a suppressed count."""
    with store.read() as tx:
        by_hour = tx.figures.by_hour()
    months: dict[str, Counter[str]] = {}
    for name, rows in by_hour.items():
        for at, count in rows:
            months.setdefault(f"{moment(at):%Y-%m}", Counter())[name] += count
    return {
        month: {name: _rounded(months[month][name]) for name in by_hour} for month in sorted(months)
    }


def _rounded(count: int) -> int | None:
    """Round a count to tens, or return None if it is small; 0 is exact, as it concerns nobody."""
    if 0 < count < SMALLEST:
        return None
    return (count + SMALLEST // 2) // SMALLEST * SMALLEST
