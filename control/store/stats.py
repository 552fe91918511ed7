"""Aggregates over the calls table. Ranges are half-open, in UTC, and bounded by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    func,
    select,
)

from control.store.prepared import Prepared
from control.store.spans import seconds_between, utc_day
from control.store.tables import calls, opt_outs

SHORT_S = 12.0
"""A call of at most so long is a short one (Twilio, "Best practices for healthy traffic")."""
GROUPS_MAX = 5000
WINDOW_CALLS = 100
WINDOW = timedelta(hours=24)
ABANDONED_WINDOW = timedelta(days=30)
"""47 CFR 64.1200(a)(7): over thirty days, for each campaign."""
ABANDONED_CALLS = 20_000
HOUR_CALLS_MAX = 1000
"""More than any rule asks for: a busy caller id is not counted to its end for each of its calls."""

# What never left us says nothing about lines and people.
_NOT_TRIED = ("blocked",)
_OURS = ("policy", "gateway_fault", "drained")
# A caller who was put through to a person has lost the agent first.
_FAULTS = ("agent_fault", "gateway_fault", "carrier_fault", "fallback")


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of calls; of the answered ones also how long they lasted."""

    calls: int = 0
    inbound: int = 0
    outbound: int = 0
    answered: int = 0
    tried_out: int = 0
    """Outbound calls that reached the network."""
    answered_out: int = 0
    finished: int = 0
    """Answered calls that have ended: those that have a duration."""
    talk_s: float = 0.0
    billed_minutes: int = 0
    """Each finished call rounded up to whole minutes."""
    short: int = 0
    blocked: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Slice:
    """The calls of a tenant (None: of all), an agent and a day (None: of all)."""

    tenant_id: str | None
    agent_id: str | None
    day: str | None
    tally: Tally


GROUPS: dict[str, ColumnElement[Any]] = {
    "tenant": calls.c.tenant_id,
    "agent": calls.c.agent_id,
    "day": utc_day(calls.c.created_at),
}


def tally(
    conn: Connection,
    *,
    since: datetime,
    until: datetime,
    tenant_id: str | None = None,
    agent_id: str | None = None,
    group_by: Sequence[str] = (),
) -> list[Slice]:
    """One slice for each group that has calls (without groups: one), ordered. At most GROUPS_MAX.

    `group_by`: names of GROUPS. Calls count by the time of their creation, `since` <= it < `until`.
    """
    groups = [GROUPS[name].label(name) for name in group_by]
    conditions = [calls.c.created_at >= since, calls.c.created_at < until]
    if tenant_id is not None:
        conditions.append(calls.c.tenant_id == tenant_id)
    if agent_id is not None:
        conditions.append(calls.c.agent_id == agent_id)
    statement = select(*groups, *_columns()).where(*conditions)
    if groups:
        statement = statement.group_by(*groups).order_by(*groups).limit(GROUPS_MAX)
    found = []
    for row in conn.execute(statement).mappings():
        figures = {name: row[name] or 0 for name in Tally.__dataclass_fields__}
        figures["talk_s"] = float(figures["talk_s"])
        found.append(
            Slice(
                row.get("tenant", tenant_id),
                row.get("agent", agent_id),
                row.get("day"),
                Tally(
                    **{
                        name: value if name == "talk_s" else int(value)
                        for name, value in figures.items()
                    }
                ),
            )
        )
    return found


def _columns() -> list[ColumnElement[Any]]:
    c = calls.c
    answered = c.answered_at.is_not(None)
    finished = and_(answered, c.ended_at.is_not(None))
    outbound = c.direction == "outbound"
    tried = and_(outbound, c.status.not_in(_NOT_TRIED), func.coalesce(c.result, "").not_in(_OURS))
    tried = and_(outbound, tried | answered)
    talk_s = seconds_between(c.answered_at, c.ended_at)
    minutes = func.ceil(talk_s / 60.0)
    return [
        func.count().label("calls"),
        _count(c.direction == "inbound", "inbound"),
        _count(outbound, "outbound"),
        _count(answered, "answered"),
        _count(tried, "tried_out"),
        _count(and_(outbound, answered), "answered_out"),
        _count(finished, "finished"),
        _sum(finished, talk_s, "talk_s"),
        _sum(finished, minutes, "billed_minutes"),
        _count(and_(finished, talk_s <= SHORT_S), "short"),
        _count(c.status == "blocked", "blocked"),
        _count(c.result.in_(_FAULTS), "faults"),
    ]


def _count(condition: ColumnElement[bool], name: str) -> ColumnElement[Any]:
    return func.sum(case((condition, 1), else_=0)).label(name)


