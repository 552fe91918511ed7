"""The outbox: work that is done at least once. Several daemons may share it, so each item is leased.

`add` belongs into the transaction that makes the work necessary; `(kind, key)` is there once, so a repeated
transaction adds nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update
from sqlalchemy.exc import IntegrityError

from control.ids import new_id
from control.store import rows
from control.store.tables.after_call import outbox as table

PENDING = "pending"
DONE = "done"
DEAD = "dead"
PREFIX = "obx"
ERROR_MAX_CHARS = 500


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One piece of work. `attempts` counts those that were begun, the present one among them."""

    id: str
    tenant_id: str
    kind: str
    key: str
    due_at: datetime
    created_at: datetime
    updated_at: datetime
    lane: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    status: str = PENDING
    attempts: int = 0
    lease_owner: str | None = None
    lease_until: datetime | None = None
    last_error: str | None = None


def add(
    conn: Connection,
    *,
    kind: str,
    key: str,
    tenant_id: str,
    payload: dict[str, Any] | None = None,
    due_at: datetime,
    now: datetime | None = None,
    lane: str = "",
) -> bool:
    """Ask for a piece of work; whether it is new. `due_at` is the earliest moment for it."""
    at = now or due_at
    item = OutboxItem(
        id=new_id(PREFIX, at),
        tenant_id=tenant_id,
        kind=kind,
        key=key,
        due_at=due_at,
        created_at=at,
        updated_at=at,
        lane=lane,
        payload=payload or {},
    )
    try:
        with conn.begin_nested():
            conn.execute(sql_insert(table).values(rows.values(item)))
    except IntegrityError:
        return False
    return True


