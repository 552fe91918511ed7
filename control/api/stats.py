"""Figures: `/v2/stats`, a tenant's usage and traffic health, and what providers complained about."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, Literal

from pydantic import Field
from quart import Blueprint, Response

from control.api.answers import Answer, PageQuery, answer, page
from control.api.auth import require_visible, visible_tenant
from control.api.dependencies import dependencies
from control.api.event_models import ProviderEvent, event_shown
from control.api.openapi import listing, operation
from control.api.problem import Problem, invalid, not_found
from control.api.reading import E164, Query, read_query
from control.instant import Instant
from control.stats import health
from control.store import provider_events, stats, tenants
from control.store.stats import Slice, Tally
from control.twilio.rest import TwilioError, TwilioRefused

blueprint = Blueprint("stats", __name__)

RANGE_DEFAULT = timedelta(days=30)
RANGE_MAX = timedelta(days=93)
USAGE_DAYS_MAX = 366
_GROUPS = ("tenant", "agent", "day")


class StatsQuery(Query):
    """What is counted. A call counts by the time of its creation, `since` included, `until` not."""

    since: Instant | None = Field(None, description="30 days before `until` when left out.")
    until: Instant | None = Field(None, description="Now when left out.")
    tenant_id: str | None = None
    agent_id: str | None = Field(None, max_length=64)
    group_by: str | None = Field(
        None, description="`day`, `agent`, `tenant`, or several, such as `agent,day`."
    )


class Figures(Answer):
    """Calls and what came of them."""

    calls: int
    inbound: int
    outbound: int
    answered: int
    blocked: int = Field(description="Refused by policy.")
    faults: int = Field(description="Ended by a fault of agent, gateway or carrier.")
    minutes: float = Field(description="Talk time, from the answer to the end.")
    billed_minutes: int = Field(description="Each call rounded up to whole minutes.")
    average_s: float | None = Field(description="Mean talk time of answered calls.")
    answer_seizure_rate: float | None = Field(
        description="Outbound calls that were answered, of those that reached the network; 0 to 1."
    )
    short_share: float | None = Field(
        description="Answered calls of at most 12 s, of all answered; 0 to 1."
    )


class Group(Figures):
    """The figures of one group."""

    tenant_id: str | None
    agent_id: str | None
    day: str | None = Field(description="In UTC.")


class Stats(Answer):
    """Figures over a range."""

    since: datetime
    until: datetime
    total: Figures
    groups: list[Group]
    is_cut: bool = Field(description="There are more groups than are shown.")


@blueprint.get("/v2/stats")
@operation(
    name="getStats",
    about="Figures",
    query=StatsQuery,
    answers={200: Stats},
    problems=["not-found"],
)
async def get_stats() -> Response:
    """Calls, minutes, answer rate, durations; by tenant, agent and day"""
    query = read_query(StatsQuery)
    until = query.until or dependencies().clock.now()
    since = query.since or until - RANGE_DEFAULT
    if since >= until:
        raise invalid("since", "not before `until`")
    if until - since > RANGE_MAX:
        raise invalid("since", f"the range is longer than {RANGE_MAX.days} days")
    groups = _groups(query.group_by)
    given: dict[str, Any] = {
        "since": since,
        "until": until,
        "tenant_id": visible_tenant(query.tenant_id),
        "agent_id": query.agent_id,
    }
    store = dependencies().store
    total = await store.read(stats.tally, **given)
    slices = await store.read(stats.tally, **given, group_by=groups) if groups else []
    shown = Stats(
        since=since,
        until=until,
        total=Figures(**_figures(total[0].tally if total else Tally())),
        groups=[_group(one) for one in slices],
        is_cut=len(slices) >= stats.GROUPS_MAX,
    )
    return answer(shown)


def _groups(text: str | None) -> list[str]:
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if len(set(names)) != len(names) or not set(names) <= set(_GROUPS):
        raise invalid("group_by", f"names of {', '.join(_GROUPS)}, each at most once")
    return names


def _figures(tally: Tally) -> dict[str, Any]:
    return {
        "calls": tally.calls,
        "inbound": tally.inbound,
        "outbound": tally.outbound,
        "answered": tally.answered,
        "blocked": tally.blocked,
        "faults": tally.faults,
        "minutes": round(tally.talk_s / 60, 3),
        "billed_minutes": tally.billed_minutes,
        "average_s": _part(tally.talk_s, tally.finished),
        "answer_seizure_rate": _part(tally.answered_out, tally.tried_out),
        "short_share": _part(tally.short, tally.finished),
    }


def _group(one: Slice) -> Group:
    return Group(**_figures(one.tally), tenant_id=one.tenant_id, agent_id=one.agent_id, day=one.day)


def _part(part: float, whole: int) -> float | None:
    return None if not whole else round(part / whole, 4)


# ---- a tenant's usage and health -----------------------------------------------------------------


class UsageQuery(Query):
    """Days of the account (UTC), both included."""

    since: date | None = Field(None, description="The first of the month when left out.")
    until: date | None = Field(None, description="Today when left out.")


class UsageRecord(Answer):
    """One category of usage."""

    category: str
    description: str
    count: float
    count_unit: str | None
    usage: float
    usage_unit: str | None
    price: float
    price_unit: str | None


class UsageShown(Answer):
    """What Twilio says that the tenant's account used."""

    tenant_id: str
    since: date
    until: date
    fetched_at: datetime = Field(description="When Twilio was asked; answers are kept for a while.")
    total_price: float | None = Field(description="Of the category `totalprice`.")
    price_unit: str | None
    records: list[UsageRecord]


