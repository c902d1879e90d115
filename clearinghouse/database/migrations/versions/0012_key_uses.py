"""Record when each key was last used."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("keys", sa.Column("used", sa.BigInteger(), nullable=True))
