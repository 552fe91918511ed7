"""The outbox: work that is done at least once. Several daemons may share it, so each item is leased.

`add` belongs into the transaction that makes the work necessary; `(kind, key)` is there once, so a repeated
transaction adds nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
)
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update

from control.ids import new_id
from control.store import rows
from control.store.prepared import Prepared, PreparedWrite, named
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
    return _add(conn.dialect.name).run(conn, rows.values(item)) > 0


@lru_cache(maxsize=2)
def _add(dialect: str) -> PreparedWrite:
    whole = named(item.name for item in fields(OutboxItem))
    statement = rows.dialect_insert(dialect, table).values(whole).inline()
    return PreparedWrite(statement.on_conflict_do_nothing(index_elements=["kind", "key"]))


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
    asked = {"kinds": list(kinds), "now": now, "busy_lanes": list(busy_lanes)}
    ids = list(conn.execute(_DUE, asked | {"how_many": limit}).scalars())
    if not ids:
        return []
    mine = {"ids": ids, "whose": owner, "until": now + lease}
    conn.execute(_LEASE, mine | {"now": now})
    return [rows.build(OutboxItem, row) for row in conn.execute(_LEASED, mine)]


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
    """Begin anew with an item, attempts count from zero; false when there is none.

    One that is still leased is taken away: whoever has it may have done it, and not written that down yet.
    """
    statement = sql_update(table).where(table.c.kind == kind, table.c.key == key)
    fresh = {"status": PENDING, "attempts": 0, "due_at": now, "updated_at": now}
    return (
        conn.execute(statement.values(fresh | {"lease_owner": None, "lease_until": None})).rowcount
        > 0
    )


def get(conn: Connection, kind: str, key: str) -> OutboxItem | None:
    """The item with this key."""
    return rows.find(conn, table, OutboxItem, kind=kind, key=key)


def due_kinds(
    conn: Connection, kinds: Collection[str], now: datetime, busy_lanes: Collection[str] = ()
) -> list[str]:
    """The kinds of which something can be begun now."""
    if not busy_lanes:
        return [kind for (kind,) in _questions(tuple(kinds)).due_kinds.all(conn, {"now": now})]
    asked = {"kinds": list(kinds), "now": now, "busy_lanes": list(busy_lanes)}
    return list(conn.execute(_DUE_KINDS, asked).scalars())


def next_due(conn: Connection, kinds: Collection[str], now: datetime) -> datetime | None:
    """When the next item may be begun, later than `now`; None when nothing waits."""
    moments = (one.scalar(conn, {"now": now}) for one in _questions(tuple(kinds)).next_due)
    return min((at for at in moments if at is not None), default=None)


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


def _settle(conn: Connection, item: OutboxItem, now: datetime, **columns: Any) -> bool:
    settled = {"lease_owner": None, "lease_until": None, "updated_at": now} | columns
    which = {"item": item.id, "whose": item.lease_owner, "attempt": item.attempts}
    return _settled(*settled).run(conn, which | settled) > 0


# ---- statements, built once (see `control.store.rows`) ---------------------------------------------

_NOW = bindparam("now", type_=table.c.due_at.type)
_OF_KINDS = table.c.kind.in_(bindparam("kinds", expanding=True))
_IS_FREE = or_(table.c.lease_until.is_(None), table.c.lease_until <= _NOW)
_IS_DUE = and_(table.c.status == PENDING, table.c.due_at <= _NOW, _IS_FREE)
_IS_READY = and_(_IS_DUE, _OF_KINDS, table.c.lane.not_in(bindparam("busy_lanes", expanding=True)))
_DUE_KINDS = select(table.c.kind).where(_IS_READY).distinct()


class _Questions(NamedTuple):
    due_kinds: Prepared
    """When no lane is busy."""
    next_due: tuple[Prepared, ...]


@lru_cache(maxsize=64)  # all kinds, and those sets of them of which something can be begun
def _questions(kinds: tuple[str, ...]) -> _Questions:
    """What is asked several times a second about these kinds."""
    of_kinds = table.c.kind.in_(kinds)
    return _Questions(
        Prepared(select(table.c.kind).where(_IS_DUE, of_kinds).distinct()),
        tuple(
            Prepared(select(func.min(at)).where(table.c.status == PENDING, of_kinds, at > _NOW))
            for at in (table.c.due_at, table.c.lease_until)
        ),
    )


def _due() -> Select[Any]:
    """The first of each lane, the longest due first."""
    lane = case((table.c.lane == "", table.c.id), else_=table.c.lane)
    place = func.row_number().over(partition_by=lane, order_by=(table.c.due_at, table.c.id))
    first = select(table.c.id, place.label("place")).where(_IS_READY).subquery()
    return (
        select(table.c.id)
        .where(table.c.id.in_(select(first.c.id).where(first.c.place == 1)))
        .order_by(table.c.due_at, table.c.id)
        .limit(bindparam("how_many", type_=Integer))
        .with_for_update(skip_locked=True)
    )


_DUE = _due()
_THESE = table.c.id.in_(bindparam("ids", expanding=True))
_LEASE = (
    sql_update(table)
    # The condition again: without row locks (SQLite) another daemon may have been quicker.
    .where(_THESE, _IS_FREE)
    .values(
        lease_owner=bindparam("whose"),
        lease_until=bindparam("until"),
        attempts=table.c.attempts + 1,
        updated_at=_NOW,
    )
)
_LEASED = (
    rows.query(table, OutboxItem)
    .where(
        _THESE,
        table.c.lease_owner == bindparam("whose"),
        table.c.lease_until == bindparam("until"),
    )
    .order_by(table.c.due_at)
)


@lru_cache(maxsize=8)
def _settled(*names: str) -> PreparedWrite:
    return PreparedWrite(
        sql_update(table)
        .where(
            table.c.id == bindparam("item"),
            table.c.lease_owner == bindparam("whose"),
            # Of two leases of one owner the second is another attempt.
            table.c.attempts == bindparam("attempt"),
            table.c.status == PENDING,
        )
        .values(named(names))
    )


def _cut(error: str | None) -> str | None:
    return None if error is None else error[:ERROR_MAX_CHARS]
