"""Queries on cases for hashes that no survivor submitted."""

from typing import Final

from sqlalchemy import Connection, insert, select

from clearinghouse.database.schema import contributions

CONTRIBUTED: Final = "contributed"  # added by a platform
IMPORTED: Final = "imported"  # fetched from another clearinghouse


class Contributions:
    """Queries on contributions."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute
        self._one = connection.scalar

    def find(self, platform: int, kind: str) -> int | None:
        """Return the case for a platform's hashes of this kind, or None."""
        return self._one(
            select(contributions.c.case_id).where(
                contributions.c.platform_id == platform, contributions.c.kind == kind
            )
        )

    def add(self, platform: int, kind: str, case: int) -> None:
        """Register a case for a platform's hashes of this kind."""
        self._run(insert(contributions).values(platform_id=platform, kind=kind, case_id=case))
