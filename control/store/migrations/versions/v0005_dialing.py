"""Dialling: the durable queue of outbound calls, each account's pace, answering machines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

CALL_COLUMNS = (
    ("answered_by", sa.String(32)),
    ("machine_detection", sa.JSON(none_as_null=True)),
    ("node", sa.String(120)),
)


def upgrade() -> None:
    """Two tables, three columns, and the index that counts calls in progress."""
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "dial_queue",
        sa.Column("call_id", sa.String(40), sa.ForeignKey("calls.id"), primary_key=True),
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("due_at", instant, nullable=False),
        sa.Column("give_up_at", instant, nullable=False),
        sa.Column("waiting_for", sa.String(16), nullable=False),
        sa.Column("is_patient", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(120)),
        sa.Column("lease_until", instant),
        sa.Column("sent_at", instant),
        sa.Column("created_at", instant, nullable=False),
    )
    op.create_index(
        "ix_dial_queue_tenant_id_state_due_at",
        "dial_queue",
        ["tenant_id", "state", "due_at", "call_id"],
    )
    op.create_index("ix_dial_queue_lease_until", "dial_queue", ["lease_until"])
    op.create_table(
        "dial_pace",
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), primary_key=True),
        sa.Column("next_at", instant, nullable=False),
        sa.Column("served_at", instant, nullable=False),
        sa.Column("held_until", instant),
        sa.Column("factor", sa.Float(), nullable=False),
    )
    with op.batch_alter_table("calls") as calls:
        for name, kind in CALL_COLUMNS:
            calls.add_column(sa.Column(name, kind, nullable=True))
    op.create_index(
        "ix_calls_tenant_id_ended_at_dial_state", "calls", ["tenant_id", "ended_at", "dial_state"]
    )


def downgrade() -> None:
    """They go."""
    op.drop_index("ix_calls_tenant_id_ended_at_dial_state", "calls")
    with op.batch_alter_table("calls") as calls:
        for name, _ in reversed(CALL_COLUMNS):
            calls.drop_column(name)
    op.drop_table("dial_pace")
    op.drop_table("dial_queue")
