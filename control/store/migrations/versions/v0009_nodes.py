"""Several daemons on one database: who is alive, and what one has to tell another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables."""
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(120), primary_key=True),
        sa.Column("lease_until", instant, nullable=False),
    )
    op.create_table(
        "node_messages",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("node", sa.String(120), nullable=False),
        sa.Column("call_id", sa.String(40), sa.ForeignKey("calls.id"), nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("form", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("at", instant, nullable=False),
    )
    op.create_index("ix_node_messages_node_id", "node_messages", ["node", "id"])


def downgrade() -> None:
    """They go."""
    op.drop_table("node_messages")
    op.drop_table("nodes")
