"""Calls, their timeline, their transcript, and the decisions made about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, bindparam, select
from sqlalchemy import update as sql_update

from control.store import after_call, rows
from control.store.errors import RecordNotFound
from control.store.prepared import Prepared, PreparedWrite, insert_into, named
from control.store.records import CallLine, CallRecord, EventRecord, TurnRecord
from control.store.tables import call_events, call_turns, calls, decisions
from control.store.tables.dialing import dial_queue

R = TypeVar("R", CallRecord, CallLine)

EVENT_NAME_MAX_CHARS = 64


def insert(conn: Connection, record: CallRecord) -> None:
    """Add a call."""
    rows.insert(conn, calls, record)
    if record.ended_at is not None:
        after_call.ended(conn, record.id, record.tenant_id, record.ended_at)


def get(conn: Connection, call_id: str) -> CallRecord | None:
    """The call with this id."""
    return rows.find(conn, calls, CallRecord, id=call_id)


def metadata_of(conn: Connection, call_id: str) -> dict[str, Any] | None:
    """What whoever asked for the call said of it; None when there is no such call."""
    row = _METADATA.first(conn, {"call_id": call_id})
    return None if row is None else row[0] or {}


def by_sid(conn: Connection, sid: str) -> CallRecord | None:
    """The call that Twilio knows by this call SID."""
    return rows.find(conn, calls, CallRecord, twilio_call_sid=sid)


def update(conn: Connection, call_id: str, **columns: Any) -> None:
    """Set the named columns. Raises RecordNotFound."""
    if not columns:
        return
    done = _update(tuple(sorted(columns))).run(conn, {_KEY: call_id, **columns})
    if done == 0:
        raise RecordNotFound(f"no call {call_id}")
    after_call.ended_by(conn, call_id, columns)


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
    return _page(conn, CallRecord, tenant_id, filters, limit, cursor)


def list_lines(
    conn: Connection,
    *,
    tenant_id: str | None = None,
    filters: Mapping[str, Any] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[CallLine], str | None]:
    """The same, of each call only what a list shows: its documents stay unread in the database."""
    return _page(conn, CallLine, tenant_id, filters, limit, cursor)


def _page(
    conn: Connection,
    record: type[R],
    tenant_id: str | None,
    filters: Mapping[str, Any] | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[R], str | None]:
    statement = rows.query(calls, record)
    if tenant_id is not None:
        statement = statement.where(calls.c.tenant_id == tenant_id)
    for name, value in (filters or {}).items():
        if value is not None:
            statement = statement.where(_FILTERS[name](value))
    asked = {"tenant": tenant_id, **(filters or {})}
    return rows.page(conn, statement, record, calls.c.id, limit, cursor, asked)


def open_calls(conn: Connection, *conditions: ColumnElement[bool]) -> list[CallRecord]:
    """Calls without an end that are not in the dial queue, the oldest first; those that meet the conditions."""
    is_queued = select(dial_queue.c.call_id).where(dial_queue.c.call_id == calls.c.id).exists()
    wanted = calls.c.ended_at.is_(None), ~is_queued, *conditions
    statement = _query().where(*wanted).order_by(calls.c.id)
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
    _INSERT_EVENT.run_all(conn, [line | {"tenant_id": tenant_id} for line in batch])


def events(conn: Connection, call_id: str) -> list[EventRecord]:
    """The timeline in order of time; lines of one millisecond in the order they were appended."""
    statement = (
        rows.query(call_events, EventRecord)
        .where(call_events.c.call_id == call_id)
        .order_by(call_events.c.at_ms, call_events.c.id)
    )
    return [rows.build(EventRecord, row) for row in conn.execute(statement)]


def unwritten(
    conn: Connection, call_id: str, lines: Sequence[tuple[str, int, dict[str, Any]]]
) -> list[tuple[str, int, dict[str, Any]]]:
    """The lines that the timeline does not have: for a write that is repeated, because nobody knows of the first."""
    known = {(line.name, line.at_ms) for line in events(conn, call_id)}
    return [line for line in lines if (line[0][:EVENT_NAME_MAX_CHARS], line[1]) not in known]


class Said(Protocol):
    """A turn of the transcript, however it travels."""

    @property
    def role(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def heard(self) -> str | None: ...
    @property
    def interrupted(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Changes:
    """What a call wants written: columns of its record, lines `(name, at_ms, data)`, turns by number."""

    call_id: str
    tenant_id: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[tuple[str, int, dict[str, Any]]] = ()
    turns: Mapping[int, Said] = field(default_factory=dict)


def apply(conn: Connection, changes: Sequence[Changes]) -> None:
    """Write the changes of many calls: one statement for each kind of thing, however many there are.

    Raises RecordNotFound, or IntegrityError, for a call that is not there; then nothing was written.
    """
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for change in changes:
        if change.columns:
            values = {_KEY: change.call_id, **change.columns}
            by_columns.setdefault(tuple(sorted(change.columns)), []).append(values)
    for names, updates in by_columns.items():
        if _update(names).run_all(conn, updates) < len(updates):
            raise RecordNotFound("a call of the batch is not there")
    for change in changes:
        if (ended_at := change.columns.get("ended_at")) is not None:
            after_call.ended(conn, change.call_id, change.tenant_id, ended_at)
    if lines := [line for change in changes for line in _line_rows(change)]:
        _INSERT_EVENT.run_all(conn, lines)
    if said := [turn for change in changes for turn in _turn_rows(change)]:
        _upsert_turns(conn, said)


_KEY = "_call_id"
_INSERT_EVENT = insert_into(call_events, ("call_id", "tenant_id", "name", "at_ms", "data"))


@lru_cache(maxsize=256)  # sets of columns that change together: a few dozen
def _update(names: tuple[str, ...]) -> PreparedWrite:
    mine = sql_update(calls).where(calls.c.id == bindparam(_KEY))
    return PreparedWrite(mine.values(named(names)))


def _line_rows(change: Changes) -> Iterator[dict[str, Any]]:
    for name, at_ms, data in change.lines:
        yield {
            "call_id": change.call_id,
            "tenant_id": change.tenant_id,
            "name": name[:EVENT_NAME_MAX_CHARS],
            "at_ms": at_ms,
            "data": data,
        }


def _turn_rows(change: Changes) -> Iterator[dict[str, Any]]:
    for number, turn in change.turns.items():
        yield {
            "call_id": change.call_id,
            "turn": number,
            "tenant_id": change.tenant_id,
            "role": turn.role,
            "text": turn.text,
            "at_ms": turn.at_ms,
            "heard": turn.heard,
            "interrupted": turn.interrupted,
        }


def _upsert_turns(conn: Connection, said: list[dict[str, Any]]) -> None:
    _upsert(conn.dialect.name).run_all(conn, said)


@lru_cache(maxsize=2)
def _upsert(dialect: str) -> PreparedWrite:
    changed = ("role", "text", "at_ms", "heard", "interrupted")
    all_named = named(("call_id", "turn", "tenant_id", *changed))
    statement = rows.dialect_insert(dialect, call_turns).values(all_named).inline()
    return PreparedWrite(
        statement.on_conflict_do_update(
            index_elements=["call_id", "turn"],
            set_={name: statement.excluded[name] for name in changed},
        )
    )


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
    """Write one turn of the transcript, or what became of it. Raises RecordNotFound."""
    said = TurnRecord(turn, role, text, at_ms, heard, interrupted)
    apply(conn, [Changes(call_id, _tenant_of(conn, call_id), turns={turn: said})])


def turns(conn: Connection, call_id: str) -> list[TurnRecord]:
    """The transcript in order."""
    statement = (
        rows.query(call_turns, TurnRecord)
        .where(call_turns.c.call_id == call_id)
        .order_by(call_turns.c.turn)
    )
    return [rows.build(TurnRecord, row) for row in conn.execute(statement)]


def decisions_of(conn: Connection, call_id: str) -> list[tuple[str, dict[str, Any], datetime]]:
    """`(phase, decision, at)` of a call, in order; without the facts, which are large."""
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


_METADATA = Prepared(select(calls.c.metadata).where(calls.c.id == bindparam("call_id")))
_TENANT = Prepared(select(calls.c.tenant_id).where(calls.c.id == bindparam("call_id")))


def _tenant_of(conn: Connection, call_id: str) -> str:
    tenant_id = _TENANT.scalar(conn, {"call_id": call_id})
    if tenant_id is None:
        raise RecordNotFound(f"no call {call_id}")
    return str(tenant_id)
