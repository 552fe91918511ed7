"""Dialling: the durable queue of outbound calls, each account's pace, and when a tenant's calls began."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table

from control.store.tables.core import RowNumber, UtcDateTime, metadata

dial_queue = Table(
    "dial_queue",
    metadata,
    Column("call_id", String(40), ForeignKey("calls.id"), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("state", String(8), nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("give_up_at", UtcDateTime, nullable=False),
    Column("waiting_for", String(16), nullable=False),
    Column("is_patient", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_owner", String(120)),
    Column("lease_until", UtcDateTime),
    Column("sent_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_dial_queue_tenant_id_state_due_at", "tenant_id", "state", "due_at", "call_id"),
    Index("ix_dial_queue_lease_until", "lease_until"),
)

# A row for every tenant that ever queued a call: daemons take turns on it with row locks.
dial_pace = Table(
    "dial_pace",
    metadata,
    Column("tenant_id", String(40), ForeignKey("tenants.id"), primary_key=True),
    Column("next_at", UtcDateTime, nullable=False),
    Column("served_at", UtcDateTime, nullable=False),
    Column("held_until", UtcDateTime),
    Column("factor", Float, nullable=False),
)

# Calls of the last minute, both ways, of tenants that have a limit. No foreign key: an inbound call is admitted
# before its record is written.
call_starts = Table(
    "call_starts",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("call_id", String(40), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_call_starts_tenant_id_at", "tenant_id", "at"),
)
