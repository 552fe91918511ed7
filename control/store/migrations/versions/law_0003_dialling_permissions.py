"""What Twilio lets each tenant's account call, as it was read back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "law_0003"
down_revision = "law_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One table, one row a tenant."""
    op.create_table(
        "dialling_permissions",
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), primary_key=True),
        sa.Column("countries", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("prefixes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """It goes."""
    op.drop_table("dialling_permissions")
