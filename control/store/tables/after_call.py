"""After the call: outbox, what the agent service said of a conversation, result webhooks, messages."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from control.store.tables.core import Json, UtcDateTime, metadata

# Work that has to be done at least once, whatever dies. Written in the transaction that makes it necessary.
outbox = Table(
    "outbox",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("key", String(255), nullable=False),
    # Items of one lane are done a few at a time, so that a slow target holds up its own alone.
    Column("lane", String(80), nullable=False),
    Column("payload", Json, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("lease_owner", String(120)),
    Column("lease_until", UtcDateTime),
    Column("last_error", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("uq_outbox_kind_key", "kind", "key", unique=True),
    Index("ix_outbox_status_due_at", "status", "due_at"),
)

# A conversation as ElevenLabs tells it. `call_id` is null for one that belongs to no call that is known.
conversations = Table(
    "conversations",
    metadata,
    Column("conversation_id", String(128), primary_key=True),
    Column("tenant_id", String(40), nullable=False),
    Column("call_id", String(40)),
    Column("status", String(16), nullable=False),
    Column("source", String(16), nullable=False),
    Column("data", Json, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index("ix_conversations_call_id", "call_id"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Json, nullable=False),
    Column("description", Text),
    Column("secret", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_webhooks_tenant_id_id", "tenant_id", "id"),
)

# One event for one target. The body is kept as text: each attempt sends the same bytes.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), nullable=False),
    Column("webhook_id", String(40), nullable=False),
    Column("event_id", String(40), nullable=False),
    Column("event", String(64), nullable=False),
    Column("call_id", String(40)),
    Column("body", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("http_status", Integer),
    Column("last_error", Text),
    Column("next_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime),
    Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", "id"),
    Index("ix_webhook_deliveries_call_id", "call_id"),
    Index("uq_webhook_deliveries_webhook_id_event_id", "webhook_id", "event_id", unique=True),
)

# Text messages, both ways. One to be sent is a row before Twilio is asked.
messages = Table(
    "messages",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("agent_id", String(40)),
    Column("call_id", String(40)),
    Column("direction", String(8), nullable=False),
    Column("from_number", Text, nullable=False),
    Column("to_number", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("segments", Integer, nullable=False),
    Column("status", String(24), nullable=False),
    # As of a dialled call: intent, sent, created, uncertain, refused; null for one that came in.
    Column("send_state", String(16)),
    Column("intent_key", String(255)),
    Column("twilio_sid", String(64)),
    Column("error_code", Integer),
    Column("error", Text),
    Column("decision", Json),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("texts_erased_at", UtcDateTime),
    Column("numbers_erased_at", UtcDateTime),
    Index("uq_messages_intent_key", "intent_key", unique=True),
    Index("uq_messages_twilio_sid", "twilio_sid", unique=True),
    Index("ix_messages_tenant_id_id", "tenant_id", "id"),
    Index("ix_messages_call_id", "call_id"),
)
for _what in ("texts", "numbers"):
    _kept = messages.c[f"{_what}_erased_at"].is_(None)
    Index(
        f"ix_messages_{_what}_kept",
        messages.c.tenant_id,
        messages.c.created_at,
        sqlite_where=_kept,
        postgresql_where=_kept,
    )
