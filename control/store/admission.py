"""What a tenant may have at once and begin in a minute, counted over all daemons and in both directions.

Calls are counted in their records; what was admitted a moment ago and has no record yet, in `call_starts`. A
tenant's row is locked while it is decided about one of its calls (PostgreSQL; SQLite has one writer).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import Connection, delete, func, insert, or_, select

from control.store.tables import calls, tenants
from control.store.tables.dialing import call_starts
from control.store.tables.dialing import dial_queue as queue

TAKEN = "taken"
"""State of a row of the dial queue whose turn it is."""
MINUTE = timedelta(minutes=1)
UNWRITTEN = timedelta(seconds=30)
"""An admitted call that has no record after so long will not get one."""


class Limit(NamedTuple):
    """What a tenant may do: calls created a second, calls at once and begun in a minute, both ways.

    None = as many as there is room for.
    """

    cps: float
    calls_max: int | None = None
    calls_per_minute: int | None = None


Exceeded = Literal["tenant_calls", "tenant_rate"]


def begin(
    conn: Connection,
    tenant_id: str,
    call_id: str,
    limit: Limit,
    now: datetime,
    *,
    is_recorded: bool = False,
) -> Exceeded | None:
    """Count a call that begins now, or say which limit it would exceed.

    `is_recorded`: its record is in the store already.
    """
    if limit.calls_max is None and limit.calls_per_minute is None:
        return None
    own = select(tenants.c.id).where(tenants.c.id == tenant_id)
    conn.execute(own.with_for_update(key_share=True))
    if limit.calls_max is not None and in_progress(conn, tenant_id, now) >= limit.calls_max:
        return "tenant_calls"
    if limit.calls_per_minute is not None:
        if _begun(conn, tenant_id, now) >= limit.calls_per_minute:
            return "tenant_rate"
    elif is_recorded:
        return None
    mine = call_starts.c.tenant_id == tenant_id
    conn.execute(delete(call_starts).where(mine, call_starts.c.at < now - MINUTE))
    conn.execute(insert(call_starts).values(tenant_id=tenant_id, call_id=call_id, at=now))
    return None


def take_back(conn: Connection, call_id: str) -> None:
    """The call did not begin after all. The table holds little more than a minute, so it needs no index for this."""
    conn.execute(delete(call_starts).where(call_starts.c.call_id == call_id))


def _begun(conn: Connection, tenant_id: str, now: datetime) -> int:
    """In the last minute. What lies in the future was written by a clock that has been set back since."""
    at = call_starts.c.at
    statement = select(func.count()).where(
        call_starts.c.tenant_id == tenant_id, at > now - MINUTE, at < now + MINUTE
    )
    return int(conn.execute(statement).scalar_one())


def in_progress(conn: Connection, tenant_id: str, now: datetime) -> int:
    """Calls of the tenant that are up, ring, or are about to, in both directions."""
    live = select(func.count()).where(
        calls.c.tenant_id == tenant_id,
        calls.c.ended_at.is_(None),
        or_(calls.c.dial_state.is_(None), calls.c.dial_state.in_(("sent", "uncertain", "created"))),
    )
    about_to = select(func.count()).where(queue.c.tenant_id == tenant_id, queue.c.state == TAKEN)
    unwritten = select(func.count()).where(
        call_starts.c.tenant_id == tenant_id,
        call_starts.c.at > now - UNWRITTEN,
        ~select(calls.c.id).where(calls.c.id == call_starts.c.call_id).exists(),
    )
    # One statement sees one state: a record that is committed between two would be in neither count.
    parts = [part.scalar_subquery() for part in (live, about_to, unwritten)]
    return sum(map(int, conn.execute(select(*parts)).one()))
