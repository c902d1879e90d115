"""Add proofs of work, lookup budgets, reviews, removals and the allowlist."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0004"

ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the migration."""
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
    op.create_table(
        "lawful",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("lookup", sa.LargeBinary(length=32), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lawful")),
        sa.UniqueConstraint("lookup", name=op.f("uq_lawful_lookup")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "reviews",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("item_id", ROW, nullable=False),
        sa.Column("key_id", ROW, nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["item_id"], ["items.id"], name=op.f("fk_reviews_item_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_reviews_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_reviews_item_id"), "reviews", ["item_id"], unique=False)
    op.create_index(op.f("ix_reviews_state"), "reviews", ["state"], unique=False)
    op.create_table(
        "removals",
        sa.Column("item_id", ROW, nullable=False),
        sa.Column("by", sa.String(length=12), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"], ["items.id"], name=op.f("fk_removals_item_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_removals")),
    )
