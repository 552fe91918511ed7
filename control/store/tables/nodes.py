"""Which daemons are alive, and what one has to tell another."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table

from control.store.tables.core import Json, RowNumber, UtcDateTime, metadata

nodes = Table(
    "nodes",
    metadata,
    # Of no tenant: a daemon serves them all.
    Column("name", String(120), primary_key=True),
    Column("lease_until", UtcDateTime, nullable=False),
    # Agent conversations that it has open, or will open for calls that it has taken on.
    Column("conversations", Integer, nullable=False, server_default="0"),
    # Calls that have ended later may be known to Twilio alone.
    Column("heard_until", UtcDateTime),
)

node_messages = Table(
    "node_messages",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("tenant_id", String(40), nullable=False),
    Column("node", String(120), nullable=False),
    Column("call_id", String(40), ForeignKey("calls.id"), nullable=False),
    Column("what", String(16), nullable=False),
    Column("form", Json, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_node_messages_node_id", "node", "id"),
)

# Work of the whole platform that one daemon at a time does.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(120)),
    Column("lease_until", UtcDateTime),
)
