"""Proofs of work that were used, and what keys have looked for."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0002"

ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the step."""
    op.create_table(
        "spent",
        sa.Column("mark", sa.LargeBinary(length=32), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_spent")),
    )
    op.create_index(op.f("ix_spent_hour"), "spent", ["hour"], unique=False)
    op.create_table(
        "budgets",
        sa.Column("key_id", ROW, nullable=False),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("leased", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_budgets_key_id")),
        sa.PrimaryKeyConstraint("key_id", "hour", name=op.f("pk_budgets")),
    )
    op.create_index(op.f("ix_budgets_hour"), "budgets", ["hour"], unique=False)
