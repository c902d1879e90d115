"""The sealed secrets of a database may hold keys of the trail, which earlier versions cannot read.

No table changes: the step keeps those versions from opening the database.
"""

revision = "0050"
down_revision = "0040"


def upgrade() -> None:
    """Make the step."""
