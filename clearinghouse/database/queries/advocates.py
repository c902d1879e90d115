"""Queries on advocates and the cases that they open for survivors."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from clearinghouse.database.schema import AnyRow, advocates, assisted, cases, items


class Advocates:
    """Queries on advocates."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute
        self._one = connection.scalar

    def add(self, **values: Any) -> None:  # noqa: ANN401 - columns of `advocates`
        """Insert an advocate with the lookup value of her key."""
        self._run(insert(advocates).values(**values))

    def find(self, name: str) -> AnyRow | None:
        """Return the advocate with this name, or None."""
        return self._run(select(advocates).where(advocates.c.name == name)).one_or_none()

    def find_by_key(self, lookup: bytes) -> AnyRow | None:
        """Return the advocate whose key has this lookup value, or None."""
        return self._run(select(advocates).where(advocates.c.lookup == lookup)).one_or_none()

    def all(self) -> Sequence[AnyRow]:
        """List all advocates by name, each with the number of her open cases, `open_cases`."""
        open_cases = (
            select(func.count())
            .select_from(assisted.join(cases, cases.c.id == assisted.c.case_id))
            .where(assisted.c.advocate_id == advocates.c.id, cases.c.state == "open")
            .scalar_subquery()
        )
        query = select(advocates, open_cases.label("open_cases")).order_by(advocates.c.name)
        return self._run(query).all()

    def update(self, advocate: int, **values: Any) -> None:  # noqa: ANN401 - columns
        """Update columns of an advocate."""
        self._run(update(advocates).where(advocates.c.id == advocate).values(**values))

    # --- cases -------------------------------------------------------------------------------

    def add_case(self, **values: Any) -> None:  # noqa: ANN401 - columns of `assisted`
        """Assign a case to an advocate."""
        self._run(insert(assisted).values(**values))

    def find_case(self, advocate: int, reference: str) -> AnyRow | None:
        """Return the case of an advocate with this reference, or None."""
        return self._run(
            select(assisted).where(
                assisted.c.advocate_id == advocate, assisted.c.reference == reference
            )
        ).one_or_none()

    def find_case_by_code(self, lookup: bytes) -> AnyRow | None:
        """Return the case whose handover code has this lookup value, or None."""
        return self._run(select(assisted).where(assisted.c.code == lookup)).one_or_none()

    def cases(self, advocate: int) -> Sequence[AnyRow]:
        """List the open cases of an advocate, each with the number of its live files, `files`."""
        live = (
            select(func.count())
            .where(items.c.case_id == cases.c.id, items.c.withdrawn.is_(None))
            .scalar_subquery()
        )
        query = (
            select(assisted, cases.c.reason, cases.c.opened, cases.c.expires, live.label("files"))
            .join(cases, cases.c.id == assisted.c.case_id)
            .where(assisted.c.advocate_id == advocate, cases.c.state == "open")
            .order_by(cases.c.id)
        )
        return self._run(query).all()

    def has_opened(self, case: int) -> bool:
        """Whether an advocate opened the case."""
        return self._one(select(assisted.c.case_id).where(assisted.c.case_id == case)) is not None

    def update_case(self, case: int, **values: Any) -> None:  # noqa: ANN401 - columns
        """Update columns of a case that an advocate opened."""
        self._run(update(assisted).where(assisted.c.case_id == case).values(**values))
