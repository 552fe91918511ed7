"""Until when each daemon has heard all that Twilio told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "chaos_0011"
down_revision = "limits_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column."""
    op.add_column("nodes", sa.Column("heard_until", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """It goes."""
    op.drop_column("nodes", "heard_until")
