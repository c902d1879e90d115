"""Keep alarms about a key when their file is withdrawn or deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0030"


def upgrade() -> None:
    """Apply the migration."""
    made = {"sqlite_autoincrement": True}  # not reflected from the SQLite table that is copied
    with op.batch_alter_table("reviews", table_kwargs=made) as table:
        table.alter_column("item_id", existing_type=sa.BigInteger(), nullable=True)
        table.add_column(sa.Column("around", sa.BigInteger(), nullable=True))
    op.execute("UPDATE reviews SET around = item_id, item_id = NULL WHERE kind = 'oracle'")
