"""Idempotency keys: a repeated `POST` gets the stored answer, never a second effect.

A claim that was never finished (the process died in between) stays a claim until it expires: what it
did is not known, so it must not be done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from control.store.tables import idempotency_keys

KEEP = timedelta(hours=24)
KEY_MAX_CHARS = 255

NEW = "new"
REPLAY = "replay"
IN_FLIGHT = "in_flight"
MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Claim:
    """`outcome` is NEW, REPLAY (then the answer is here), IN_FLIGHT or MISMATCH (another body)."""

    outcome: str
    status: int = 0
    headers: dict[str, str] | None = None
    body: str = ""


def claim(conn: Connection, tenant_id: str, key: str, fingerprint: str, at: datetime) -> Claim:
    """Take the key for a request with this fingerprint, or say what stands in the way."""
    purge(conn, at - KEEP)
    taken = {"tenant_id": tenant_id, "key": key, "fingerprint": fingerprint, "created_at": at}
    # Insert first: of two nodes that claim at once the database lets one through.
    try:
        with conn.begin_nested():
            conn.execute(insert(idempotency_keys).values(taken))
    except IntegrityError:
        return _standing(conn, tenant_id, key, fingerprint)
    return Claim(NEW)


def purge(conn: Connection, before: datetime) -> None:
    """Forget keys that nobody repeats any more, with their answers."""
    conn.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at < before))


def _standing(conn: Connection, tenant_id: str, key: str, fingerprint: str) -> Claim:
    columns = idempotency_keys.c
    query = select(columns.fingerprint, columns.status, columns.headers, columns.body)
    row = conn.execute(query.where(_is(tenant_id, key))).one_or_none()
    if row is None:
        return Claim(IN_FLIGHT)  # given back this very moment
    if row.fingerprint != fingerprint:
        return Claim(MISMATCH)
    if row.status is None:
        return Claim(IN_FLIGHT)
    return Claim(REPLAY, row.status, row.headers or {}, row.body or "")


def finish(
    conn: Connection, tenant_id: str, key: str, status: int, headers: dict[str, str], body: str
) -> None:
    """Keep the answer for repeats."""
    answer = {"status": status, "headers": headers, "body": body}
    conn.execute(update(idempotency_keys).where(_is(tenant_id, key)).values(answer))


def release(conn: Connection, tenant_id: str, key: str) -> None:
    """Give the key back: the request had no effect, so it may be tried again."""
    conn.execute(delete(idempotency_keys).where(_is(tenant_id, key)))


def _is(tenant_id: str, key: str) -> ColumnElement[bool]:
    return (idempotency_keys.c.tenant_id == tenant_id) & (idempotency_keys.c.key == key)
