"""Store how many hashes the keys of a platform may look up, if not the default number."""

import sqlalchemy as sa
from alembic import op

revision = "0080"
down_revision = "0070"


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("platforms", sa.Column("match_hour", sa.BigInteger(), nullable=True))
    op.add_column("platforms", sa.Column("match_day", sa.BigInteger(), nullable=True))
