"""Which calls and messages are to be erased now: by a period that is over, or because somebody asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from control.retention.periods import NUMBERS, RECORDINGS, TRANSCRIPTS
from control.store.messages import INTENT, SENT, UNCERTAIN
from control.store.tables.after_call import conversations, messages
from control.store.tables.core import calls

UNSENT = (INTENT, SENT, UNCERTAIN)
"""A message whose text, or recipient, is needed still."""
KEPT: dict[str, ColumnElement[bool]] = {
    TRANSCRIPTS: calls.c.texts_erased_at.is_(None),
    RECORDINGS: calls.c.recording.is_not(None) & calls.c.recording_erased_at.is_(None),
    NUMBERS: calls.c.numbers_erased_at.is_(None),
}
"""What has to hold of a call for it still to have something of a kind."""
MESSAGE_KEPT: dict[str, ColumnElement[bool]] = {
    TRANSCRIPTS: messages.c.texts_erased_at.is_(None),
    NUMBERS: messages.c.numbers_erased_at.is_(None),
}
SETTLED = messages.c.send_state.is_(None) | messages.c.send_state.not_in(UNSENT)

Place = tuple[datetime, str]
"""`(when, id)` of a row: the sweep goes on behind it, so that what cannot be erased here holds up nothing."""


def calls_of(
    conn: Connection, kind: str, tenant_id: str, before: datetime, after: Place | None, limit: int
) -> list[Place]:
    """Calls of a tenant that ended before then and have something of this kind, the oldest first."""
    wanted = [calls.c.tenant_id == tenant_id, calls.c.ended_at < before, KEPT[kind]]
    return _places(conn, calls.c.ended_at, calls.c.id, wanted, after, limit)


def asked(conn: Connection, kind: str, after: Place | None, limit: int) -> list[Place]:
    """Calls that somebody wants erased and that have something of this kind."""
    wanted = [calls.c.erase_asked_at.is_not(None), calls.c.ended_at.is_not(None), KEPT[kind]]
    return _places(conn, calls.c.erase_asked_at, calls.c.id, wanted, after, limit)


def messages_of(
    conn: Connection, kind: str, tenant_id: str, before: datetime, after: Place | None, limit: int
) -> list[Place]:
    """The same for messages, by the time at which they were written; not those that are still to be sent."""
    m = messages.c
    wanted = [m.tenant_id == tenant_id, m.created_at < before, MESSAGE_KEPT[kind], SETTLED]
    return _places(conn, m.created_at, m.id, wanted, after, limit)


def asked_messages(conn: Connection, kind: str, after: Place | None, limit: int) -> list[Place]:
    """Messages of calls that somebody wants erased."""
    m = messages.c
    of_call = exists().where(calls.c.id == m.call_id, calls.c.erase_asked_at.is_not(None))
    wanted = [m.call_id.is_not(None), MESSAGE_KEPT[kind], SETTLED, of_call]
    return _places(conn, m.created_at, m.id, wanted, after, limit)


def strays(conn: Connection, tenant_id: str, before: datetime, limit: int) -> list[str]:
    """Conversations that belong to no call that is known."""
    c = conversations.c
    wanted = (c.tenant_id == tenant_id) & (c.received_at < before) & c.call_id.is_(None)
    return list(conn.execute(select(c.conversation_id).where(wanted).limit(limit)).scalars())


def _places(
    conn: Connection, at: Any, key: Any, wanted: list[Any], after: Place | None, limit: int
) -> list[Place]:
    if after is not None:
        wanted = [*wanted, or_(at > after[0], and_(at == after[0], key > after[1]))]
    statement = select(at, key).where(*wanted).order_by(at, key).limit(limit)
    return [(row[0], row[1]) for row in conn.execute(statement)]
