"""Let the signals of a file be sent in parts."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0015"


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("items", sa.Column("awaiting_after", sa.Integer(), nullable=True))
