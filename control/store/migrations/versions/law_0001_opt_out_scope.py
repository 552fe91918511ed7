"""An opt-out may be for calls alone: a START brings back messages and nothing else."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "law_0001"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One column; null is every channel, as before."""
    op.add_column("opt_outs", sa.Column("scope", sa.String(8)))


def downgrade() -> None:
    """It goes."""
    with op.batch_alter_table("opt_outs") as opt_outs:
        opt_outs.drop_column("scope")
