"""Indices from which a decision's counters are read alone, however many calls a tenant has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "dial9_0013"
down_revision = "law5_0012"
branch_labels = None
depends_on = None

_PARTS = (
    (
        "ix_calls_campaign",
        "abandoned IS NOT NULL",
        ["tenant_id", "campaign", "sent_at", "abandoned"],
    ),
    (
        "ix_calls_talked",
        "answered_at IS NOT NULL",
        ["tenant_id", "direction", "sent_at", "answered_at", "ended_at", "id"],
    ),
)
_NUMBER = "ix_calls_tenant_id_from_number"


def upgrade() -> None:
    """Those that they stand for go."""
    for gone in ("ix_calls_campaign", _NUMBER):
        op.drop_index(gone, "calls")
    for name, condition, columns in _PARTS:
        where = sa.text(condition)
        op.create_index(name, "calls", columns, sqlite_where=where, postgresql_where=where)
    op.create_index(_NUMBER, "calls", ["tenant_id", "from_number", "sent_at"])


def downgrade() -> None:
    """As they were."""
    for name in (*(part[0] for part in _PARTS), _NUMBER):
        op.drop_index(name, "calls")
    op.create_index("ix_calls_campaign", "calls", ["tenant_id", "campaign", "sent_at", "abandoned"])
    op.create_index(_NUMBER, "calls", ["tenant_id", "from_number"])
