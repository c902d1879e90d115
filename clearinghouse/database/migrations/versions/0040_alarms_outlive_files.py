"""Alarms about a key stay when the file that they are about is withdrawn or forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0030"


def upgrade() -> None:
    """Make the step."""
    made = {"sqlite_autoincrement": True}  # which SQLite does not tell of the table that is copied
    with op.batch_alter_table("reviews", table_kwargs=made) as table:
        table.alter_column("item_id", existing_type=sa.BigInteger(), nullable=True)
        table.add_column(sa.Column("around", sa.BigInteger(), nullable=True))
    op.execute("UPDATE reviews SET around = item_id, item_id = NULL WHERE kind = 'oracle'")
