"""Limits across daemons: when a tenant's calls began, and how many conversations each daemon has open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "limits_0010"
down_revision = "data_retention"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table and a column."""
    op.create_table(
        "call_starts",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("call_id", sa.String(40), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_call_starts_tenant_id_at", "call_starts", ["tenant_id", "at"])
    op.add_column(
        "nodes", sa.Column("conversations", sa.Integer, nullable=False, server_default="0")
    )


def downgrade() -> None:
    """They go."""
    op.drop_column("nodes", "conversations")
    op.drop_table("call_starts")
