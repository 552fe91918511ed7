"""What providers complained about: debugger events, each with the call and the agent it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, exc, insert, select

from control.ids import DEFAULT_TENANT_ID
from control.store import rows
from control.store.errors import BadCursor
from control.store.tables import calls
from control.store.tables.routing import provider_events

KEEP = timedelta(days=90)
OF_CALL_MAX = 200
NUMBER_MAX_DIGITS = 18
"""Of a row's number in a cursor: what the database has room for."""


@dataclass(frozen=True, slots=True)
class ProviderEventRecord:
    """One event. `id` is the store's; 0 until it is stored."""

    provider: str
    sid: str
    level: str
    at: datetime
    received_at: datetime
    id: int = 0
    tenant_id: str = DEFAULT_TENANT_ID
    code: int | None = None
    message: str | None = None
    resource_sid: str | None = None
    call_sid: str | None = None
    call_id: str | None = None
    agent_id: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


def add(conn: Connection, record: ProviderEventRecord) -> ProviderEventRecord | None:
    """Store an event and attach it to its call; None when it came before. Old ones are deleted.

    A call's tenant counts more than the one that the account belongs to: agents share an account.
    """
    conn.execute(delete(provider_events).where(provider_events.c.at < record.received_at - KEEP))
    if record.call_sid:
        found = conn.execute(
            select(calls.c.id, calls.c.agent_id, calls.c.tenant_id).where(
                calls.c.twilio_call_sid == record.call_sid
            )
        ).one_or_none()
        if found is not None:
            record = replace(
                record, call_id=found.id, agent_id=found.agent_id, tenant_id=found.tenant_id
            )
    values = rows.values(record)
    del values["id"]
    try:
        with conn.begin_nested():
            key = conn.execute(insert(provider_events).values(values)).inserted_primary_key
    except exc.IntegrityError:
        return None
    return replace(record, id=int(key[0]) if key else 0)


def of_call(
    conn: Connection, call_id: str, call_sid: str | None = None
) -> list[ProviderEventRecord]:
    """The events of a call, the oldest first; also those that came before the call was known."""
    mine = provider_events.c.call_id == call_id
    if call_sid:
        mine = mine | (provider_events.c.call_sid == call_sid)
    statement = (
        rows.query(provider_events, ProviderEventRecord)
        .where(mine)
        .order_by(provider_events.c.at, provider_events.c.id)
        .limit(OF_CALL_MAX)
    )
    return [rows.build(ProviderEventRecord, row) for row in conn.execute(statement)]


def list_events(
    conn: Connection,
    *,
    tenant_id: str | None = None,
    filters: Mapping[str, Any] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[ProviderEventRecord], str | None]:
    """The newest first, and the cursor of the next page. Raises BadCursor, KeyError for a filter.

    Filters: `agent_id`, `call_id`, `call_sid`, `level`, `code` (equal), `since` (at or after), `until`
    (before). `tenant_id` None = every tenant.
    """
    c = provider_events.c
    statement = rows.query(provider_events, ProviderEventRecord)
    if tenant_id is not None:
        statement = statement.where(c.tenant_id == tenant_id)
    for name, value in (filters or {}).items():
        if value is None:
            continue
        if name == "since":
            statement = statement.where(c.at >= value)
        elif name == "until":
            statement = statement.where(c.at < value)
        elif name in ("agent_id", "call_id", "call_sid", "level", "code"):
            statement = statement.where(c[name] == value)
        else:
            raise KeyError(name)
    asked = {"tenant": tenant_id, **(filters or {})}
    return rows.page(
        conn, statement, ProviderEventRecord, c.id, limit, cursor, asked, parse=_number
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= NUMBER_MAX_DIGITS):
        raise BadCursor("not a cursor of this list")
    return int(text)
