"""The durable queue of outbound calls, and the pace of each tenant's account.

A row is `waiting` until its turn, `taken` while somebody prepares the dial, and `sent` from the moment at which
Twilio may have been asked. It goes when the outcome is in the call's record. Daemons share the queue: who
takes a row leases it, and who dies loses its leases. Of those, a `taken` row goes back into the queue, while a
`sent` one may have become a telephone call: it is looked for, and never dialled again.

On PostgreSQL rows are taken with `FOR UPDATE SKIP LOCKED`; SQLite has one writer, and ignores the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, and_, bindparam, case, func, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.store import admission, rows
from control.store.admission import TAKEN, Limit
from control.store.errors import StoreError
from control.store.prepared import Prepared, PreparedWrite
from control.store.tables import tenants
from control.store.tables.dialing import dial_pace as pace
from control.store.tables.dialing import dial_queue as queue

WAITING = "waiting"
SENT = "sent"

NEXT_AT_MAX = timedelta(minutes=10)
"""A turn further away than this is a clock that was set back, and does not count."""


class LeaseLost(StoreError):
    """The row is not this daemon's any more: it was cancelled, or taken over."""


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A call in the queue. `waiting_for`: `not_before`, `policy`, `turn`, `twilio`."""

    call_id: str
    tenant_id: str
    due_at: datetime
    give_up_at: datetime
    created_at: datetime
    state: str = WAITING
    waiting_for: str = "turn"
    is_patient: bool = False
    """May be put off by policy or by a provider that is away; otherwise somebody waits for the outcome."""
    attempts: int = 0
    lease_owner: str | None = None
    lease_until: datetime | None = None
    sent_at: datetime | None = None


class Seat(NamedTuple):
    """Who takes rows, and until when they are his."""

    owner: str
    until: datetime


LimitOf = Callable[[Any], Limit]
"""Of the `limits` column of a tenant."""


# ---- in and out ----------------------------------------------------------------------------------


def add(conn: Connection, record: QueueRecord) -> None:
    """Queue a call."""
    rows.insert(conn, queue, record)
    if _PACE.first(conn, {"tenant_id": record.tenant_id}) is None:
        long_ago = record.created_at - timedelta(days=1)
        conn.execute(
            sql_insert(pace).values(
                tenant_id=record.tenant_id, next_at=long_ago, served_at=long_ago, factor=1.0
            )
        )


def get(conn: Connection, call_id: str) -> QueueRecord | None:
    """The row of a call, while it has one."""
    return rows.find(conn, queue, QueueRecord, call_id=call_id)


def of_calls(conn: Connection, call_ids: Sequence[str]) -> dict[str, QueueRecord]:
    """The rows of these calls, of those that have one."""
    if not call_ids:
        return {}
    statement = rows.query(queue, QueueRecord).where(queue.c.call_id.in_(call_ids))
    found = (rows.build(QueueRecord, row) for row in conn.execute(statement))
    return {record.call_id: record for record in found}


def remove(conn: Connection, call_id: str) -> None:
    """The outcome is in the record."""
    _REMOVE.run(conn, {"call_id": call_id})


def call_off(conn: Connection, call_id: str) -> bool:
    """Take a call out that was not sent yet; False when it is too late for that, or it is not in here."""
    done = conn.execute(sql_delete(queue).where(queue.c.call_id == call_id, queue.c.state != SENT))
    return done.rowcount > 0


def put_back(
    conn: Connection, call_id: str, owner: str, due_at: datetime, waiting_for: str
) -> None:
    """Let a taken call wait again. Raises LeaseLost."""
    done = conn.execute(
        sql_update(queue)
        .where(queue.c.call_id == call_id, queue.c.lease_owner == owner)
        .values(
            state=WAITING,
            due_at=due_at,
            waiting_for=waiting_for,
            attempts=queue.c.attempts + 1,
            lease_owner=None,
            lease_until=None,
            sent_at=None,
        )
    )
    _must_be_ours(done.rowcount, call_id)
    admission.take_back(conn, call_id)


def mark_sent(conn: Connection, call_id: str, owner: str, at: datetime) -> None:
    """Twilio is asked after this is committed. Raises LeaseLost: then it must not be asked."""
    _must_be_ours(_SEND.run(conn, {"which": call_id, "whose": owner, "at": at}), call_id)


def _must_be_ours(rowcount: int, call_id: str) -> None:
    if rowcount == 0:
        raise LeaseLost(f"{call_id} is not ours to dial")


# ---- taking turns --------------------------------------------------------------------------------


def take(
    conn: Connection, seat: Seat, now: datetime, room: int, limit_of: LimitOf
) -> list[QueueRecord]:
    """At most one due call of each tenant whose turn it is, who waited longest first; at most `room`."""
    taken: list[QueueRecord] = []
    for lane in _open_lanes(conn, now):
        if len(taken) >= room:
            break
        limit = limit_of(lane.limits)
        record = _first(conn, lane.tenant_id, now)
        if record is None or admission.begin(
            conn, lane.tenant_id, record.call_id, limit, now, is_recorded=True
        ):
            continue
        _TAKE.run(conn, {"which": record.call_id, "whose": seat.owner, "until": seat.until})
        gap = timedelta(seconds=1.0 / (limit.cps * lane.factor))
        # Turns lie on a grid: a round that comes late (a slow store) delays this one, and not all that follow. More than
        # a turn late begins a new grid, so that nothing is made up for in a rush.
        is_on_grid = lane.next_at <= now < lane.next_at + gap
        next_at = (lane.next_at if is_on_grid else now) + gap
        _TURN.run(conn, {"whose": lane.tenant_id, "next": next_at, "now": now})
        taken.append(record)
    return taken


class _Lane(NamedTuple):
    tenant_id: str
    factor: float
    next_at: datetime
    limits: Any


def _open_lanes(conn: Connection, now: datetime) -> list[_Lane]:
    return [_Lane(*row) for row in _LANES.all(conn, {"now": now, "far": now + NEXT_AT_MAX})]


def _first(conn: Connection, tenant_id: str, now: datetime) -> QueueRecord | None:
    row = _FIRST.first(conn, {"tenant_id": tenant_id, "now": now})
    return None if row is None else QueueRecord(*row)


def next_due(conn: Connection, now: datetime) -> datetime | None:
    """When somebody's turn comes next, as far as pace and times decide; None when nobody waits."""
    turns = [
        max(due_at, next_at if next_at <= now + NEXT_AT_MAX else now)
        for next_at, due_at in _NEXT.all(conn, {})
        if due_at is not None
    ]
    return min(turns, default=None)


