"""Provisioning: what each agent's saga has done, and its health."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

AGENT_COLUMNS = (
    ("elevenlabs", sa.JSON(none_as_null=True)),
    ("health", sa.JSON(none_as_null=True)),
    ("drift", sa.JSON(none_as_null=True)),
    ("pending", sa.String(16)),
    ("lease_owner", sa.String(120)),
    ("lease_until", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    with op.batch_alter_table("agents") as agents:
        for name, kind in AGENT_COLUMNS:
            agents.add_column(sa.Column(name, kind, nullable=True))
    op.create_table(
        "provisioning_intents",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("agent_id", sa.String(40)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("resource_id", sa.Text()),
        sa.Column("detail", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_provisioning_intents_agent_id", "provisioning_intents", ["agent_id"])
    op.create_table(
        "agent_numbers",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("agent_id", sa.String(40), sa.ForeignKey("agents.id"), nullable=False),
        sa.Column("e164", sa.String(16)),
        sa.Column("sid", sa.String(34)),
        sa.Column("type", sa.String(16)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("wish", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("uq_agent_numbers_e164", "agent_numbers", ["e164"], unique=True)
    op.create_index("ix_agent_numbers_agent_id_id", "agent_numbers", ["agent_id", "id"])


def downgrade() -> None:
    op.drop_table("agent_numbers")
    op.drop_table("provisioning_intents")
    with op.batch_alter_table("agents") as agents:
        for name, _ in AGENT_COLUMNS:
            agents.drop_column(name)
