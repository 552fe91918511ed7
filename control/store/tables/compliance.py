"""Compliance: consents, revocations, block lists, what a tenant was granted, the heads of the chains."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, String, Table, Text

from control.store.tables.core import Json, RowNumber, UtcDateTime, metadata

# A grant is never changed but by its own revocation: it is evidence.
consents = Table(
    "consents",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("e164", String(16), nullable=False),
    Column("seller", Text, nullable=False),
    Column("channels", Json, nullable=False),
    Column("purposes", Json, nullable=False),
    Column("level", String(16), nullable=False),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("method", String(32)),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("revoked_reason", Text),
    Column("names_automated_voice", Boolean, nullable=False),
    Column("says_not_a_condition", Boolean, nullable=False),
    Column("names_toll_free", Boolean, nullable=False),
    Column("disclosure_id", Text),
    Column("disclosure_text", Text),
    Column("disclosure_sha256", String(64)),
    Column("signature", String(32)),
    Column("evidence_ref", Text),
    Column("evidence_sha256", String(64)),
    Column("last_verified_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("location", Json),
    Column("details", Json),
    Index("ix_consents_tenant_id_e164", "tenant_id", "e164"),
    Index("ix_consents_tenant_id_id", "tenant_id", "id"),
)

# Append-only: a request to stop stays known after its entry was taken off the opt-out list.
revocations = Table(
    "revocations",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("tenant_id", String(40), nullable=False),
    Column("e164", String(16), nullable=False),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("source", String(32), nullable=False),
    Column("call_id", String(40)),
    Column("evidence", Json),
    Index("ix_revocations_tenant_id_e164", "tenant_id", "e164"),
)

# Of the whole platform: legal threats, wrong numbers, abuse. `tenant_id` is who reported it.
platform_blocks = Table(
    "platform_blocks",
    metadata,
    Column("e164", String(16), primary_key=True),
    Column("tenant_id", String(40)),
    Column("reason", Text),
    Column("source", String(32), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# Which file is the list; the numbers are in the file. `tenant_id` "" is a copy for everybody.
dnc_lists = Table(
    "dnc_lists",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("list_id", String(16), primary_key=True),
    Column("as_of", UtcDateTime, nullable=False),
    Column("source", Text, nullable=False),
    Column("file_name", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("imported_at", UtcDateTime, nullable=False),
)

reassigned_answers = Table(
    "reassigned_answers",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("tenant_id", String(40), nullable=False),
    Column("e164", String(16), nullable=False),
    Column("answer", String(8), nullable=False),
    Column("for_date", String(10)),
    Column("asked_at", UtcDateTime, nullable=False),
    Index("ix_reassigned_answers_tenant_id_e164", "tenant_id", "e164"),
)

# What an operator granted a tenant (legal name, regions, registrations, switches), and what it narrowed.
tenant_policies = Table(
    "tenant_policies",
    metadata,
    Column("tenant_id", String(40), ForeignKey("tenants.id"), primary_key=True),
    Column("profile", Json, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("updated_by", String(64), nullable=False),
)

# What Twilio lets the tenant's account call, as it was read back. `countries`: `{"US": [low, special, toll_fraud]}`;
# `prefixes`: the high-risk ones of the countries that the tenant calls, `{"US": ["+1900"]}`.
dialling_permissions = Table(
    "dialling_permissions",
    metadata,
    Column("tenant_id", String(40), ForeignKey("tenants.id"), primary_key=True),
    Column("countries", Json, nullable=False),
    Column("prefixes", Json, nullable=False),
    Column("read_at", UtcDateTime, nullable=False),
)

# The newest link of each tenant's chain of decisions. Its row is the lock under which the next is added.
decision_heads = Table(
    "decision_heads",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)
