"""Retention: each tenant's periods, what of a call or message is erased, and who sweeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "data_retention"
down_revision = "law_0003"
branch_labels = None
depends_on = None

# index, table, columns, condition
INDEXES = (
    ("calls_texts_kept", "calls", ["tenant_id", "ended_at"], "texts_erased_at IS NULL"),
    (
        "calls_recording_kept",
        "calls",
        ["tenant_id", "ended_at"],
        "recording IS NOT NULL AND recording_erased_at IS NULL",
    ),
    ("calls_numbers_kept", "calls", ["tenant_id", "ended_at"], "numbers_erased_at IS NULL"),
    ("calls_erase_asked", "calls", ["erase_asked_at"], "erase_asked_at IS NOT NULL"),
    ("messages_texts_kept", "messages", ["tenant_id", "created_at"], "texts_erased_at IS NULL"),
    ("messages_numbers_kept", "messages", ["tenant_id", "created_at"], "numbers_erased_at IS NULL"),
)


def upgrade() -> None:
    """Columns, partial indexes that hold only what is still there, and one table."""
    instant = sa.DateTime(timezone=True)
    op.add_column("tenants", sa.Column("retention", sa.JSON(none_as_null=True)))
    for name in ("erase_asked_at", "texts_erased_at", "recording_erased_at", "numbers_erased_at"):
        op.add_column("calls", sa.Column(name, instant))
    op.add_column("calls", sa.Column("erase_asked_by", sa.String(64)))
    for name in ("texts_erased_at", "numbers_erased_at"):
        op.add_column("messages", sa.Column(name, instant))
    for name, table, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(f"ix_{name}", table, columns, sqlite_where=where, postgresql_where=where)
    op.create_index("ix_webhook_deliveries_call_id", "webhook_deliveries", ["call_id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(120)),
        sa.Column("lease_until", instant),
    )


def downgrade() -> None:
    """What was erased stays erased."""
    op.drop_table("leases")
    op.drop_index("ix_webhook_deliveries_call_id", "webhook_deliveries")
    for name, table, _, _ in INDEXES:
        op.drop_index(f"ix_{name}", table)
    for table, names in (
        ("messages", ("texts_erased_at", "numbers_erased_at")),
        (
            "calls",
            (
                *("erase_asked_at", "erase_asked_by"),
                *("texts_erased_at", "recording_erased_at", "numbers_erased_at"),
            ),
        ),
        ("tenants", ("retention",)),
    ):
        with op.batch_alter_table(table) as batch:
            for name in names:
                batch.drop_column(name)