@blueprint.get("/v2/tenants/<tenant_id>/usage")
@operation(
    name="getUsage",
    about="Figures",
    query=UsageQuery,
    answers={200: UsageShown},
    problems=["not-found", "twilio-refused"],
)
async def get_usage(tenant_id: str) -> Response:
    """What Twilio bills the tenant's account for, by category"""
    query = read_query(UsageQuery)
    today = dependencies().clock.now().date()
    last = query.until or today
    first = query.since or last.replace(day=1)
    if first > last:
        raise invalid("since", "after `until`")
    if (last - first).days >= USAGE_DAYS_MAX:
        raise invalid("since", f"the range is longer than {USAGE_DAYS_MAX} days")
    await _tenant(tenant_id)
    try:
        found = await dependencies().switchboard.usage(tenant_id, first, last)
    except TwilioRefused as refused:
        raise Problem("twilio-refused", f"Twilio refused: {refused.message}") from refused
    except TwilioError as error:
        raise Problem("unavailable", f"Twilio does not answer: {error}") from error
    total = next((one for one in found.records if one["category"] == "totalprice"), None)
    shown = UsageShown(
        tenant_id=tenant_id,
        since=found.first,
        until=found.last,
        fetched_at=found.fetched_at,
        total_price=total["price"] if total else None,
        price_unit=total["price_unit"] if total else None,
        records=[UsageRecord(**one) for one in found.records],
    )
    return answer(shown)


class HealthQuery(Query):
    from_: E164 | None = Field(None, alias="from", description="Of this caller id alone.")


class Judged(Answer):
    """A figure, and what it is held against."""

    value: float | None
    verdict: Literal["ok", "warn", "stop", "unknown"] = Field(
        description="`unknown` with too few calls."
    )
    warn: float
    stop: float


class TrafficHealth(Answer):
    """What carriers look at, over the newest outbound calls."""

    tenant_id: str
    calls: int = Field(
        description="Attempts that the figures are drawn from: 100 at most, of 24 h."
    )
    calls_min: int
    figures: dict[str, Judged]


@blueprint.get("/v2/tenants/<tenant_id>/traffic-health")
@operation(
    name="getTrafficHealth",
    about="Figures",
    query=HealthQuery,
    answers={200: TrafficHealth},
    problems=["not-found"],
)
async def get_traffic_health(tenant_id: str) -> Response:
    """How healthy the tenant's outbound traffic looks to carriers"""
    query = read_query(HealthQuery)
    await _tenant(tenant_id)
    now = dependencies().clock.now()
    figures = await dependencies().store.read(health.traffic, tenant_id, now, query.from_)
    verdicts = health.judge(figures)
    shown = TrafficHealth(
        tenant_id=tenant_id,
        calls=figures.calls,
        calls_min=health.CALLS_MIN,
        figures={
            one.figure: Judged.model_validate(
                {
                    "value": getattr(figures, one.figure),
                    "verdict": verdicts[one.figure],
                    "warn": one.warn,
                    "stop": one.stop,
                }
            )
            for one in health.THRESHOLDS
        },
    )
    return answer(shown)


async def _tenant(tenant_id: str) -> None:
    """It exists, and who asks may see it. Raises Problem (404)."""
    require_visible(tenant_id, lambda: _no_tenant(tenant_id))
    if await dependencies().store.read(tenants.get, tenant_id) is None:
        raise _no_tenant(tenant_id)


def _no_tenant(tenant_id: str) -> Problem:
    return not_found(f"there is no tenant {tenant_id}")


# ---- what providers told of ----------------------------------------------------------------------


class ProviderEventsQuery(PageQuery):
    """Filters of the list."""

    tenant_id: str | None = None
    agent_id: str | None = Field(None, max_length=64)
    call_id: str | None = Field(None, max_length=64)
    call_sid: str | None = Field(None, max_length=64)
    level: Literal["error", "warning", "notice"] | None = None
    code: int | None = Field(None, ge=0, le=2**31 - 1)
    since: Instant | None = Field(None, description="At or after.")
    until: Instant | None = Field(None, description="Before.")


@blueprint.get("/v2/provider-events")
@operation(
    name="listProviderEvents",
    about="Figures",
    query=ProviderEventsQuery,
    answers={200: listing(ProviderEvent)},
    problems=["not-found"],
)
async def list_provider_events() -> Response:
    """List what providers complained about, the newest first"""
    query = read_query(ProviderEventsQuery)
    names = ("agent_id", "call_id", "call_sid", "level", "code", "since", "until")
    records, cursor = await dependencies().store.read(
        provider_events.list_events,
        tenant_id=visible_tenant(query.tenant_id),
        filters={name: getattr(query, name) for name in names},
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([event_shown(record) for record in records], cursor)
