"""Tenants: subaccounts, sealed secrets, API keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TENANT_COLUMNS = (
    ("account_sid", sa.String(34)),
    ("account_status", sa.String(16)),
    ("limits", sa.JSON(none_as_null=True)),
    ("problem", sa.Text()),
    ("lease_owner", sa.String(120)),
    ("lease_until", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    with op.batch_alter_table("tenants") as tenants:
        for name, kind in TENANT_COLUMNS:
            tenants.add_column(sa.Column(name, kind, nullable=True))
    op.create_index("uq_tenants_account_sid", "tenants", ["account_sid"], unique=True)
    _tenant_keys()
    _tenant_credentials()


def downgrade() -> None:
    op.drop_table("tenant_credentials")
    op.drop_table("tenant_keys")
    op.drop_index("uq_tenants_account_sid", "tenants")
    with op.batch_alter_table("tenants") as tenants:
        for name, _ in TENANT_COLUMNS:
            tenants.drop_column(name)


def _tenant_keys() -> None:
    op.create_table(
        "tenant_keys",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )
    op.create_index("uq_tenant_keys_digest", "tenant_keys", ["digest"], unique=True)
    op.create_index("ix_tenant_keys_tenant_id_id", "tenant_keys", ["tenant_id", "id"])


def _tenant_credentials() -> None:
    op.create_table(
        "tenant_credentials",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sid", sa.String(34)),
        sa.Column("sealed", sa.Text()),
    )
    op.create_index("ix_tenant_credentials_tenant_id_id", "tenant_credentials", ["tenant_id", "id"])
