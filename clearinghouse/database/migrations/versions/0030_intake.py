"""Count accepted signals by hour, which sets the cost of a proof of work."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0020"


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        "intake",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("signals", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", name=op.f("pk_intake")),
    )
