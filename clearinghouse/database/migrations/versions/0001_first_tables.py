"""Create the first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        "cases",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("lookup", sa.LargeBinary(length=32), nullable=False),
        sa.Column("verifier", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cases")),
        sa.UniqueConstraint("lookup", name=op.f("uq_cases_lookup")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_cases_expires"), "cases", ["expires"], unique=False)
    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "log",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("op", sa.String(length=6), nullable=False),
        sa.Column("signal_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_log_signal_id"), "log", ["signal_id"], unique=False)
    op.create_table(
        "platforms",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_platforms")),
        sa.UniqueConstraint("name", name=op.f("uq_platforms_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "replies",
        sa.Column("lookup", sa.LargeBinary(length=32), nullable=False),
        sa.Column("body", sa.LargeBinary(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lookup", name=op.f("pk_replies")),
    )
    op.create_index(op.f("ix_replies_made"), "replies", ["made"], unique=False)
    op.create_table(
        "acknowledgements",
        sa.Column("platform_id", ROW, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_acknowledgements_platform_id")
        ),
        sa.PrimaryKeyConstraint("platform_id", "seq", name=op.f("pk_acknowledgements")),
    )
    op.create_table(
        "items",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("case_id", ROW, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("media", sa.String(length=8), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_items_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_items")),
        sa.UniqueConstraint("case_id", "ordinal", name=op.f("uq_items_case_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "keys",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("platform_id", ROW, nullable=False),
        sa.Column("lookup", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scopes", sa.String(length=64), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_keys_platform_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("lookup", name=op.f("uq_keys_lookup")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_keys_platform_id"), "keys", ["platform_id"], unique=False)
    op.create_table(
        "matches",
        sa.Column("platform_id", ROW, nullable=False),
        sa.Column("item_id", ROW, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"], ["items.id"], name=op.f("fk_matches_item_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_matches_platform_id")
        ),
        sa.PrimaryKeyConstraint("platform_id", "item_id", name=op.f("pk_matches")),
    )
    op.create_index("ix_matches_item_id", "matches", ["item_id"], unique=False)
    op.create_table(
        "signals",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("item_id", ROW, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("lookup", sa.LargeBinary(length=32), nullable=True),
        sa.Column("quality", sa.Integer(), nullable=True),
        sa.Column("variant", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"], ["items.id"], name=op.f("fk_signals_item_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signals")),
        sa.UniqueConstraint("item_id", "ordinal", name=op.f("uq_signals_item_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_signals_lookup"), "signals", ["lookup"], unique=False)
    op.create_table(
        "verdicts",
        sa.Column("platform_id", ROW, nullable=False),
        sa.Column("signal_id", ROW, nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_verdicts_platform_id")
        ),
        sa.ForeignKeyConstraint(
            ["signal_id"], ["signals.id"], name=op.f("fk_verdicts_signal_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("platform_id", "signal_id", name=op.f("pk_verdicts")),
    )
    op.create_index("ix_verdicts_signal_id", "verdicts", ["signal_id"], unique=False)
