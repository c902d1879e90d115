"""Add advocates, and the cases that they open for survivors."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        "advocates",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("lookup", sa.LargeBinary(length=32), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_advocates")),
        sa.UniqueConstraint("lookup", name=op.f("uq_advocates_lookup")),
        sa.UniqueConstraint("name", name=op.f("uq_advocates_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "assisted",
        sa.Column("case_id", ROW, nullable=False),
        sa.Column("advocate_id", ROW, nullable=True),
        sa.Column("reference", sa.String(length=8), nullable=True),
        sa.Column("consent", sa.BigInteger(), nullable=False),
        sa.Column("reported", sa.BigInteger(), nullable=True),
        sa.Column("code", sa.LargeBinary(length=32), nullable=True),
        sa.Column("code_expires", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["advocate_id"], ["advocates.id"], name=op.f("fk_assisted_advocate_id")
        ),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_assisted_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_assisted")),
        sa.UniqueConstraint("advocate_id", "reference", name=op.f("uq_assisted_advocate_id")),
        sa.UniqueConstraint("code", name=op.f("uq_assisted_code")),
    )
