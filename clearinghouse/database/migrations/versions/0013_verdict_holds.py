"""Add signals on hold, and how many files each platform's verdicts put on hold on a day."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("signals", sa.Column("held", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_signals_held",
        "signals",
        ["held"],
        unique=False,
        sqlite_where=sa.text("held IS NOT NULL"),
        postgresql_where=sa.text("held IS NOT NULL"),
    )
    op.create_table(
        "takeouts",
        sa.Column("platform_id", ROW, nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_id", ROW, nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_takeouts_platform_id")
        ),
        sa.ForeignKeyConstraint(
            ["item_id"], ["items.id"], name=op.f("fk_takeouts_item_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("platform_id", "day", "item_id", name=op.f("pk_takeouts")),
    )
    op.create_index(op.f("ix_takeouts_day"), "takeouts", ["day"], unique=False)