def position(conn: Connection, record: QueueRecord) -> int:
    """How many of the tenant's calls are dialled before this one, as things stand."""
    asked = {"tenant_id": record.tenant_id, "call_id": record.call_id, "due_at": record.due_at}
    return int(_POSITION.scalar(conn, asked))


def expected_wait_s(
    conn: Connection, tenant_id: str, due_at: datetime, now: datetime, cps: float
) -> float:
    """How long after `due_at` a call that is queued now will be dialled, as things stand.

    What is due earlier goes first, and so does what is due at the same moment and is queued already.
    """
    factor, held_until = pace_of(conn, tenant_id)
    asked = {"tenant_id": tenant_id, "due_at": due_at, "since": due_at - timedelta(seconds=1)}
    ((earlier, together),) = _AHEAD.all(conn, asked)
    starts_at = max(now, held_until or now)
    until_all_are_out = int(earlier) / (cps * factor)
    through_at = starts_at + timedelta(seconds=until_all_are_out)
    of_earlier_s = (through_at - max(due_at, now)).total_seconds()
    return max(0.0, of_earlier_s, int(together or 0) / (cps * factor))


def length(conn: Connection, tenant_id: str) -> int:
    """How many calls of the tenant wait."""
    return int(_LENGTH.scalar(conn, {"tenant_id": tenant_id}))


# ---- the pace ------------------------------------------------------------------------------------


class Pace(NamedTuple):
    """`factor` (0 to 1) is the part of its rate that the tenant uses; before `held_until` nobody dials."""

    factor: float
    held_until: datetime | None


def pace_of(conn: Connection, tenant_id: str) -> Pace:
    """The pace of a tenant."""
    row = _PACE.first(conn, {"tenant_id": tenant_id})
    return Pace(1.0, None) if row is None else Pace(*row)


def set_pace(conn: Connection, tenant_id: str, changed: Pace) -> None:
    """Slow down, wait, or speed up again."""
    mine = pace.c.tenant_id == tenant_id
    conn.execute(
        sql_update(pace).where(mine).values(factor=changed.factor, held_until=changed.held_until)
    )
    if changed.held_until is not None:
        conn.execute(
            sql_update(pace)
            .where(mine, pace.c.next_at < changed.held_until)
            .values(next_at=changed.held_until)
        )


# ---- leases --------------------------------------------------------------------------------------


def renew(conn: Connection, seat: Seat, call_ids: Iterable[str]) -> None:
    """A sign of life: what this daemon still works on stays its own."""
    conn.execute(
        sql_update(queue)
        .where(queue.c.lease_owner == seat.owner, queue.c.call_id.in_(list(call_ids)))
        .values(lease_until=seat.until)
    )


def inherit(conn: Connection, node: str, seat: Seat, now: datetime) -> None:
    """Leases of this node's former process end now: it is gone, or its ports would be taken."""
    conn.execute(
        sql_update(queue)
        .where(queue.c.lease_owner.startswith(node + "#", autoescape=True))
        .where(queue.c.lease_owner != seat.owner)
        .values(lease_until=now)
    )


