"""Add tags of withdrawn values, short HMACs that keep contributors from adding them again."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        "withdrawn",
        sa.Column("tag", sa.LargeBinary(length=8), nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tag", name=op.f("pk_withdrawn")),
    )
    op.create_index(op.f("ix_withdrawn_day"), "withdrawn", ["day"], unique=False)
