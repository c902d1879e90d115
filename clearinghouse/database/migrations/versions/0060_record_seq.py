"""Name the position in the order of StopNCII records `record_seq`: columns, indexes and fact."""

from alembic import op

revision = "0060"
down_revision = "0050"


def upgrade() -> None:
    """Rename the columns and the fact, and recreate the indexes under their new names."""
    op.drop_index("ix_signals_place", table_name="signals")
    op.drop_index("ix_verdicts_platform_id_place", table_name="verdicts")
    op.execute("ALTER TABLE signals RENAME COLUMN place TO record_seq")
    op.execute("ALTER TABLE verdicts RENAME COLUMN place TO record_seq")
    op.create_index(op.f("ix_signals_record_seq"), "signals", ["record_seq"], unique=False)
    op.create_index(
        "ix_verdicts_platform_id_record_seq",
        "verdicts",
        ["platform_id", "record_seq"],
        unique=False,
    )
    op.execute("UPDATE facts SET name = 'record_seq' WHERE name = 'place'")
