"""Numbers that must not be called, each for one tenant."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, delete, insert, update
from sqlalchemy.exc import IntegrityError

from control.store import consents, rows
from control.store.consents import RevocationRecord
from control.store.records import OptOutRecord
from control.store.tables import opt_outs

BY_TEXT = frozenset({"sms", "sms_review"})
"""Sources that a START may lift for messages; no other request can be taken back by a text."""
VOICE = "voice"
"""Scope of an entry whose messages were asked for again."""


def add(conn: Connection, record: OptOutRecord) -> OptOutRecord:
    """Put a number on the list; the entry that stands. The first one's date stays: it is evidence.

    A further request makes the entry what it asks for as well: every channel again, and a source that no text
    can lift, where it had one.

    The request is also noted as a revocation, which stays when the entry is taken off the list: consents that
    are older than it are worth nothing any more.
    """
    consents.add_revocation(
        conn,
        RevocationRecord(
            record.tenant_id,
            record.e164,
            record.created_at,
            record.source,
            record.call_id,
            record.evidence,
        ),
    )
    try:
        with conn.begin_nested():
            conn.execute(insert(opt_outs).values(rows.values(record)))
    except IntegrityError:
        standing = get(conn, record.tenant_id, record.e164)
        if standing is None:
            raise
        return _widened(conn, standing, record)
    return record


def _widened(conn: Connection, standing: OptOutRecord, record: OptOutRecord) -> OptOutRecord:
    wider = standing
    if standing.source in BY_TEXT and record.source not in BY_TEXT:
        wider = replace(record, created_at=min(standing.created_at, record.created_at))
    if standing.scope is not None:
        wider = replace(wider, scope=None)
    if wider is not standing:
        _change(conn, wider)
    return wider


def restore_messages(conn: Connection, tenant_id: str, e164: str) -> bool:
    """After a START: calls stay forbidden, messages are not. False when no text may lift the entry."""
    standing = get(conn, tenant_id, e164)
    if standing is None or standing.source not in BY_TEXT:
        return False
    _change(conn, replace(standing, scope=VOICE))
    return True


def _change(conn: Connection, record: OptOutRecord) -> None:
    mine = (opt_outs.c.tenant_id == record.tenant_id) & (opt_outs.c.e164 == record.e164)
    conn.execute(update(opt_outs).where(mine).values(rows.values(record)))


def get(conn: Connection, tenant_id: str, e164: str) -> OptOutRecord | None:
    """The entry of a number."""
    return rows.find(conn, opt_outs, OptOutRecord, tenant_id=tenant_id, e164=e164)


def list_opt_outs(
    conn: Connection, *, tenant_id: str, limit: int = 50, cursor: str | None = None
) -> tuple[list[OptOutRecord], str | None]:
    """The tenant's list in order of number, and the cursor of the next page. Raises BadCursor."""
    statement = rows.query(opt_outs, OptOutRecord).where(opt_outs.c.tenant_id == tenant_id)
    key = opt_outs.c.e164
    return rows.page(
        conn, statement, OptOutRecord, key, limit, cursor, {"tenant": tenant_id}, ascending=True
    )


def remove(conn: Connection, tenant_id: str, e164: str) -> bool:
    """Take a number off the list; whether it was on it."""
    mine = (opt_outs.c.tenant_id == tenant_id) & (opt_outs.c.e164 == e164)
    return conn.execute(delete(opt_outs).where(mine)).rowcount > 0
