"""Counters of a tenant's outbound traffic, read from the calls and messages tables. Every query is bounded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select, true

from control.store.spans import seconds_between
from control.store.tables.after_call import messages
from control.store.tables.core import calls
from control.store.tables.dialing import dial_queue
from policy.facts import Attempt, Facts, Spend, Usage

HISTORY = timedelta(days=35)
HOUR = timedelta(hours=1)
ROWS_MAX = 1000
REGION_ROWS_MAX = 200
PREFIX_DIGITS = 7
MINUTE_MICRO_USD = 120_000
"""What a minute is taken to cost until the bills are in: telephone and agent together, rather too much."""
ESTIMATED_MINUTES = 4
CONVERSATION_S = 12.0
"""An answered call longer than this counts as a conversation."""

RegionOf = Callable[[str], str | None]

_WITH_TWILIO = calls.c.dial_state.in_(("sent", "uncertain", "created"))
"""The dial request left, or may have; Twilio has not said that it made nothing."""
_PICKED_UP = or_(calls.c.ringing_at.is_not(None), calls.c.answered_at.is_not(None))
# Callbacks get lost: a line that was busy, or where nobody answered, counts as one that rang. What is under way
# holds the slot that it may need.
_RANG = or_(
    _PICKED_UP,
    _WITH_TWILIO
    & or_(calls.c.ended_at.is_(None), calls.c.status.in_(("completed", "busy", "no-answer"))),
)
_rang_at = func.coalesce(calls.c.ringing_at, calls.c.answered_at, calls.c.sent_at)


def _mine(tenant_id: str, but: str | None) -> list[ColumnElement[bool]]:
    found = [calls.c.tenant_id == tenant_id, calls.c.direction == "outbound"]
    return found if but is None else [*found, calls.c.id != but]


def attempts(
    conn: Connection, tenant_id: str, number: str, now: datetime, but: str | None
) -> tuple[Attempt, ...]:
    """Attempts to this number in HISTORY, voice and SMS, oldest first; the call `but` is left out.

    At the time at which they rang, however long before they were asked for.
    """
    c = calls.c
    rows = conn.execute(
        select(_rang_at.label("at"), c.from_number, c.metadata, c.answered_at, c.ended_at)
        .where(*_mine(tenant_id, but), _RANG, c.to_number == number, _rang_at > now - HISTORY)
        .order_by(_rang_at.desc())
        .limit(ROWS_MAX)
    )
    found = [_attempt(row) for row in rows]
    m = messages.c
    texts = conn.execute(
        select(func.coalesce(m.sent_at, m.created_at).label("at"), m.from_number)
        .where(
            m.tenant_id == tenant_id,
            m.direction == "outbound",
            m.to_number == number,
            func.coalesce(m.sent_at, m.created_at) > now - HISTORY,
            or_(m.send_state.is_(None), m.send_state.in_(("sent", "uncertain", "created"))),
        )
        .limit(ROWS_MAX)
    )
    found += [Attempt(row.at, "sms", from_number=row.from_number) for row in texts]
    return tuple(sorted(found, key=lambda one: one.at))


def are_still(conn: Connection, facts: Facts, but: str) -> bool:
    """Whether nobody has used up an attempt to this number since the facts were read.

    Asked in the transaction that reserves one, behind the lock of the tenant's chain of decisions.
    """
    if facts.attempts is None:
        return True
    found = attempts(conn, facts.tenant_id, facts.to_number, facts.known_at, but)
    return len(found) == len(facts.attempts)


def _attempt(row: Any) -> Attempt:
    said: dict[str, Any] = row.metadata or {}
    talked = (
        row.answered_at is not None
        and row.ended_at is not None
        and (row.ended_at - row.answered_at).total_seconds() > CONVERSATION_S
    )
    return Attempt(
        at=row.at,
        channel="voice",
        subject=_text(said.get("subject")),
        purpose=_text(said.get("purpose")),
        debt_id=_text(said.get("debt_id")),
        from_number=row.from_number,
        had_conversation=talked,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def in_flight(conn: Connection, tenant_id: str, number: str, now: datetime, but: str | None) -> int:
    """Other calls of the tenant to this number that are live, or whose turn in the queue comes before this one's.

    One that is to be dialled another day is not, and of two that wait only the later one has to.
    """
    c, q = calls.c, dial_queue.c
    is_due = exists().where(q.call_id == c.id, q.state != "sent", q.due_at <= now)
    is_earlier = true() if but is None else c.id < but
    mine = [
        *_mine(tenant_id, but),
        c.to_number == number,
        c.ended_at.is_(None),
        or_(c.dial_state.is_(None), c.dial_state != "intent", and_(is_due, is_earlier)),
    ]
    return int(conn.execute(select(func.count()).where(*mine)).scalar_one())


def usage(
    conn: Connection,
    tenant_id: str,
    number: str,
    now: datetime,
    but: str | None,
    region_of: RegionOf,
) -> Usage:
    """Velocity of the last hour, concurrency, and whether the destination is a new kind of place."""
    c = calls.c
    mine = [*_mine(tenant_id, but), _WITH_TWILIO]
    rows = conn.execute(
        select(c.sent_at.label("at"), c.to_number)
        .where(*mine, c.sent_at > now - HOUR, c.sent_at <= now)
        .order_by(c.sent_at.desc())
        .limit(ROWS_MAX)
    ).all()
    latest: dict[str, datetime] = {}
    for row in rows:
        latest.setdefault(row.to_number, row.at)
    region, prefix = region_of(number), prefix_of(number)
    live = select(func.count()).where(*mine, c.ended_at.is_(None))
    near = (c.to_number >= prefix) & (c.to_number < prefix + ":")
    known_prefix = conn.execute(select(c.id).where(*mine, near).limit(1)).first()
    return Usage(
        starts=tuple(row.at for row in rows),
        destinations=tuple(latest.values()),
        to_prefix=tuple(row.at for row in rows if row.to_number.startswith(prefix)),
        to_region=tuple(row.at for row in rows if region_of(row.to_number) == region),
        concurrent=int(conn.execute(live).scalar_one()),
        region_is_new=known_prefix is None
        and not _knows_region(conn, mine, region, region_of, number),
        prefix_is_new=known_prefix is None,
    )


def _knows_region(
    conn: Connection,
    mine: list[ColumnElement[bool]],
    region: str | None,
    region_of: RegionOf,
    number: str,
) -> bool:
    """Whether a destination of this region was called before, among those that begin alike."""
    c = calls.c
    begin = number[:2]
    alike = (c.to_number >= begin) & (c.to_number < begin + ":")
    statement = select(c.to_number).where(*mine, alike).order_by(c.id.desc())
    found = conn.execute(statement.limit(REGION_ROWS_MAX)).scalars()
    return any(region_of(known) == region for known in found)


def prefix_of(number: str) -> str:
    """`+1` and seven digits; abroad the first nine characters, as country codes have one to three digits."""
    return (
        number[: 2 + PREFIX_DIGITS] if number.startswith("+1") else number[: 3 + PREFIX_DIGITS - 1]
    )


def spend(
    conn: Connection, tenant_id: str, now: datetime, but: str | None, limits: dict[str, int | None]
) -> Spend:
    """Of the UTC day and month: minutes of ended calls, and the estimate for those that are open."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    estimate = ESTIMATED_MINUTES * MINUTE_MICRO_USD
    return Spend(
        call_estimate_micro_usd=estimate,
        day_micro_usd=_spent(conn, tenant_id, day, but, estimate),
        month_micro_usd=_spent(conn, tenant_id, day.replace(day=1), but, estimate),
        **limits,
    )


def _spent(
    conn: Connection, tenant_id: str, since: datetime, but: str | None, estimate: int
) -> int:
    c = calls.c
    minutes = func.ceil(seconds_between(c.answered_at, c.ended_at) / 60.0)
    talked = c.answered_at.is_not(None) & c.ended_at.is_not(None)
    row = conn.execute(
        select(
            func.coalesce(func.sum(case((talked, minutes), else_=0)), 0).label("minutes"),
            func.coalesce(func.sum(case((c.ended_at.is_(None), 1), else_=0)), 0).label("open"),
        ).where(*_mine(tenant_id, but), or_(c.created_at >= since, c.sent_at >= since))
    ).one()
    return int(row.minutes) * MINUTE_MICRO_USD + int(row.open) * estimate
