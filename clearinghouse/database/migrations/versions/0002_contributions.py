"""Number StopNCII records, and add contributions of platforms."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        "contributions",
        sa.Column("platform_id", ROW, nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("case_id", ROW, nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_contributions_platform_id")
        ),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_contributions_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("platform_id", "kind", name=op.f("pk_contributions")),
    )
    op.create_index(op.f("ix_contributions_case_id"), "contributions", ["case_id"], unique=False)
    op.add_column("signals", sa.Column("place", sa.BigInteger(), nullable=True))
    op.add_column("verdicts", sa.Column("place", sa.BigInteger(), nullable=True))
    last = _number_what_is_there(op.get_bind())
    op.create_index(op.f("ix_signals_place"), "signals", ["place"], unique=False)
    op.create_index(
        "ix_verdicts_platform_id_place", "verdicts", ["platform_id", "place"], unique=False
    )
    facts = sa.table("facts", sa.column("name"), sa.column("value"))
    op.execute(facts.insert().values(name="place", value=last.to_bytes(8, "big")))


def _number_what_is_there(connection: sa.Connection) -> int:
    """Allocate numbers to live signals in log order, then to verdicts; return the last one."""
    last = 0
    rows = connection.execute(
        sa.text(
            "SELECT signals.id, items.added FROM signals JOIN items ON items.id = signals.item_id "
            "WHERE signals.value IS NOT NULL AND ((items.media = 'image' AND signals.type = 'pdq') "
            "OR (items.media = 'video' AND signals.type = 'md5')) ORDER BY signals.id"
        )
    ).all()
    for number, added in rows:
        last = max(last + 1, added * 100)
        connection.execute(
            sa.text("UPDATE signals SET place = :place WHERE id = :id"),
            {"place": last, "id": number},
        )
    said = connection.execute(
        sa.text(
            "SELECT verdicts.platform_id, verdicts.signal_id, verdicts.hour FROM verdicts JOIN "
            "signals ON signals.id = verdicts.signal_id WHERE signals.place IS NOT NULL "
            "ORDER BY verdicts.hour, verdicts.signal_id, verdicts.platform_id"
        )
    ).all()
    for platform, number, hour in said:
        last = max(last + 1, hour * 100)
        connection.execute(
            sa.text(
                "UPDATE verdicts SET place = :place WHERE platform_id = :platform "
                "AND signal_id = :id"
            ),
            {"place": last, "platform": platform, "id": number},
        )
    return last
