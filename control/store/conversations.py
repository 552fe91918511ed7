"""Conversations as ElevenLabs told them, also those that belong to no call that is known (yet).

A record whose `legs.agent.unheard` is set may miss one: a process died, or the record was closed, before it was
heard which conversation an agent leg had. Then ElevenLabs is asked, for our id travelled with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.ids import DEFAULT_TENANT_ID
from control.store import calls as call_table
from control.store import rows
from control.store.prepared import Prepared
from control.store.records import CallRecord
from control.store.tables import agents, calls
from control.store.tables.after_call import conversations as table

FINAL = frozenset(("done", "failed"))
EARLIER = "earlier_conversation_ids"
UNHEARD = "unheard"
"""In the record's `legs.agent`: why a conversation may be missing."""
LOST = "lost"
"""The process that had the call, or had to write it down, died."""
UNREPORTED = "unreported"
"""The record was closed before the worker's report, which may still come."""
UNNAMED = "unnamed"
"""An agent leg was ended between its first message and ElevenLabs' answer, which has the conversation's name in it."""


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """`source` is `webhook` or `poll`; `data` the object as it came."""

    conversation_id: str
    tenant_id: str
    status: str
    source: str
    received_at: datetime
    call_id: str | None = None
    data: dict[str, Any] | None = None


def get(conn: Connection, conversation_id: str) -> ConversationRecord | None:
    """The conversation with this id."""
    return rows.find(conn, table, ConversationRecord, conversation_id=conversation_id)


def put(conn: Connection, record: ConversationRecord) -> bool:
    """Keep what was told, unless it is there complete; whether it was news."""
    known = get(conn, record.conversation_id)
    if known is None:
        conn.execute(sql_insert(table).values(rows.values(record)))
        return True
    if known.status in FINAL:
        if known.call_id is None and record.call_id is not None:
            claim(conn, record.conversation_id, record.call_id, record.tenant_id)
        return False
    conn.execute(
        sql_update(table)
        .where(table.c.conversation_id == record.conversation_id)
        .values(rows.values(record))
    )
    return True


def claim(conn: Connection, conversation_id: str, call_id: str, tenant_id: str) -> None:
    """It has turned out whose it is."""
    conn.execute(
        sql_update(table)
        .where(table.c.conversation_id == conversation_id)
        .values(call_id=call_id, tenant_id=tenant_id)
    )


def call_of(conn: Connection, conversation_id: str) -> tuple[str, str] | None:
    """`(call id, tenant id)` of the call that had this conversation."""
    statement = select(calls.c.id, calls.c.tenant_id).where(
        calls.c.conversation_id == conversation_id
    )
    row = conn.execute(statement.order_by(calls.c.id.desc())).first()
    return None if row is None else (row.id, row.tenant_id)


def of_call(conn: Connection, record: CallRecord) -> dict[str, ConversationRecord | None]:
    """All conversations of a call by their ids, None for those that ElevenLabs has not told of (yet).

    In the order in which they began, as far as the call's record knows them; the record may miss one when a
    process died, and a webhook that named the call has brought it.
    """
    agent = record.legs.get("agent") or {}
    ids = [*(agent.get(EARLIER) or ()), record.conversation_id]
    told = [ConversationRecord(*row) for row in _OF_CALL.all(conn, {"call_id": record.id})]
    found = {one.conversation_id: one for one in told if one.conversation_id not in ids}
    return found | {name: get(conn, name) for name in ids if name is not None}


_OF_CALL = Prepared(
    rows.query(table, ConversationRecord)
    .where(table.c.call_id == bindparam("call_id"))
    .order_by(table.c.received_at)
)


def may_miss_one(record: CallRecord) -> bool:
    """Whether the call may have had a conversation that its record does not name."""
    return (record.legs.get("agent") or {}).get(UNHEARD) is not None


def name(
    conn: Connection,
    call_id: str,
    ids: Iterable[str],
    line: str,
    at_ms: int,
    data: dict[str, Any],
    *,
    settles: str | None = None,
) -> bool:
    """Name these conversations in the call's record, each with a line of its timeline; once, however often it is told.

    `settles`: this reason to miss one is none any more. False when there is no such call.
    """
    held = select(calls.c.legs, calls.c.conversation_id).where(calls.c.id == call_id)
    row = conn.execute(held.with_for_update()).first()
    if row is None:
        return False
    agent = dict((row.legs or {}).get("agent") or {})
    known = {one.data.get("conversation_id") for one in call_table.events(conn, call_id)}
    known |= {row.conversation_id, *(agent.get(EARLIER) or ())}
    news = [one for one in dict.fromkeys(ids) if one not in known]
    lines = [(line, at_ms, {"conversation_id": one} | data) for one in news]
    call_table.append_events(conn, call_id, lines)
    changes: dict[str, Any] = {}
    if news and row.conversation_id is None:
        changes["conversation_id"] = news.pop()
    if news:
        agent[EARLIER] = [*(agent.get(EARLIER) or ()), *news]
    if settles is not None and agent.get(UNHEARD) == settles:
        del agent[UNHEARD]
    if agent != ((row.legs or {}).get("agent") or {}):
        changes["legs"] = (row.legs or {}) | {"agent": agent}
    call_table.update(conn, call_id, **changes)
    return True


def settle(conn: Connection, record: CallRecord) -> None:
    """Nothing more will be found out: whatever was missing stays so."""
    if may_miss_one(record):
        reason = record.legs["agent"][UNHEARD]
        name(conn, record.id, (), "", 0, {}, settles=reason)


def tenant_of_agent(conn: Connection, elevenlabs_agent_id: str) -> str:
    """Whose agent this is; the default tenant's when nobody's, or more than one tenant's."""
    statement = select(agents.c.tenant_id).where(
        agents.c.elevenlabs_agent_id == elevenlabs_agent_id
    )
    found = set(conn.execute(statement.distinct()).scalars())
    return str(found.pop()) if len(found) == 1 else DEFAULT_TENANT_ID
