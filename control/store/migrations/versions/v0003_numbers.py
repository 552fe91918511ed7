"""Telephone numbers: bought, adopted, released; bundles and Trust Hub objects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ACTIVE = sa.text("status = 'active'")


def upgrade() -> None:
    """Two tables."""
    json = sa.JSON(none_as_null=True)
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "numbers",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("e164", sa.String(16)),
        sa.Column("sid", sa.String(34)),
        sa.Column("type", sa.String(16)),
        sa.Column("country", sa.String(2)),
        sa.Column("region", sa.Text()),
        sa.Column("locality", sa.Text()),
        sa.Column("capabilities", json, nullable=False),
        sa.Column("agent_id", sa.String(40)),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("intent_key", sa.String(255)),
        sa.Column("friendly_name", sa.String(64)),
        sa.Column("wish", json, nullable=False),
        sa.Column("attempt_e164", sa.String(16)),
        sa.Column("attempt_at", instant),
        sa.Column("bundle_sid", sa.String(34)),
        sa.Column("address_sid", sa.String(34)),
        sa.Column("problem", json),
        sa.Column("checked_at", instant),
        sa.Column("mended_at", instant),
        sa.Column("mended", json, nullable=False),
        sa.Column("released_at", instant),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
    )
    op.create_index(
        "uq_numbers_tenant_id_intent_key", "numbers", ["tenant_id", "intent_key"], unique=True
    )
    op.create_index("ix_numbers_tenant_id_id", "numbers", ["tenant_id", "id"])
    op.create_index("ix_numbers_agent_id", "numbers", ["agent_id"])
    op.create_index("ix_numbers_e164", "numbers", ["e164"])
    op.create_index(
        "uq_numbers_e164_active",
        "numbers",
        ["e164"],
        unique=True,
        sqlite_where=ACTIVE,
        postgresql_where=ACTIVE,
    )
    op.create_table(
        "filings",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("sid", sa.String(34)),
        sa.Column("friendly_name", sa.String(64), nullable=False),
        sa.Column("policy_sid", sa.String(34)),
        sa.Column("country", sa.String(2)),
        sa.Column("number_type", sa.String(16)),
        sa.Column("end_user_type", sa.String(16)),
        sa.Column("items", json, nullable=False),
        sa.Column("findings", json, nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("valid_until", instant),
        sa.Column("submitted_at", instant),
        sa.Column("checked_at", instant),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
    )
    op.create_index("ix_filings_tenant_id_kind_id", "filings", ["tenant_id", "kind", "id"])
    op.create_index("uq_filings_sid", "filings", ["sid"], unique=True)


def downgrade() -> None:
    """They go."""
    op.drop_table("filings")
    op.drop_table("numbers")
