"""Who is reached at which hour, what providers complained about, and figures fetched from them."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text

from control.store.tables.core import Json, RowNumber, UtcDateTime, metadata

number_routes = Table(
    "number_routes",
    metadata,
    Column("e164", String(16), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("timezone", Text),
    Column("calendar", Json),
    Column("hours", Json),
    Column("routes", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_number_routes_tenant_id_e164", "tenant_id", "e164"),
)

# `call_id` and `agent_id` are no foreign keys: an event may come before, after or without its call.
provider_events = Table(
    "provider_events",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("tenant_id", String(40), nullable=False),
    Column("provider", String(16), nullable=False),
    Column("sid", String(64), nullable=False),
    Column("level", String(16), nullable=False),
    Column("code", Integer),
    Column("message", Text),
    Column("resource_sid", String(64)),
    Column("call_sid", String(64)),
    Column("call_id", String(40)),
    Column("agent_id", String(40)),
    Column("detail", Json, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index("uq_provider_events_provider_sid", "provider", "sid", unique=True),
    Index("ix_provider_events_tenant_id_id", "tenant_id", "id"),
    Index("ix_provider_events_call_id", "call_id"),
    Index("ix_provider_events_call_sid", "call_sid"),
    Index("ix_provider_events_at", "at"),
)

# The days as text: a usage record is about days of the account, not about instants.
usage_snapshots = Table(
    "usage_snapshots",
    metadata,
    Column("tenant_id", String(40), ForeignKey("tenants.id"), primary_key=True),
    Column("since", String(10), primary_key=True),
    Column("until", String(10), primary_key=True),
    Column("records", Json, nullable=False),
    Column("fetched_at", UtcDateTime, nullable=False),
)
