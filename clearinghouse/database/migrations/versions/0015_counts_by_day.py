"""Matches and verdicts as they were when a day began: a case's holder is told no later ones."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the step."""
    op.add_column("verdicts", sa.Column("earlier", sa.String(length=16), nullable=True))
    zero = sa.text("0")  # as if on an earlier day, which nobody can tell
    for name in ("day", "earlier"):
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default=zero)
        op.add_column("matches", column)
