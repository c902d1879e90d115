"""Keep earlier versions, which cannot read keys of the audit trail, from opening the database.

The sealed secrets of a database may contain such keys. No table changes.
"""

revision = "0050"
down_revision = "0040"


def upgrade() -> None:
    """Apply the migration."""
