"""Tenants: their API keys, and the sealed secrets of their Twilio subaccounts. `tenants` itself is in `core`."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text

from control.store.tables.core import Json, UtcDateTime, metadata

# Only a digest of a key is kept: who reads the database cannot use the API with what it holds.
tenant_keys = Table(
    "tenant_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Index("uq_tenant_keys_digest", "digest", unique=True),
    Index("ix_tenant_keys_tenant_id_id", "tenant_id", "id"),
)

tenant_credentials = Table(
    "tenant_credentials",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("sid", String(34)),
    Column("sealed", Text),
    Index("ix_tenant_credentials_tenant_id_id", "tenant_id", "id"),
)
