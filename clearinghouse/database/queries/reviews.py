"""The statements on what the operator is asked to decide on, and what was taken out."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, or_, select, update

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
QUARANTINED: Final = "quarantined"  # near a lawful picture, held back until she decides
LAWFUL: Final = "lawful"  # near one that was listed later
HITS: Final = "hits"  # met by many platforms within its first day
ORACLE: Final = "oracle"  # one key's queries gather around it
VERDICTS: Final = "verdicts"  # platforms agree not to block it
RESUBMITTED: Final = "resubmitted"  # submitted while an equal value is held back by verdicts
WITHHELD: Final = frozenset({QUARANTINED, VERDICTS, RESUBMITTED})  # `keep` may release their files

# States of a question.
OPEN: Final = "open"
KEPT: Final = "kept"
REMOVED: Final = "removed"


class Reviews:
    """The statements on reviews."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute
        self._one = connection.scalar

    def add(self, kind: str, item: int, count: int, hour: Hour) -> None:
        """Ask the operator to look at a file, or bring an open question up to date.

        A file that is gone by now is passed over.
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
        """Return the newest question of a kind about a file."""
        columns = (reviews.c.id, reviews.c.state, reviews.c.count.label("counted"))
        query = select(*columns).where(reviews.c.kind == kind, reviews.c.item_id == item)
        return self._run(query.order_by(reviews.c.id.desc()).limit(1)).one_or_none()

    def asked_by(self, platform: int) -> list[int]:
        """Name the files about which verdicts ask, one of them this platform's `not_blocked`."""
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

    def add_alarm(self, key: int, item: int, count: int, hour: Hour) -> None:
        """Tell the operator of a key whose queries gather around a file, which may be gone by now.

        An open alarm about both is brought up to date.
        """
        same = (
            *(reviews.c.kind == ORACLE, reviews.c.state == OPEN),
            *(reviews.c.key_id == key, reviews.c.around == item),
        )
        if self._run(update(reviews).where(*same).values(count=count)).rowcount:
            return
        values = {"kind": ORACLE, "key_id": key, "around": item, "count": count}
        self._run(insert(reviews).values(**values, state=OPEN, opened=hour))

    def forget_alarms(self, hour: Hour) -> int:
        """Delete the alarms that were closed before this hour."""
        closed = (reviews.c.kind == ORACLE, reviews.c.closed < hour)
        return self._run(delete(reviews).where(*closed)).rowcount

    def list_open(self, number: int | None = None) -> Sequence[AnyRow]:
        """List the open questions about files that are not withdrawn, and all alarms, or one.

        Of an alarm whose file is forgotten, what is read of the file is null.
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
        chosen = update(reviews).where(reviews.c.id == number)
        self._run(chosen.values(state=state, closed=hour))

    def close_all(self, item: int, hour: Hour) -> None:
        """Close all open questions about a file that is taken out."""
        chosen = update(reviews).where(reviews.c.item_id == item, reviews.c.state == OPEN)
        self._run(chosen.values(state=REMOVED, closed=hour))

    def add_removal(self, item: int, by: str) -> None:
        """Note that somebody else than its holder took a file out."""
        self._run(insert(removals).values(item_id=item, by=by))

    def marks(self, case: int) -> dict[int, tuple[bool, str | None]]:
        """Tell of a case's files which are held back, and who took them out if not their holder."""
        held = select(reviews.c.item_id).where(
            reviews.c.kind.in_({QUARANTINED, RESUBMITTED}), reviews.c.state == OPEN
        )
        query = (
            select(items.c.id, items.c.id.in_(held), removals.c.by)
            .outerjoin(removals, removals.c.item_id == items.c.id)
            .where(items.c.case_id == case)
        )
        return {row[0]: (row[1], row[2]) for row in self._run(query).all()}

    def met_by_many(self, chosen: Collection[int], platforms: int, since: Hour) -> Sequence[Any]:
        """Give (file, platforms) of those files, added since an hour, that so many platforms met.

        Those about which this was asked before are left out.
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
