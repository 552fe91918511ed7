"""Counters of a tenant's outbound traffic, read from the calls and messages tables. Every query is bounded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
)

from control.store.prepared import Prepared
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

# ---- statements, built once (see `control.store.rows`) ---------------------------------------------

c, m, q = calls.c, messages.c, dial_queue.c
_WITH_TWILIO = c.dial_state.in_(("sent", "uncertain", "created"))
"""The dial request left, or may have; Twilio has not said that it made nothing."""
_PICKED_UP = or_(c.ringing_at.is_not(None), c.answered_at.is_not(None))
# Callbacks get lost: a line that was busy, or where nobody answered, counts as one that rang. What is under way
# holds the slot that it may need.
_RANG = or_(
    _PICKED_UP,
    _WITH_TWILIO & or_(c.ended_at.is_(None), c.status.in_(("completed", "busy", "no-answer"))),
)
_rang_at = func.coalesce(c.ringing_at, c.answered_at, c.sent_at)
_NUMBER: BindParameter[str] = bindparam("number")
_BUT = bindparam("but", type_=c.id.type)
_SINCE = bindparam("since", type_=c.sent_at.type)
_NOW = bindparam("now", type_=c.sent_at.type)
NOBODY = ""
"""No call has this id."""
_MINE = (c.tenant_id == bindparam("tenant_id"), c.direction == "outbound", c.id != _BUT)

_CALLS_TO = Prepared(
    select(_rang_at.label("at"), c.from_number, c.metadata, c.answered_at, c.ended_at)
    .where(*_MINE, _RANG, c.to_number == _NUMBER, _rang_at > _SINCE)
    .order_by(_rang_at.desc())
    .limit(ROWS_MAX)
)
_sent_at = func.coalesce(m.sent_at, m.created_at)
_TEXTS_TO = Prepared(
    select(_sent_at.label("at"), m.from_number)
    .where(
        m.tenant_id == bindparam("tenant_id"),
        m.direction == "outbound",
        m.to_number == _NUMBER,
        _sent_at > _SINCE,
        or_(m.send_state.is_(None), m.send_state.in_(("sent", "uncertain", "created"))),
    )
    .limit(ROWS_MAX)
)
_is_due = exists().where(q.call_id == c.id, q.state != "sent", q.due_at <= _NOW)
_IN_FLIGHT = Prepared(
    select(func.count()).where(
        *_MINE,
        c.to_number == _NUMBER,
        c.ended_at.is_(None),
        or_(
            c.dial_state.is_(None),
            c.dial_state != "intent",
            and_(_is_due, or_(_BUT == NOBODY, c.id < _BUT)),
        ),
    )
)
_SENT = (*_MINE, _WITH_TWILIO)
_STARTS = Prepared(
    select(c.sent_at.label("at"), c.to_number)
    .where(*_SENT, c.sent_at > _SINCE, c.sent_at <= _NOW)
    .order_by(c.sent_at.desc())
    .limit(ROWS_MAX)
)
_LIVE = Prepared(select(func.count()).where(*_SENT, c.ended_at.is_(None)))
_alike = (c.to_number >= bindparam("begin")) & (c.to_number < bindparam("end"))
_KNOWN_ALIKE = Prepared(select(c.id).where(*_SENT, _alike).limit(1))
_ALIKE = Prepared(
    select(c.to_number).where(*_SENT, _alike).order_by(c.id.desc()).limit(REGION_ROWS_MAX)
)


# What was talked has been sent, at whatever time it was asked for: read from `ix_calls_talked` alone.
_MINUTES = Prepared(
    select(func.sum(func.ceil(seconds_between(c.answered_at, c.ended_at) / 60.0))).where(
        *_MINE,
        c.answered_at.is_not(None),
        c.ended_at.is_not(None),
        c.sent_at >= _SINCE,
        c.sent_at < bindparam("until", type_=c.sent_at.type),
    )
)
_DAY = bindparam("day", type_=c.sent_at.type)
# All that are open, and only then those of the time: else SQLite reads everything of the month to find them.
_of_day, _of_month = (
    func.sum(case((or_(c.created_at >= since, c.sent_at >= since), 1), else_=0))
    for since in (_DAY, _SINCE)
)
_OPEN = Prepared(select(_of_day, _of_month).where(*_MINE, c.ended_at.is_(None)))
_EVER = datetime(9999, 1, 1, tzinfo=UTC)


def _whose(tenant_id: str, but: str | None) -> dict[str, Any]:
    return {"tenant_id": tenant_id, "but": but or NOBODY}


# ---- the counters --------------------------------------------------------------------------------


def attempts(
    conn: Connection, tenant_id: str, number: str, now: datetime, but: str | None
) -> tuple[Attempt, ...]:
    """Attempts to this number in HISTORY, voice and SMS, oldest first; the call `but` is left out.

    At the time at which they rang, however long before they were asked for.
    """
    asked = _whose(tenant_id, but) | {"number": number, "since": now - HISTORY}
    found = [_attempt(*row) for row in _CALLS_TO.all(conn, asked)]
    found += [
        Attempt(at, "sms", from_number=from_number)
        for at, from_number in _TEXTS_TO.all(conn, asked)
    ]
    return tuple(sorted(found, key=lambda one: one.at))


def are_still(conn: Connection, facts: Facts, but: str) -> bool:
    """Whether nobody has used up an attempt to this number since the facts were read.

    Asked in the transaction that reserves one, behind the lock of the tenant's chain of decisions.
    """
    if facts.attempts is None:
        return True
    found = attempts(conn, facts.tenant_id, facts.to_number, facts.known_at, but)
    return len(found) == len(facts.attempts)


def _attempt(
    at: datetime,
    from_number: str,
    metadata: dict[str, Any] | None,
    answered_at: datetime | None,
    ended_at: datetime | None,
) -> Attempt:
    said = metadata or {}
    talked = (
        answered_at is not None
        and ended_at is not None
        and (ended_at - answered_at).total_seconds() > CONVERSATION_S
    )
    return Attempt(
        at=at,
        channel="voice",
        subject=_text(said.get("subject")),
        purpose=_text(said.get("purpose")),
        debt_id=_text(said.get("debt_id")),
        from_number=from_number,
        had_conversation=talked,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def in_flight(conn: Connection, tenant_id: str, number: str, now: datetime, but: str | None) -> int:
    """Other calls of the tenant to this number that are live, or whose turn in the queue comes before this one's.

    One that is to be dialled another day is not, and of two that wait only the later one has to.
    """
    asked = _whose(tenant_id, but) | {"number": number, "now": now}
    return int(_IN_FLIGHT.scalar(conn, asked))


def usage(
    conn: Connection,
    tenant_id: str,
    number: str,
    now: datetime,
    but: str | None,
    region_of: RegionOf,
) -> Usage:
    """Velocity of the last hour, concurrency, and whether the destination is a new kind of place."""
    whose = _whose(tenant_id, but)
    rows = _STARTS.all(conn, whose | {"since": now - HOUR, "now": now})
    latest: dict[str, datetime] = {}
    for at, to_number in rows:
        latest.setdefault(to_number, at)
    region, prefix = region_of(number), prefix_of(number)
    to_region = tuple(at for at, to_number in rows if region_of(to_number) == region)
    known_prefix = _KNOWN_ALIKE.first(conn, whose | _beginning(prefix))
    return Usage(
        starts=tuple(row[0] for row in rows),
        destinations=tuple(latest.values()),
        to_prefix=tuple(at for at, to_number in rows if to_number.startswith(prefix)),
        to_region=to_region,
        concurrent=int(_LIVE.scalar(conn, whose)),
        region_is_new=known_prefix is None
        and not to_region
        and not _knows_region(conn, whose, region, region_of, number),
        prefix_is_new=known_prefix is None,
    )


def _beginning(digits: str) -> dict[str, str]:
    """Of numbers that begin with these: `:` is what follows the digit 9."""
    return {"begin": digits, "end": digits + ":"}


def _knows_region(
    conn: Connection,
    whose: dict[str, Any],
    region: str | None,
    region_of: RegionOf,
    number: str,
) -> bool:
    """Whether a destination of this region was called before, among those that begin alike."""
    found = _ALIKE.all(conn, whose | _beginning(number[:2]))
    return any(region_of(known) == region for (known,) in found)


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
    month = day.replace(day=1)
    whose = _whose(tenant_id, but)
    of_day = _minutes(conn, whose, day, _EVER)
    of_month = _minutes(conn, whose, month, day) + of_day
    ((open_of_day, open_of_month),) = _OPEN.all(conn, whose | {"day": day, "since": month})
    estimate = ESTIMATED_MINUTES * MINUTE_MICRO_USD
    return Spend(
        call_estimate_micro_usd=estimate,
        day_micro_usd=of_day * MINUTE_MICRO_USD + int(open_of_day or 0) * estimate,
        month_micro_usd=of_month * MINUTE_MICRO_USD + int(open_of_month or 0) * estimate,
        **limits,
    )


def _minutes(conn: Connection, whose: dict[str, Any], since: datetime, until: datetime) -> int:
    if since == until:
        return 0  # the first of the month
    return int(_MINUTES.scalar(conn, whose | {"since": since, "until": until}) or 0)
