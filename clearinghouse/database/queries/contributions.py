"""The statements on cases that hold what no survivor submitted."""

from typing import Final

from sqlalchemy import Connection, insert, select

from clearinghouse.database.schema import contributions

CONTRIBUTED: Final = "contributed"  # added by a platform
IMPORTED: Final = "imported"  # fetched from another clearinghouse


class Contributions:
    """The statements on contributions."""

    def __init__(self, connection: Connection) -> None:
        self._run = connection.execute
        self._one = connection.scalar

    def find(self, platform: int, kind: str) -> int | None:
        """Give the case that holds what a platform added, or what was imported from it."""
        return self._one(
            select(contributions.c.case_id).where(
                contributions.c.platform_id == platform, contributions.c.kind == kind
            )
        )

    def add(self, platform: int, kind: str, case: int) -> None:
        """Let this case hold what the platform adds, or what is imported from it."""
        self._run(insert(contributions).values(platform_id=platform, kind=kind, case_id=case))
