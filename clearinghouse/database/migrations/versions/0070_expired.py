"""Add the hour in which a signal was removed because its case had expired."""

import sqlalchemy as sa
from alembic import op

revision = "0070"
down_revision = "0060"


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("signals", sa.Column("expired", sa.BigInteger(), nullable=True))
