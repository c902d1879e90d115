"""Add a column for lookup values under the next master key, during a rotation."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("signals", sa.Column("next_lookup", sa.LargeBinary(length=32), nullable=True))
