"""Schema 2: several daemons before one database. Runs are leased, and what all daemons must agree on is kept here."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shared_values",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_shared_values")),
    )
    # Plain ALTERs: SQLite adds such columns without copying the table.
    op.add_column("responses", sa.Column("lease_until", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("responses", sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("responses", sa.Column("cancel_asked", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    for name in ("cancel_asked", "attempts", "lease_until"):
        op.drop_column("responses", name)
    op.drop_table("shared_values")
