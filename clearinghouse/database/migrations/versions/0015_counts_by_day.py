"""Keep matches and verdicts as of the beginning of a day: holders of cases see no later ones."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("verdicts", sa.Column("earlier", sa.String(length=16), nullable=True))
    zero = sa.text("0")  # as if all were on an earlier day, since their days are unknown
    for name in ("day", "earlier"):
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default=zero)
        op.add_column("matches", column)
