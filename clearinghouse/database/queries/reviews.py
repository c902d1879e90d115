"""Queries on questions that the operator decides, and on files that were removed."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from clearinghouse.database.schema import (
    AnyRow,
    items,
    keys,
    matches,
    removals,
    reviews,
    signals,
    verdicts,
)
from clearinghouse.times import Hour

# Kinds of questions to the operator.
QUARANTINED: Final = "quarantined"  # similar to a lawful picture; on hold until she decides
LAWFUL: Final = "lawful"  # similar to a picture that was added to the allowlist later
HITS: Final = "hits"  # matched by many platforms within its first day
ORACLE: Final = "oracle"  # many similar queries of one key are near the file
VERDICTS: Final = "verdicts"  # platforms agree not to block it
OVERTURNED: Final = "overturned"  # a platform blocked it, and then reported `not_blocked`
RESUBMITTED: Final = "resubmitted"  # submitted while verdicts keep an equal value on hold
WITHHELD: Final = frozenset({QUARANTINED, VERDICTS, RESUBMITTED})  # `keep` may release such files

# States of a question.
OPEN: Final = "open"
KEPT: Final = "kept"
REMOVED: Final = "removed"


class Reviews:
    """Queries on reviews."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute
        self._one = connection.scalar

    def add(self, kind: str, item: int, count: int, hour: Hour) -> None:
        """Open a question about a file, or update the count of an open one.

        A file that was deleted is skipped.
        """
        if self._one(select(items.c.id).where(items.c.id == item)) is None:
            return
        same = (reviews.c.kind == kind, reviews.c.item_id == item, reviews.c.state == OPEN)
        known = self._one(select(reviews.c.id).where(*same))
        if known is not None:
            self._run(update(reviews).where(reviews.c.id == known).values(count=count))
            return
        values = {"kind": kind, "item_id": item, "count": count}
        self._run(insert(reviews).values(**values, state=OPEN, opened=hour))

    def last(self, kind: str, item: int) -> AnyRow | None:
        """Return the newest question of this kind about a file, or None."""
        columns = (reviews.c.id, reviews.c.state, reviews.c.count.label("counted"))
        query = select(*columns).where(reviews.c.kind == kind, reviews.c.item_id == item)
        return self._run(query.order_by(reviews.c.id.desc()).limit(1)).one_or_none()

    def list_disputed_items(self, platform: int) -> list[int]:
        """List the files with an open `VERDICTS` question and a `not_blocked` of this platform."""
        query = (
            select(reviews.c.item_id)
            .join(items, items.c.id == reviews.c.item_id)
            .join(signals, signals.c.item_id == reviews.c.item_id)
            .join(verdicts, verdicts.c.signal_id == signals.c.id)
            .where(
                reviews.c.kind == VERDICTS,
                reviews.c.state == OPEN,
                items.c.withdrawn.is_(None),
                verdicts.c.platform_id == platform,
                verdicts.c.verdict == "not_blocked",
            )
        )
        return list(self._run(query.distinct().order_by(reviews.c.item_id)).scalars())

    def count_overturned(self, key: int, since: Hour) -> int:
        """Count the `OVERTURNED` questions that a key's platform has opened since an hour."""
        query = select(func.count()).where(_overturned_by(key), reviews.c.opened >= since)
        return self._one(query) or 0

    def add_overturned(self, key: int, item: int, count: int, hour: Hour) -> None:
        """Open a question about a file of which a key's platform overturned blocks."""
        values = {"kind": OVERTURNED, "key_id": key, "item_id": item, "count": count}
        self._run(insert(reviews).values(**values, state=OPEN, opened=hour))

    def add_to_overturned(self, key: int, item: int, count: int) -> bool:
        """Add to the count of an open question of a key's platform; return whether there is one."""
        chosen = (_overturned_by(key), reviews.c.item_id == item, reviews.c.state == OPEN)
        query = update(reviews).where(*chosen).values(count=reviews.c.count + count)
        return self._run(query).rowcount > 0

    def close_overturned(self, platform: int, hour: Hour) -> list[int]:
        """Close the open `OVERTURNED` questions of a platform about live files; return these."""
        live = select(items.c.id).where(items.c.withdrawn.is_(None))
        chosen = (
            reviews.c.kind == OVERTURNED,
            reviews.c.state == OPEN,
            reviews.c.item_id.in_(live),
            reviews.c.key_id.in_(select(keys.c.id).where(keys.c.platform_id == platform)),
        )
        files = list(self._run(select(reviews.c.item_id).where(*chosen)).scalars())
        self._run(update(reviews).where(*chosen).values(state=KEPT, closed=hour))
        return files

    def add_alarm(self, key: int, item: int, count: int, hour: Hour) -> None:
        """Open an alarm about a key and a file near its queries, or update an open one.

        The file may have been deleted.
        """
        same = (
            *(reviews.c.kind == ORACLE, reviews.c.state == OPEN),
            *(reviews.c.key_id == key, reviews.c.around == item),
        )
        if self._run(update(reviews).where(*same).values(count=count)).rowcount:
            return
        values = {"kind": ORACLE, "key_id": key, "around": item, "count": count}
        self._run(insert(reviews).values(**values, state=OPEN, opened=hour))

    def delete_alarms(self, hour: Hour) -> int:
        """Delete the alarms that were closed before this hour, and return how many."""
        closed = (reviews.c.kind == ORACLE, reviews.c.closed < hour)
        return self._run(delete(reviews).where(*closed)).rowcount

    def list_open(self, number: int | None = None) -> Sequence[AnyRow]:
        """List the open questions about live files, and all open alarms.

        Columns of the file are null for an alarm whose file was deleted.

        Args:
            number: list this question only; None for all.
        """
        query = (
            select(
                reviews.c.id,
                reviews.c.kind,
                func.coalesce(reviews.c.item_id, reviews.c.around).label("item_id"),
                reviews.c.key_id,
                reviews.c.count.label("counted"),
                reviews.c.opened,
                items.c.case_id,
                items.c.ordinal,
                items.c.media,
                keys.c.platform_id,
            )
            .outerjoin(items, items.c.id == func.coalesce(reviews.c.item_id, reviews.c.around))
            .outerjoin(keys, keys.c.id == reviews.c.key_id)
            .where(
                reviews.c.state == OPEN,
                or_(reviews.c.kind == ORACLE, items.c.withdrawn.is_(None)),
            )
            .order_by(reviews.c.id)
        )
        if number is not None:
            query = query.where(reviews.c.id == number)
        return self._run(query).all()

    def close(self, number: int, state: str, hour: Hour) -> None:
        """Close a question."""
        query = update(reviews).where(reviews.c.id == number)
        self._run(query.values(state=state, closed=hour))

    def close_all(self, item: int, hour: Hour) -> None:
        """Close all open questions about a file that is removed."""
        query = update(reviews).where(reviews.c.item_id == item, reviews.c.state == OPEN)
        self._run(query.values(state=REMOVED, closed=hour))

    def add_removal(self, item: int, by: str) -> None:
        """Record that a file was removed by somebody other than its holder."""
        self._run(insert(removals).values(item_id=item, by=by))

    def item_flags(self, case: int) -> dict[int, tuple[bool, str | None]]:
        """Return which files of a case are on hold, and who removed them.

        Returns:
            By file: whether it is on hold until the operator decides, and who removed it (None for
            nobody, or its holder).
        """
        on_hold = select(reviews.c.item_id).where(
            reviews.c.kind.in_({QUARANTINED, RESUBMITTED}), reviews.c.state == OPEN
        )
        query = (
            select(items.c.id, items.c.id.in_(on_hold), removals.c.by)
            .outerjoin(removals, removals.c.item_id == items.c.id)
            .where(items.c.case_id == case)
        )
        return {row[0]: (row[1], row[2]) for row in self._run(query).all()}

    def list_widely_matched(
        self, chosen: Collection[int], platforms: int, since: Hour
    ) -> Sequence[Any]:
        """List files that many platforms matched soon, as (file, number of platforms).

        Files with an earlier `HITS` question are omitted.

        Args:
            chosen: the files to check.
            platforms: the smallest number of platforms.
            since: the hour since which the file must have been added.
        """
        asked = select(reviews.c.item_id).where(reviews.c.kind == HITS)
        query = (
            select(matches.c.item_id, func.count())
            .join(items, items.c.id == matches.c.item_id)
            .where(
                matches.c.item_id.in_(chosen),
                items.c.added >= since,
                matches.c.item_id.not_in(asked),
            )
            .group_by(matches.c.item_id)
            .having(func.count() >= platforms)
        )
        return self._run(query).all()


def _overturned_by(key: int) -> ColumnElement[bool]:
    """Return the condition for `OVERTURNED` questions of the platform that has this key."""
    platform = select(keys.c.platform_id).where(keys.c.id == key).scalar_subquery()
    own = select(keys.c.id).where(keys.c.platform_id == platform)
    return and_(reviews.c.kind == OVERTURNED, reviews.c.key_id.in_(own))
