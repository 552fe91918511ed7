"""Calls, their timeline, their transcript, and the decisions made about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.store import cursor as cursors
from control.store import rows
from control.store.errors import RecordNotFound
from control.store.records import CallRecord, EventRecord, TurnRecord
from control.store.tables import call_events, call_turns, calls, decisions

EVENT_NAME_MAX_CHARS = 64


def insert(conn: Connection, record: CallRecord) -> None:
    """Add a call."""
    conn.execute(sql_insert(calls).values(rows.values(record)))


def get(conn: Connection, call_id: str) -> CallRecord | None:
    """The call with this id."""
    return _one(conn, _query().where(calls.c.id == call_id))


def by_sid(conn: Connection, sid: str) -> CallRecord | None:
    """The call that Twilio knows by this call SID."""
    return _one(conn, _query().where(calls.c.twilio_call_sid == sid))


def update(conn: Connection, call_id: str, **columns: Any) -> None:
    """Set the named columns. Raises RecordNotFound."""
    if not columns:
        return
    done = conn.execute(sql_update(calls).where(calls.c.id == call_id).values(columns))
    if done.rowcount == 0:
        raise RecordNotFound(f"no call {call_id}")


def list_calls(
    conn: Connection,
    *,
    tenant_id: str | None = None,
    filters: Mapping[str, Any] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[CallRecord], str | None]:
    """The newest calls first, and the cursor of the next page. Raises BadCursor, KeyError for a filter.

    Filters: `agent_id`, `direction`, `status`, `from`, `to` (equal), `since` (created at or after),
    `until` (created before); a filter that is `None` does not count. `tenant_id` None = every tenant.
    """
    statement = _query().order_by(calls.c.id.desc())
    if tenant_id is not None:
        statement = statement.where(calls.c.tenant_id == tenant_id)
    for name, value in (filters or {}).items():
        if value is not None:
            statement = statement.where(_FILTERS[name](value))
    if cursor is not None:
        statement = statement.where(calls.c.id < cursors.decode(cursor))
    return rows.page(conn, statement, CallRecord, "id", limit)


def open_calls(conn: Connection) -> list[CallRecord]:
    """Calls without an end, the oldest first."""
    statement = _query().where(calls.c.ended_at.is_(None)).order_by(calls.c.id)
    return [rows.build(CallRecord, row) for row in conn.execute(statement)]


def append_events(
    conn: Connection, call_id: str, lines: Iterable[tuple[str, int, dict[str, Any]]]
) -> None:
    """Append `(name, at_ms, data)` lines to the call's timeline. Raises RecordNotFound."""
    batch = [
        {"call_id": call_id, "name": name[:EVENT_NAME_MAX_CHARS], "at_ms": at_ms, "data": data}
        for name, at_ms, data in lines
    ]
    if not batch:
        return
    tenant_id = _tenant_of(conn, call_id)
    conn.execute(sql_insert(call_events), [line | {"tenant_id": tenant_id} for line in batch])


def events(conn: Connection, call_id: str) -> list[EventRecord]:
    """The timeline in order of time; lines of one millisecond in the order they were appended."""
    statement = (
        rows.query(call_events, EventRecord)
        .where(call_events.c.call_id == call_id)
        .order_by(call_events.c.at_ms, call_events.c.id)
    )
    return [rows.build(EventRecord, row) for row in conn.execute(statement)]


def upsert_turn(
    conn: Connection,
    call_id: str,
    turn: int,
    role: str,
    text: str,
    at_ms: int,
    heard: str | None = None,
    interrupted: bool = False,
) -> None:
    """Write a turn of the transcript, or what became of it. Raises RecordNotFound.

    One process owns a call, so update-then-insert needs no dialect's upsert.
    """
    said = {"role": role, "text": text, "at_ms": at_ms, "heard": heard, "interrupted": interrupted}
    mine = (call_turns.c.call_id == call_id) & (call_turns.c.turn == turn)
    if conn.execute(sql_update(call_turns).where(mine).values(said)).rowcount:
        return
    key = {"call_id": call_id, "turn": turn, "tenant_id": _tenant_of(conn, call_id)}
    conn.execute(sql_insert(call_turns).values(said | key))


def turns(conn: Connection, call_id: str) -> list[TurnRecord]:
    """The transcript in order."""
    statement = (
        rows.query(call_turns, TurnRecord)
        .where(call_turns.c.call_id == call_id)
        .order_by(call_turns.c.turn)
    )
    return [rows.build(TurnRecord, row) for row in conn.execute(statement)]


def add_decision(
    conn: Connection,
    call_id: str | None,
    tenant_id: str,
    phase: str,
    decision: dict[str, Any],
    at: datetime,
) -> None:
    """Append a policy decision; `call_id` is None where there is no call (a check)."""
    conn.execute(
        sql_insert(decisions).values(
            call_id=call_id, tenant_id=tenant_id, phase=phase, decision=decision, at=at
        )
    )


def decisions_of(conn: Connection, call_id: str) -> list[tuple[str, dict[str, Any], datetime]]:
    """`(phase, decision, at)` of a call, in order."""
    statement = (
        select(decisions.c.phase, decisions.c.decision, decisions.c.at)
        .where(decisions.c.call_id == call_id)
        .order_by(decisions.c.id)
    )
    return [(row.phase, row.decision, row.at) for row in conn.execute(statement)]


_FILTERS: dict[str, Any] = {
    "agent_id": lambda value: calls.c.agent_id == value,
    "direction": lambda value: calls.c.direction == value,
    "status": lambda value: calls.c.status == value,
    "from": lambda value: calls.c.from_number == value,
    "to": lambda value: calls.c.to_number == value,
    "since": lambda value: calls.c.created_at >= value,
    "until": lambda value: calls.c.created_at < value,
}


def _query() -> Select[Any]:
    return rows.query(calls, CallRecord)


def _one(conn: Connection, statement: Select[Any]) -> CallRecord | None:
    row = conn.execute(statement).one_or_none()
    return None if row is None else rows.build(CallRecord, row)


def _tenant_of(conn: Connection, call_id: str) -> str:
    tenant_id = conn.execute(select(calls.c.tenant_id).where(calls.c.id == call_id)).scalar()
    if tenant_id is None:
        raise RecordNotFound(f"no call {call_id}")
    return str(tenant_id)
