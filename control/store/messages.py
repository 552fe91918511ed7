"""Text messages, both ways. One that is to be sent is a row before Twilio is asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update
from sqlalchemy.exc import IntegrityError

from control.store import rows
from control.store.errors import RecordNotFound
from control.store.tables.after_call import messages as table

PREFIX = "msg"

INTENT = "intent"
SENT = "sent"
CREATED = "created"
UNCERTAIN = "uncertain"
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """`status` is Twilio's word, or `blocked` (policy), `received` for one that came in.

    `send_state`: `intent` (committed), `sent` (the request may have left), `created` (Twilio has it),
    `uncertain` (its answer was lost), `refused`.
    """

    id: str
    tenant_id: str
    direction: str
    from_number: str
    to_number: str
    body: str
    segments: int
    status: str
    created_at: datetime
    updated_at: datetime
    agent_id: str | None = None
    call_id: str | None = None
    send_state: str | None = None
    intent_key: str | None = None
    twilio_sid: str | None = None
    error_code: int | None = None
    error: str | None = None
    decision: dict[str, Any] | None = None
    sent_at: datetime | None = None
    texts_erased_at: datetime | None = None
    numbers_erased_at: datetime | None = None


def insert(conn: Connection, record: MessageRecord) -> bool:
    """Add a message; false when its intent key or SID is there already."""
    try:
        with conn.begin_nested():
            conn.execute(sql_insert(table).values(rows.values(record)))
    except IntegrityError:
        if _is_known(conn, record):
            return False
        raise
    return True


def _is_known(conn: Connection, record: MessageRecord) -> bool:
    by_key = record.intent_key and by_intent(conn, record.intent_key)
    return bool(by_key or (record.twilio_sid and by_sid(conn, record.twilio_sid)))


def get(conn: Connection, message_id: str) -> MessageRecord | None:
    """The message with this id."""
    return _one(conn, table.c.id == message_id)


def by_intent(conn: Connection, key: str) -> MessageRecord | None:
    """The message that was meant by this key."""
    return _one(conn, table.c.intent_key == key)


def by_sid(conn: Connection, sid: str) -> MessageRecord | None:
    """The message that Twilio knows by this SID."""
    return _one(conn, table.c.twilio_sid == sid)


def update(conn: Connection, /, message_id: str, **columns: Any) -> None:
    """Set the named columns. Raises RecordNotFound."""
    statement = sql_update(table).where(table.c.id == message_id).values(columns)
    if conn.execute(statement).rowcount == 0:
        raise RecordNotFound(f"no message {message_id}")


def of_call(conn: Connection, call_id: str) -> list[MessageRecord]:
    """Messages that were sent because of a call, the oldest first."""
    statement = (
        rows.query(table, MessageRecord).where(table.c.call_id == call_id).order_by(table.c.id)
    )
    return [rows.build(MessageRecord, row) for row in conn.execute(statement)]


def was_written_to(conn: Connection, tenant_id: str, from_number: str, to_number: str) -> bool:
    """Whether a message has gone from this number to that one before."""
    statement = select(table.c.id).where(
        table.c.tenant_id == tenant_id,
        table.c.direction == "outbound",
        table.c.from_number == from_number,
        table.c.to_number == to_number,
        table.c.send_state == CREATED,
    )
    return conn.execute(statement.limit(1)).first() is not None


def list_messages(
    conn: Connection,
    *,
    tenant_id: str | None = None,
    direction: str | None = None,
    call_id: str | None = None,
    number: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[MessageRecord], str | None]:
    """The newest first, and the cursor of the next page; `number` is on either side. Raises BadCursor."""
    statement = rows.query(table, MessageRecord)
    for column, value in (
        (table.c.tenant_id, tenant_id),
        (table.c.direction, direction),
        (table.c.call_id, call_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if number is not None:
        statement = statement.where((table.c.from_number == number) | (table.c.to_number == number))
    asked = {"tenant": tenant_id, "direction": direction, "call": call_id, "number": number}
    return rows.page(conn, statement, MessageRecord, table.c.id, limit, cursor, asked)


def _one(conn: Connection, condition: ColumnElement[bool]) -> MessageRecord | None:
    row = conn.execute(rows.query(table, MessageRecord).where(condition)).one_or_none()
    return None if row is None else rows.build(MessageRecord, row)
