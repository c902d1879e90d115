"""Files that are sent in parts."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0015"


def upgrade() -> None:
    """Make the step."""
    op.add_column("items", sa.Column("awaiting_after", sa.Integer(), nullable=True))