def claim(
    conn: Connection,
    *,
    owner: str,
    kinds: Collection[str],
    now: datetime,
    lease: timedelta,
    limit: int,
    busy_lanes: Collection[str] = (),
) -> list[OutboxItem]:
    """Lease up to `limit` due items of these kinds, the longest due first; one of a lane, none of a busy one."""
    free = or_(table.c.lease_until.is_(None), table.c.lease_until <= now)
    lane = case((table.c.lane == "", table.c.id), else_=table.c.lane)
    place = func.row_number().over(partition_by=lane, order_by=(table.c.due_at, table.c.id))
    ready = select(table.c.id, place.label("place")).where(_ready(kinds, now, busy_lanes))
    first = ready.subquery()
    due = (
        select(table.c.id)
        .where(table.c.id.in_(select(first.c.id).where(first.c.place == 1)))
        .order_by(table.c.due_at, table.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(conn.execute(due).scalars())
    if not ids:
        return []
    # The condition again: without row locks (SQLite) another daemon may have been quicker.
    conn.execute(
        sql_update(table)
        .where(table.c.id.in_(ids), free)
        .values(
            lease_owner=owner,
            lease_until=now + lease,
            attempts=table.c.attempts + 1,
            updated_at=now,
        )
    )
    mine = rows.query(table, OutboxItem).where(
        table.c.id.in_(ids), table.c.lease_owner == owner, table.c.lease_until == now + lease
    )
    return [rows.build(OutboxItem, row) for row in conn.execute(mine.order_by(table.c.due_at))]


def done(conn: Connection, item: OutboxItem, now: datetime) -> bool:
    """The work is done. False when the lease was lost meanwhile: then another one has it."""
    return _settle(conn, item, now, status=DONE)


def retry(
    conn: Connection, item: OutboxItem, now: datetime, due_at: datetime, error: str | None
) -> bool:
    """Not done: again at `due_at`."""
    return _settle(conn, item, now, due_at=due_at, last_error=_cut(error))


def bury(conn: Connection, item: OutboxItem, now: datetime, error: str) -> bool:
    """Given up for good: it stays as a dead letter."""
    return _settle(conn, item, now, status=DEAD, last_error=_cut(error))


def renew(conn: Connection, owner: str, until: datetime) -> None:
    """Keep all leases of an owner that works on them."""
    conn.execute(
        sql_update(table)
        .where(table.c.lease_owner == owner, table.c.status == PENDING)
        .values(lease_until=until)
    )


def release(conn: Connection, owner: str, now: datetime) -> int:
    """Give all leases of an owner back (at the end of a process)."""
    statement = sql_update(table).where(table.c.lease_owner == owner, table.c.status == PENDING)
    return conn.execute(
        statement.values(lease_owner=None, lease_until=None, updated_at=now)
    ).rowcount


def hasten(conn: Connection, kind: str, key: str, due_at: datetime, now: datetime) -> bool:
    """Have a waiting item done at `due_at` at the latest; false when none waits."""
    statement = sql_update(table).where(
        table.c.kind == kind, table.c.key == key, table.c.status == PENDING, table.c.due_at > due_at
    )
    return conn.execute(statement.values(due_at=due_at, updated_at=now)).rowcount > 0


def revive(conn: Connection, kind: str, key: str, now: datetime) -> bool:
    """Begin anew with an item that is done or dead: attempts count from zero."""
    statement = sql_update(table).where(
        table.c.kind == kind, table.c.key == key, table.c.status != PENDING
    )
    fresh = {"status": PENDING, "attempts": 0, "due_at": now, "updated_at": now}
    return (
        conn.execute(statement.values(fresh | {"lease_owner": None, "lease_until": None})).rowcount
        > 0
    )


def get(conn: Connection, kind: str, key: str) -> OutboxItem | None:
    """The item with this key."""
    statement = rows.query(table, OutboxItem).where(table.c.kind == kind, table.c.key == key)
    row = conn.execute(statement).one_or_none()
    return None if row is None else rows.build(OutboxItem, row)


def due_kinds(
    conn: Connection, kinds: Collection[str], now: datetime, busy_lanes: Collection[str] = ()
) -> list[str]:
    """The kinds of which something can be begun now."""
    statement = select(table.c.kind).where(_ready(kinds, now, busy_lanes)).distinct()
    return list(conn.execute(statement).scalars())


def next_due(conn: Connection, kinds: Collection[str], now: datetime) -> datetime | None:
    """When the next item may be begun, later than `now`; None when nothing waits."""
    pending = (table.c.status == PENDING) & table.c.kind.in_(kinds)
    due = conn.execute(
        select(func.min(table.c.due_at)).where(pending, table.c.due_at > now)
    ).scalar()
    leased = conn.execute(
        select(func.min(table.c.lease_until)).where(pending, table.c.lease_until > now)
    ).scalar()
    return min((at for at in (due, leased) if at is not None), default=None)


def counts(conn: Connection) -> dict[str, int]:
    """Items by status, those that are done left out."""
    statement = (
        select(table.c.status, func.count()).where(table.c.status != DONE).group_by(table.c.status)
    )
    return {str(status): int(count) for status, count in conn.execute(statement)}


def purge(conn: Connection, before: datetime) -> int:
    """Forget what was done before; dead letters stay."""
    statement = sql_delete(table).where(table.c.status == DONE, table.c.updated_at < before)
    return conn.execute(statement).rowcount


def _ready(
    kinds: Collection[str], now: datetime, busy_lanes: Collection[str]
) -> ColumnElement[bool]:
    free = or_(table.c.lease_until.is_(None), table.c.lease_until <= now)
    return and_(
        table.c.status == PENDING,
        table.c.due_at <= now,
        table.c.kind.in_(kinds),
        table.c.lane.not_in(busy_lanes),
        free,
    )


def _settle(conn: Connection, item: OutboxItem, now: datetime, **columns: Any) -> bool:
    statement = sql_update(table).where(
        table.c.id == item.id,
        table.c.lease_owner == item.lease_owner,
        # Of two leases of one owner the second is another attempt.
        table.c.attempts == item.attempts,
        table.c.status == PENDING,
    )
    settled = {"lease_owner": None, "lease_until": None, "updated_at": now} | columns
    return conn.execute(statement.values(settled)).rowcount > 0


def _cut(error: str | None) -> str | None:
    return None if error is None else error[:ERROR_MAX_CHARS]
