"""When a call's dial request left: caps and velocity count calls that rang, not requests for calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "law_0002"
down_revision = "law_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One column; of older calls it is not known, and their creation stands for it."""
    op.add_column("calls", sa.Column("sent_at", sa.DateTime(timezone=True)))
    op.execute(
        "UPDATE calls SET sent_at = created_at "
        "WHERE direction = 'outbound' AND dial_state IN ('sent', 'uncertain', 'created')"
    )
    op.create_index("ix_calls_tenant_id_sent_at", "calls", ["tenant_id", "sent_at"])


def downgrade() -> None:
    """It goes."""
    op.drop_index("ix_calls_tenant_id_sent_at", "calls")
    with op.batch_alter_table("calls") as calls:
        calls.drop_column("sent_at")
