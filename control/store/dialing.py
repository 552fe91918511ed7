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

from sqlalchemy import Connection, and_, func, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.store import admission, rows
from control.store.admission import TAKEN, Limit
from control.store.errors import StoreError
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
    conn.execute(sql_insert(queue).values(rows.values(record)))
    known = conn.execute(select(pace.c.tenant_id).where(pace.c.tenant_id == record.tenant_id))
    if known.scalar() is None:
        long_ago = record.created_at - timedelta(days=1)
        conn.execute(
            sql_insert(pace).values(
                tenant_id=record.tenant_id, next_at=long_ago, served_at=long_ago, factor=1.0
            )
        )


def get(conn: Connection, call_id: str) -> QueueRecord | None:
    """The row of a call, while it has one."""
    row = conn.execute(
        rows.query(queue, QueueRecord).where(queue.c.call_id == call_id)
    ).one_or_none()
    return None if row is None else rows.build(QueueRecord, row)


def of_calls(conn: Connection, call_ids: Sequence[str]) -> dict[str, QueueRecord]:
    """The rows of these calls, of those that have one."""
    if not call_ids:
        return {}
    statement = rows.query(queue, QueueRecord).where(queue.c.call_id.in_(call_ids))
    found = (rows.build(QueueRecord, row) for row in conn.execute(statement))
    return {record.call_id: record for record in found}


def remove(conn: Connection, call_id: str) -> None:
    """The outcome is in the record."""
    conn.execute(sql_delete(queue).where(queue.c.call_id == call_id))


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
    done = conn.execute(
        sql_update(queue)
        .where(
            queue.c.call_id == call_id,
            queue.c.lease_owner == owner,
            queue.c.state.in_((TAKEN, SENT)),  # ours already, if it was decided a second time
            queue.c.lease_until > at,
        )
        .values(state=SENT, sent_at=at)
    )
    _must_be_ours(done.rowcount, call_id)


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
        conn.execute(
            sql_update(queue)
            .where(queue.c.call_id == record.call_id)
            .values(state=TAKEN, lease_owner=seat.owner, lease_until=seat.until)
        )
        gap = timedelta(seconds=1.0 / (limit.cps * lane.factor))
        # Turns lie on a grid: a round that comes late (a slow store) delays this one, and not all that follow. More than
        # a turn late begins a new grid, so that nothing is made up for in a rush.
        is_on_grid = lane.next_at <= now < lane.next_at + gap
        conn.execute(
            sql_update(pace)
            .where(pace.c.tenant_id == lane.tenant_id)
            .values(next_at=(lane.next_at if is_on_grid else now) + gap, served_at=now)
        )
        taken.append(record)
    return taken


def _open_lanes(conn: Connection, now: datetime) -> Sequence[Any]:
    due = (
        select(queue.c.call_id)
        .where(queue.c.tenant_id == pace.c.tenant_id)
        .where(queue.c.state == WAITING, queue.c.due_at <= now)
        .exists()
    )
    statement = (
        select(pace.c.tenant_id, pace.c.factor, pace.c.next_at, tenants.c.limits)
        .join(tenants, tenants.c.id == pace.c.tenant_id)
        .where(or_(pace.c.next_at <= now, pace.c.next_at > now + NEXT_AT_MAX), due)
        .order_by(pace.c.served_at, pace.c.tenant_id)
        .with_for_update(of=pace, skip_locked=True)
    )
    return conn.execute(statement).all()


def _first(conn: Connection, tenant_id: str, now: datetime) -> QueueRecord | None:
    statement = (
        rows.query(queue, QueueRecord)
        .where(queue.c.tenant_id == tenant_id, queue.c.state == WAITING, queue.c.due_at <= now)
        .order_by(queue.c.due_at, queue.c.call_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = conn.execute(statement).one_or_none()
    return None if row is None else rows.build(QueueRecord, row)


def next_due(conn: Connection, now: datetime) -> datetime | None:
    """When somebody's turn comes next, as far as pace and times decide; None when nobody waits."""
    first = (
        select(func.min(queue.c.due_at))
        .where(queue.c.tenant_id == pace.c.tenant_id, queue.c.state == WAITING)
        .scalar_subquery()
    )
    turns = [
        max(row.due_at, row.next_at if row.next_at <= now + NEXT_AT_MAX else now)
        for row in conn.execute(select(pace.c.next_at, first.label("due_at")))
        if row.due_at is not None
    ]
    return min(turns, default=None)


def position(conn: Connection, record: QueueRecord) -> int:
    """How many of the tenant's calls are dialled before this one, as things stand."""
    earlier = or_(
        queue.c.due_at < record.due_at,
        and_(queue.c.due_at == record.due_at, queue.c.call_id < record.call_id),
    )
    statement = select(func.count()).where(
        queue.c.tenant_id == record.tenant_id, queue.c.state == WAITING, earlier
    )
    return int(conn.execute(statement).scalar_one())


def expected_wait_s(
    conn: Connection, tenant_id: str, due_at: datetime, now: datetime, cps: float
) -> float:
    """How long after `due_at` a call that is queued now will be dialled, as things stand.

    What is due earlier goes first, and so does what is due at the same moment and is queued already.
    """
    factor, held_until = pace_of(conn, tenant_id)
    mine = (queue.c.tenant_id == tenant_id, queue.c.state.in_((WAITING, TAKEN)))
    earlier = select(func.count()).where(*mine, queue.c.due_at <= due_at)
    together = select(func.count()).where(
        *mine, queue.c.due_at <= due_at, queue.c.due_at > due_at - timedelta(seconds=1)
    )
    starts_at = max(now, held_until or now)
    until_all_are_out = int(conn.execute(earlier).scalar_one()) / (cps * factor)
    through_at = starts_at + timedelta(seconds=until_all_are_out)
    of_earlier_s = (through_at - max(due_at, now)).total_seconds()
    return max(0.0, of_earlier_s, int(conn.execute(together).scalar_one()) / (cps * factor))


def length(conn: Connection, tenant_id: str) -> int:
    """How many calls of the tenant wait."""
    statement = select(func.count()).where(queue.c.tenant_id == tenant_id, queue.c.state == WAITING)
    return int(conn.execute(statement).scalar_one())


# ---- the pace ------------------------------------------------------------------------------------


class Pace(NamedTuple):
    """`factor` (0 to 1) is the part of its rate that the tenant uses; before `held_until` nobody dials."""

    factor: float
    held_until: datetime | None


def pace_of(conn: Connection, tenant_id: str) -> Pace:
    """The pace of a tenant."""
    statement = select(pace.c.factor, pace.c.held_until).where(pace.c.tenant_id == tenant_id)
    row = conn.execute(statement).one_or_none()
    return Pace(1.0, None) if row is None else Pace(row.factor, row.held_until)


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
    statement = select(queue.c.call_id).where(queue.c.lease_until <= now).limit(1)
    return conn.execute(statement).scalar() is not None
