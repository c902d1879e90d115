"""Proofs of work that were used."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0002"


def upgrade() -> None:
    """Make the step."""
    op.create_table(
        "spent",
        sa.Column("mark", sa.LargeBinary(length=32), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_spent")),
    )
    op.create_index(op.f("ix_spent_hour"), "spent", ["hour"], unique=False)
