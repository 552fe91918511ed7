"""Routing, provider events, and figures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

CALL_INDEXES = (
    ("ix_calls_tenant_id_created_at", ["tenant_id", "created_at"]),
    ("ix_calls_tenant_id_from_number", ["tenant_id", "from_number"]),
    ("ix_calls_tenant_id_to_number", ["tenant_id", "to_number"]),
)


def upgrade() -> None:
    """Three tables, the routes of an agent, and indexes for figures and earlier calls."""
    json = sa.JSON(none_as_null=True)
    instant = sa.DateTime(timezone=True)
    with op.batch_alter_table("agents") as agents:
        agents.add_column(sa.Column("routes", json))
    for name, columns in CALL_INDEXES:
        op.create_index(name, "calls", columns)
    op.create_table(
        "number_routes",
        sa.Column("e164", sa.String(16), primary_key=True),
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("timezone", sa.Text()),
        sa.Column("calendar", json),
        sa.Column("hours", json),
        sa.Column("routes", json, nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
    )
    op.create_index("ix_number_routes_tenant_id_e164", "number_routes", ["tenant_id", "e164"])
    _provider_events(json, instant)
    op.create_table(
        "usage_snapshots",
        sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), primary_key=True),
        sa.Column("since", sa.String(10), primary_key=True),
        sa.Column("until", sa.String(10), primary_key=True),
        sa.Column("records", json, nullable=False),
        sa.Column("fetched_at", instant, nullable=False),
    )


def _provider_events(json: sa.JSON, instant: sa.DateTime) -> None:
    numbered = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "provider_events",
        sa.Column("id", numbered, primary_key=True, autoincrement=True),
        sa.Column("tenant_id", sa.String(40), nullable=False),
        sa.Column("provider", sa.String(16), nullable=False),
        sa.Column("sid", sa.String(64), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("code", sa.Integer()),
        sa.Column("message", sa.Text()),
        sa.Column("resource_sid", sa.String(64)),
        sa.Column("call_sid", sa.String(64)),
        sa.Column("call_id", sa.String(40)),
        sa.Column("agent_id", sa.String(40)),
        sa.Column("detail", json, nullable=False),
        sa.Column("at", instant, nullable=False),
        sa.Column("received_at", instant, nullable=False),
    )
    op.create_index(
        "uq_provider_events_provider_sid", "provider_events", ["provider", "sid"], unique=True
    )
    for name, columns in (
        ("ix_provider_events_tenant_id_id", ["tenant_id", "id"]),
        ("ix_provider_events_call_id", ["call_id"]),
        ("ix_provider_events_call_sid", ["call_sid"]),
        ("ix_provider_events_at", ["at"]),
    ):
        op.create_index(name, "provider_events", columns)


def downgrade() -> None:
    """They go."""
    op.drop_table("usage_snapshots")
    op.drop_table("provider_events")
    op.drop_table("number_routes")
    for name, _ in CALL_INDEXES:
        op.drop_index(name, "calls")
    with op.batch_alter_table("agents") as agents:
        agents.drop_column("routes")
