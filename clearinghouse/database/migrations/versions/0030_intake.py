"""How many signals were taken in, by the hour: what a proof of work is priced by."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0020"


def upgrade() -> None:
    """Make the step."""
    op.create_table(
        "intake",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("signals", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", name=op.f("pk_intake")),
    )