def take_over(conn: Connection, seat: Seat, now: datetime, at_most: int) -> list[QueueRecord]:
    """Leases that have run out: what was not sent waits again, what may have been sent is now ours.

    Returns the latter.
    """
    run_out = queue.c.lease_until <= now
    conn.execute(
        sql_update(queue)
        .where(queue.c.state == TAKEN, run_out)
        .values(state=WAITING, lease_owner=None, lease_until=None)
    )
    statement = (
        rows.query(queue, QueueRecord)
        .where(queue.c.state == SENT, run_out)
        .order_by(queue.c.call_id)
        .limit(at_most)
        .with_for_update(skip_locked=True)
    )
    found = [rows.build(QueueRecord, row) for row in conn.execute(statement)]
    claim(conn, seat, [record.call_id for record in found])
    return found


def claim(conn: Connection, seat: Seat, call_ids: Iterable[str]) -> None:
    """These rows are this daemon's."""
    conn.execute(
        sql_update(queue)
        .where(queue.c.call_id.in_(list(call_ids)))
        .values(lease_owner=seat.owner, lease_until=seat.until)
    )


def is_anything_run_out(conn: Connection, now: datetime) -> bool:
    """Whether `take_over` would find something."""
    return _RUN_OUT.first(conn, {"now": now}) is not None


# ---- statements, built once (see `control.store.rows`) ---------------------------------------------

_TENANT: BindParameter[str] = bindparam("tenant_id")
_NOW = bindparam("now", type_=queue.c.due_at.type)
_DUE_AT = bindparam("due_at", type_=queue.c.due_at.type)
_WAITS = (queue.c.tenant_id == _TENANT, queue.c.state == WAITING)
_PACE = Prepared(select(pace.c.factor, pace.c.held_until).where(pace.c.tenant_id == _TENANT))
_REMOVE = PreparedWrite(sql_delete(queue).where(queue.c.call_id == bindparam("call_id")))
_SEND = PreparedWrite(
    sql_update(queue)
    .where(
        queue.c.call_id == bindparam("which"),
        queue.c.lease_owner == bindparam("whose"),
        queue.c.state.in_((TAKEN, SENT)),  # ours already, if it was decided a second time
        queue.c.lease_until > bindparam("at"),
    )
    .values(state=SENT, sent_at=bindparam("at"))
)
_TAKE = PreparedWrite(
    sql_update(queue)
    .where(queue.c.call_id == bindparam("which"))
    .values(state=TAKEN, lease_owner=bindparam("whose"), lease_until=bindparam("until"))
)
_TURN = PreparedWrite(
    sql_update(pace)
    .where(pace.c.tenant_id == bindparam("whose"))
    .values(next_at=bindparam("next"), served_at=bindparam("now"))
)
_LANES = Prepared(
    select(pace.c.tenant_id, pace.c.factor, pace.c.next_at, tenants.c.limits)
    .join(tenants, tenants.c.id == pace.c.tenant_id)
    .where(
        or_(pace.c.next_at <= _NOW, pace.c.next_at > bindparam("far")),
        select(queue.c.call_id)
        .where(queue.c.tenant_id == pace.c.tenant_id)
        .where(queue.c.state == WAITING, queue.c.due_at <= _NOW)
        .exists(),
    )
    .order_by(pace.c.served_at, pace.c.tenant_id)
    .with_for_update(of=pace, skip_locked=True)
)
_FIRST = Prepared(
    rows.query(queue, QueueRecord)
    .where(*_WAITS, queue.c.due_at <= _NOW)
    .order_by(queue.c.due_at, queue.c.call_id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_NEXT = Prepared(
    select(
        pace.c.next_at,
        select(func.min(queue.c.due_at))
        .where(queue.c.tenant_id == pace.c.tenant_id, queue.c.state == WAITING)
        .scalar_subquery()
        .label("due_at"),
    )
)
_POSITION = Prepared(
    select(func.count()).where(
        *_WAITS,
        or_(
            queue.c.due_at < _DUE_AT,
            and_(queue.c.due_at == _DUE_AT, queue.c.call_id < bindparam("call_id")),
        ),
    )
)
_AHEAD = Prepared(
    select(func.count(), func.sum(case((queue.c.due_at > bindparam("since"), 1), else_=0))).where(
        queue.c.tenant_id == _TENANT, queue.c.state.in_((WAITING, TAKEN)), queue.c.due_at <= _DUE_AT
    )
)
_LENGTH = Prepared(select(func.count()).where(*_WAITS))
_RUN_OUT = Prepared(select(queue.c.call_id).where(queue.c.lease_until <= _NOW).limit(1))
