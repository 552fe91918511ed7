"""The schema, in SQLAlchemy Core. Portable between SQLite and PostgreSQL.

A change here needs a migration in `migrations/versions`; a test compares the two.
Every table carries `tenant_id`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware in, aware (UTC) out. SQLite keeps no zone, so it is taken off and put back."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = DateTime(timezone=True)
    cache_ok: bool | None = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone is not an instant")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite numbers rows by itself only for INTEGER PRIMARY KEY.
RowNumber = BigInteger().with_variant(Integer, "sqlite")
Json = JSON(none_as_null=True)

tenants = Table(
    "tenants",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("account_sid", String(34)),
    Column("account_status", String(16)),
    Column("limits", Json),
    Column("retention", Json),
    Column("problem", Text),
    Column("lease_owner", String(120)),
    Column("lease_until", UtcDateTime),
    Index("uq_tenants_account_sid", "account_sid", unique=True),
)

agents = Table(
    "agents",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("number_e164", String(16)),
    Column("number_sid", String(34)),
    Column("number_type", String(16)),
    Column("number_status", String(16)),
    Column("elevenlabs_agent_id", Text),
    Column("elevenlabs_status", String(16)),
    Column("business_url", Text),
    Column("vertical", Text),
    Column("timezone", Text),
    Column("location", Json),
    Column("hours", Json),
    Column("variables", Json, nullable=False),
    Column("extractions", Json),
    Column("sms", Json),
    Column("settings", Json, nullable=False),
    Column("steps", Json, nullable=False),
    Column("provisioning_started_at", UtcDateTime),
    Column("provisioning_ended_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("elevenlabs", Json),
    Column("health", Json),
    Column("drift", Json),
    Column("pending", String(16)),
    Column("lease_owner", String(120)),
    Column("lease_until", UtcDateTime),
    Column("routes", Json),
    Index("ix_agents_tenant_id_id", "tenant_id", "id"),
)
Index(
    "uq_agents_number_e164_open",
    agents.c.number_e164,
    unique=True,
    sqlite_where=agents.c.status != "closed",
    postgresql_where=agents.c.status != "closed",
)

calls = Table(
    "calls",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant_id", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("agent_id", String(40), ForeignKey("agents.id")),
    Column("direction", String(8), nullable=False),
    # Not String(16): a caller may be a SIP address or "anonymous".
    Column("from_number", Text),
    Column("to_number", Text),
    Column("status", String(16), nullable=False),
    Column("result", String(32)),
    Column("blame", String(16)),
    Column("reason", Text),
    Column("twilio_call_sid", String(64)),
    Column("conversation_id", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ringing_at", UtcDateTime),
    Column("answered_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("variables", Json, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("decision", Json),
    Column("legs", Json, nullable=False),
    Column("media", Json, nullable=False),
    Column("recording", Json),
    Column("extractions", Json, nullable=False),
    Column("summary", Text),
    Column("cost", Json, nullable=False),
    Column("dial_state", String(16)),
    Column("resumes", Integer, nullable=False),
    Column("answered_by", String(32)),
    Column("machine_detection", Json),
    Column("node", String(120)),
    Column("extraction_problems", Json),
    Column("analysis", Json),
    Column("bill", Json),
    Column("sent_at", UtcDateTime),
    Column("erase_asked_at", UtcDateTime),
    Column("erase_asked_by", String(64)),
    Column("texts_erased_at", UtcDateTime),
    Column("recording_erased_at", UtcDateTime),
    Column("numbers_erased_at", UtcDateTime),
    Column("campaign", Text),
    Column("abandoned", Boolean),
    Index("uq_calls_twilio_call_sid", "twilio_call_sid", unique=True),
    Index("ix_calls_tenant_id_id", "tenant_id", "id"),
    Index("ix_calls_agent_id_id", "agent_id", "id"),
    Index("ix_calls_ended_at", "ended_at"),
    Index("ix_calls_conversation_id", "conversation_id"),
    Index("ix_calls_created_at", "created_at"),
    Index("ix_calls_tenant_id_created_at", "tenant_id", "created_at"),
    Index("ix_calls_tenant_id_from_number", "tenant_id", "from_number", "sent_at"),
    Index("ix_calls_tenant_id_to_number", "tenant_id", "to_number"),
    Index("ix_calls_tenant_id_ended_at_dial_state", "tenant_id", "ended_at", "dial_state"),
    Index("ix_calls_tenant_id_sent_at", "tenant_id", "sent_at"),
)


def _while(name: str, condition: ColumnElement[bool], *columns: Column[Any]) -> None:
    """An index of the rows that `condition` holds for: it shrinks as they are done with."""
    Index(f"ix_{name}", *columns, sqlite_where=condition, postgresql_where=condition)


# What each decision about a call counts: all that is asked for is in them, so that no row of the table is read.
_C = calls.c
_while(
    "calls_campaign", _C.abandoned.is_not(None), _C.tenant_id, _C.campaign, _C.sent_at, _C.abandoned
)
_TALK = (_C.tenant_id, _C.direction, _C.sent_at, _C.answered_at, _C.ended_at, _C.id)
_while("calls_talked", _C.answered_at.is_not(None), *_TALK)

# What is still there, for the sweep that erases it.
_OF, _END = calls.c.tenant_id, calls.c.ended_at
_while("calls_texts_kept", calls.c.texts_erased_at.is_(None), _OF, _END)
_while(
    "calls_recording_kept",
    calls.c.recording.is_not(None) & calls.c.recording_erased_at.is_(None),
    _OF,
    _END,
)
_while("calls_numbers_kept", calls.c.numbers_erased_at.is_(None), _OF, _END)
_while("calls_erase_asked", calls.c.erase_asked_at.is_not(None), calls.c.erase_asked_at)

call_events = Table(
    "call_events",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("tenant_id", String(40), nullable=False),
    Column("call_id", String(40), ForeignKey("calls.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("data", Json, nullable=False),
    Index("ix_call_events_call_id_id", "call_id", "id"),
)

call_turns = Table(
    "call_turns",
    metadata,
    Column("call_id", String(40), ForeignKey("calls.id"), primary_key=True),
    Column("turn", Integer, primary_key=True, autoincrement=False),
    Column("tenant_id", String(40), nullable=False),
    Column("role", String(8), nullable=False),
    Column("text", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("heard", Text),
    Column("interrupted", Boolean, nullable=False),
)

# Append-only, a chain of hashes for each tenant (`control.store.decisions`): what was decided, when, and from
# which inputs. `call_id` is no foreign key, because a decision is kept even where the call is not.
decisions = Table(
    "decisions",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("tenant_id", String(40), nullable=False),
    Column("call_id", String(40)),
    Column("phase", String(16), nullable=False),
    Column("decision", Json, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("seq", BigInteger),
    Column("prev_hash", String(64)),
    Column("hash", String(64)),
    # Everything the rules knew, for a replay. Not part of the chain but by its hash: it holds a telephone
    # number, which may have to be erased.
    Column("facts", Json),
    Column("facts_hash", String(64)),
    Index("ix_decisions_call_id", "call_id"),
    Index("ix_decisions_tenant_id_at", "tenant_id", "at"),
    Index("uq_decisions_tenant_id_seq", "tenant_id", "seq", unique=True),
)

opt_outs = Table(
    "opt_outs",
    metadata,
    Column("tenant_id", String(40), ForeignKey("tenants.id"), primary_key=True),
    Column("e164", String(16), primary_key=True),
    Column("source", String(32), nullable=False),
    Column("reason", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("call_id", String(40)),
    Column("evidence", Json),
    # Null: every channel. `voice`: a START took messages out of it.
    Column("scope", String(8)),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer),
    Column("headers", Json),
    Column("body", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

webhooks_seen = Table(
    "webhooks_seen",
    metadata,
    Column("tenant_id", String(40), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_webhooks_seen_at", "at"),
)
