"""Whether a called party heard a word in time, and which campaign's figure that counts for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "law5_0012"
down_revision = "chaos_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of older calls it is not known: they count for nothing."""
    op.add_column("calls", sa.Column("campaign", sa.Text()))
    op.add_column("calls", sa.Column("abandoned", sa.Boolean()))
    columns = ["tenant_id", "campaign", "sent_at", "abandoned"]
    op.create_index("ix_calls_campaign", "calls", columns)


def downgrade() -> None:
    """They go."""
    op.drop_index("ix_calls_campaign", "calls")
    with op.batch_alter_table("calls") as calls:
        calls.drop_column("abandoned")
        calls.drop_column("campaign")
