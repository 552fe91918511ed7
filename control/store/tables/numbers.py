"""Telephone numbers: bought, adopted, released; and what is filed at Twilio for review."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text

from control.store.tables.core import Json, UtcDateTime, metadata

# An intent to buy is a row before Twilio is asked; what became of it is the same row.
numbers = Table(
    "numbers",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("status", String(16), nullable=False),
    Column("e164", String(16)),
    Column("sid", String(34)),
    Column("type", String(16)),
    Column("country", String(2)),
    Column("region", Text),
    Column("locality", Text),
    Column("capabilities", Json, nullable=False),
    Column("agent_id", String(40)),
    Column("origin", String(16), nullable=False),
    Column("intent_key", String(255)),
    Column("friendly_name", String(64)),
    Column("wish", Json, nullable=False),
    Column("attempt_e164", String(16)),
    Column("attempt_at", UtcDateTime),
    Column("bundle_sid", String(34)),
    Column("address_sid", String(34)),
    Column("problem", Json),
    Column("checked_at", UtcDateTime),
    Column("mended_at", UtcDateTime),
    Column("mended", Json, nullable=False),
    Column("released_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("uq_numbers_tenant_id_intent_key", "tenant_id", "intent_key", unique=True),
    Index("ix_numbers_tenant_id_id", "tenant_id", "id"),
    Index("ix_numbers_agent_id", "agent_id"),
    Index("ix_numbers_e164", "e164"),
)
Index(
    "uq_numbers_e164_active",
    numbers.c.e164,
    unique=True,
    sqlite_where=numbers.c.status == "active",
    postgresql_where=numbers.c.status == "active",
)

# Regulatory bundles and Trust Hub objects. Names and papers of people are not kept, only SIDs.
filings = Table(
    "filings",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("kind", String(24), nullable=False),
    Column("status", String(24), nullable=False),
    Column("sid", String(34)),
    Column("friendly_name", String(64), nullable=False),
    Column("policy_sid", String(34)),
    Column("country", String(2)),
    Column("number_type", String(16)),
    Column("end_user_type", String(16)),
    Column("items", Json, nullable=False),
    Column("findings", Json, nullable=False),
    Column("reason", Text),
    Column("valid_until", UtcDateTime),
    Column("submitted_at", UtcDateTime),
    Column("checked_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_filings_tenant_id_kind_id", "tenant_id", "kind", "id"),
    Index("uq_filings_sid", "sid", unique=True),
)