def _sum(condition: ColumnElement[bool], value: Any, name: str) -> ColumnElement[Any]:
    return func.sum(case((condition, value), else_=0)).label(name)


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest outbound attempts of a tenant that reached the network, within the window."""

    attempts: int
    answered: int
    finished: int
    talk_s: float
    short: int
    opt_outs: int
    since: datetime


def recent(
    conn: Connection, tenant_id: str, now: datetime, from_number: str | None = None
) -> Recent:
    """Of the last WINDOW_CALLS outbound attempts within WINDOW; `from_number`: of this caller id alone.

    By when they were dialled: one that waited for its day counts on that day, one that never left not at all.
    """
    since = now - WINDOW
    asked = {"tenant_id": tenant_id, "since": since, "now": now}
    if from_number is not None:
        asked["from_number"] = from_number
    figures, opted = _recent(from_number is not None)
    ((attempts, answered, talk_s, short),) = figures.all(conn, asked)
    opt_outs_seen = opted.scalar(conn, asked) if answered else 0
    return Recent(
        attempts=attempts or 0,
        answered=int(answered or 0),
        finished=int(answered or 0),
        talk_s=float(talk_s or 0.0),
        short=int(short or 0),
        opt_outs=int(opt_outs_seen or 0),
        since=since,
    )


_TENANT: BindParameter[str] = bindparam("tenant_id")
_SINCE = bindparam("since", type_=calls.c.sent_at.type)
_NOW = bindparam("now", type_=calls.c.sent_at.type)


@cache  # built once, see `control.store.rows`
def _recent(of_one_number: bool) -> tuple[Prepared, Prepared]:
    """The figures; and how many of those who picked up have opted out."""
    c = calls.c
    mine = [
        c.tenant_id == _TENANT,
        c.direction == "outbound",
        c.sent_at >= _SINCE,
        c.sent_at <= _NOW,
        c.ended_at.is_not(None),
        (c.status.not_in(_NOT_TRIED) & func.coalesce(c.result, "").not_in(_OURS))
        | c.answered_at.is_not(None),
    ]
    if of_one_number:
        mine.append(c.from_number == bindparam("from_number"))
    newest = (
        select(c.answered_at, c.ended_at, c.to_number)
        .where(*mine)
        .order_by(c.sent_at.desc())
        .limit(WINDOW_CALLS)
        .subquery()
    )
    n = newest.c
    answered = n.answered_at.is_not(None)
    talk_s = seconds_between(n.answered_at, n.ended_at)
    figures = select(
        func.count().label("attempts"),
        _count(answered, "answered"),
        _sum(answered, talk_s, "talk_s"),
        _count(and_(answered, talk_s <= SHORT_S), "short"),
    ).select_from(newest)
    opted = (
        select(func.count(func.distinct(opt_outs.c.e164)))
        .select_from(newest.join(opt_outs, opt_outs.c.e164 == n.to_number))
        .where(opt_outs.c.tenant_id == _TENANT, opt_outs.c.created_at >= _SINCE, answered)
    )
    return Prepared(figures), Prepared(opted)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Of a campaign's calls that a person picked up, how many heard no word in time."""

    campaign: str
    answered: int
    abandoned: int


def abandoned(
    conn: Connection, tenant_id: str, now: datetime, campaign: str | None = None
) -> list[Abandoned]:
    """Of the last ABANDONED_WINDOW, by campaign; `campaign`: of this one alone. ABANDONED_CALLS at most."""
    asked = {"tenant_id": tenant_id, "since": now - ABANDONED_WINDOW, "now": now}
    if campaign is not None:
        asked["campaign"] = campaign
    found = _abandoned(campaign is not None).all(conn, asked)
    return [Abandoned(name, answered, int(left or 0)) for name, answered, left in found]


@cache
def _abandoned(of_one_campaign: bool) -> Prepared:
    c = calls.c
    newest = (
        select(c.campaign, c.abandoned)
        .where(
            c.tenant_id == _TENANT,
            c.campaign == bindparam("campaign") if of_one_campaign else c.campaign.is_not(None),
            c.sent_at > _SINCE,
            c.sent_at <= _NOW,
            c.abandoned.is_not(None),
        )
        .order_by(c.sent_at.desc())
        .limit(ABANDONED_CALLS)
        .subquery()
    )
    n = newest.c
    figures = [func.count().label("answered"), _count(n.abandoned, "abandoned")]
    if of_one_campaign:
        return Prepared(
            select(func.min(n.campaign).label("campaign"), *figures).select_from(newest)
        )
    return Prepared(select(n.campaign, *figures).group_by(n.campaign).order_by(n.campaign))


def calls_of_hour(conn: Connection, tenant_id: str, now: datetime, from_number: str) -> int:
    """Outbound calls with this caller id in the last hour, counted as far as HOUR_CALLS_MAX."""
    asked = {"tenant_id": tenant_id, "from_number": from_number, "now": now}
    return int(_CALLS_OF_HOUR.scalar(conn, asked | {"since": now - timedelta(hours=1)}))


_CALLS_OF_HOUR = Prepared(
    select(func.count()).select_from(
        select(calls.c.id)
        .where(
            calls.c.tenant_id == _TENANT,
            calls.c.from_number == bindparam("from_number"),
            calls.c.direction == "outbound",
            calls.c.status != "blocked",
            calls.c.sent_at > _SINCE,
            calls.c.sent_at <= _NOW,
        )
        .limit(HOUR_CALLS_MAX)
        .subquery()
    )
)
