"""Provisioning: what each agent's saga has done, and its health.

What an agent itself has learnt (steps, health, drift) are columns of `agents`, in `core`.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text

from control.store.tables.core import Json, UtcDateTime, metadata

# One row for each thing that a provider is asked to make, written before it is asked: after a kill it is
# known that it may exist, and it is looked for before it is made again.
provisioning_intents = Table(
    "provisioning_intents",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("tenant_id", String(40), nullable=False),
    Column("agent_id", String(40)),
    Column("state", String(16), nullable=False),
    Column("resource_id", Text),
    Column("detail", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_provisioning_intents_agent_id", "agent_id"),
)

# Numbers beyond the agent's first one, which is in `agents`.
agent_numbers = Table(
    "agent_numbers",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), nullable=False),
    Column("agent_id", String(40), ForeignKey("agents.id"), nullable=False),
    Column("e164", String(16)),
    Column("sid", String(34)),
    Column("type", String(16)),
    Column("status", String(16), nullable=False),
    Column("wish", Json, nullable=False),
    Column("error", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("uq_agent_numbers_e164", "e164", unique=True),
    Index("ix_agent_numbers_agent_id_id", "agent_id", "id"),
)
