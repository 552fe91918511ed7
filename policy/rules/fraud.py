"""FRD-*: toll fraud, velocity and cost. The figures are ours; no law stands behind them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from policy.decision import Obligation
from policy.facts import Usage
from policy.rules.base import DIALLED, VOICE, Answer, Ask, Define, Flag, Number
from policy.rules.frequency import Limit, first_free

_HOUR = timedelta(hours=1)
_USD = 1_000_000
_HOME = frozenset({"US", "CA"})


def _geo(ask: Ask) -> Answer:
    tenant = ask.facts.tenant
    if tenant is None or tenant.regions is None:
        return ask.say.missing("tenant.regions")
    region = ask.law.destination(ask.facts).region
    if region is None or region not in tenant.regions:
        return ask.say.deny("region_not_permitted", region=region, permitted=tenant.regions)
    return ask.say.allow("region_permitted", region=region)


def _provider_geo(ask: Ask) -> Answer:
    """Low risk on, both high-risk groups off, and read back lately."""
    permission = ask.facts.provider_permission
    if permission is None:
        if ask.set["permit_unread"]:
            return ask.say.allow("unread_permitted")
        return ask.say.missing("provider_permission")
    age = ask.facts.known_at - permission.read_at
    if age > timedelta(hours=ask.set["max_age_h"]):
        return ask.say.deny("read_too_long_ago", read_at=permission.read_at)
    if not permission.low_risk_enabled:
        return ask.say.deny("region_off_at_the_provider")
    if permission.high_risk_special_enabled or permission.high_risk_toll_fraud_enabled:
        return ask.say.deny("high_risk_on_at_the_provider")
    return ask.say.allow("as_it_should_be")


def _prefix(ask: Ask) -> Answer:
    prefix = ask.law.destination(ask.facts).prefix
    if prefix is not None:
        return ask.say.deny("prefix_of_the_pack", prefix=prefix)
    risk = ask.facts.prefix_risk
    if risk is None:
        return ask.say.allow("only_the_pack_was_asked")
    if risk.matched is not None:
        return ask.say.deny("high_risk_prefix", prefix=risk.matched)
    if ask.facts.known_at - risk.as_of > timedelta(days=ask.set["max_age_days"]):
        return ask.say.deny("list_too_old", as_of=risk.as_of)
    return ask.say.allow("not_listed", as_of=risk.as_of)


def _usage(ask: Ask) -> Usage | None:
    return ask.facts.usage


def _rate(ask: Ask) -> Answer:
    usage = _usage(ask)
    if usage is None:
        return ask.say.missing("usage")
    limit = (int(ask.set["per_second"]), timedelta(seconds=1))
    free_at = first_free(usage.starts, ask.facts.at, [limit])
    if free_at == ask.facts.at:
        return ask.say.allow("below_rate")
    return ask.say.defer(free_at, "too_fast", per_second=limit[0])


def _concurrent(ask: Ask) -> Answer:
    """Nobody knows when a call ends, so `retry_at` is the moment to look again."""
    usage, tenant = _usage(ask), ask.facts.tenant
    if usage is None:
        return ask.say.missing("usage")
    if tenant is None:
        return ask.say.missing("tenant")
    is_proven = (tenant.clean_days or 0) >= ask.set["clean_days"]
    limit = int(ask.set["proven"] if is_proven else ask.set["new"])
    inputs = {"concurrent": usage.concurrent, "limit": limit}
    again_at = ask.facts.known_at + timedelta(seconds=ask.set["look_again_s"])
    if usage.concurrent >= limit and ask.facts.at < again_at:
        return ask.say.defer(again_at, "too_many_at_once", **inputs)
    return ask.say.allow("below_limit", **inputs)


def _velocity(ask: Ask) -> Answer:
    """Looked at together: the first instant at which all three are below."""
    usage = _usage(ask)
    if usage is None:
        return ask.say.missing("usage")
    kinds = {
        "destinations": (usage.destinations, (int(ask.set["destinations"]), _HOUR)),
        "to_prefix": (usage.to_prefix, (int(ask.set["per_prefix"]), _HOUR)),
        "to_region": (usage.to_region, (int(ask.set["per_region"]), _HOUR)),
    }
    if ask.law.destination(ask.facts).region in _HOME:
        del kinds["to_region"]
    frees = {name: _free(ask, times, limit) for name, (times, limit) in kinds.items()}
    reached = sorted(name for name, free_at in frees.items() if free_at > ask.facts.at)
    if not reached:
        return ask.say.allow("below_limits")
    return ask.say.defer(max(frees.values()), "too_many_an_hour", reached=reached)


def _free(ask: Ask, times: tuple[datetime, ...], limit: Limit) -> datetime:
    return first_free(times, ask.facts.at, [limit])


def _new(ask: Ask) -> Answer:
    tenant, usage = ask.facts.tenant, _usage(ask)
    if tenant is None or tenant.regions is None:
        return ask.say.missing("tenant.regions")
    region = ask.law.destination(ask.facts).region
    if region in ask.law.plan.high_risk_regions and region not in (tenant.approved_regions or ()):
        return ask.say.deny("review: high_risk_region", region=region)
    if usage is None:
        return ask.say.missing("usage")
    approved = tenant.regions if tenant.approved_regions is None else tenant.approved_regions
    if region in approved:
        return ask.say.allow("approved", region=region)
    if usage.region_is_new:
        return ask.say.deny("review: new_region", region=region)
    if usage.prefix_is_new and region not in _HOME:
        return ask.say.deny("review: new_prefix", region=region)
    return ask.say.allow("known", region=region)


def _duration(ask: Ask) -> Answer:
    limit = Obligation("time_limit", {"seconds": int(ask.set["max_s"])})
    return ask.say.allow("limited", limit)


def _silence(ask: Ask) -> Answer:
    duty = Obligation(
        "end_on_silence",
        {"prompt_after_s": int(ask.set["prompt_s"]), "end_after_s": int(ask.set["end_s"])},
    )
    return ask.say.allow("limited", duty)


def _spend(ask: Ask) -> Answer:
    """Judged with the estimate of this call; a day and a month are those of UTC."""
    spend, at = ask.facts.spend, ask.facts.at.astimezone(UTC)
    if spend is None:
        return ask.say.missing("spend")
    known = ask.facts.known_at.astimezone(UTC)
    cost = spend.call_estimate_micro_usd
    of_call = _limit(spend.call_limit_micro_usd, ask.set["call_usd"])
    of_day = _limit(spend.day_limit_micro_usd, ask.set["day_usd"])
    of_month = _limit(spend.month_limit_micro_usd, ask.set["month_usd"])
    day = spend.day_micro_usd if at.date() == known.date() else 0
    is_this_month = (at.year, at.month) == (known.year, known.month)
    month = spend.month_micro_usd if is_this_month else 0
    inputs = {"call": cost, "day": day, "month": month, "limits": [of_call, of_day, of_month]}
    if cost > min(of_call, of_day, of_month):
        return ask.say.deny("call_too_dear", **inputs)
    if month >= of_month or month + cost > of_month:
        first = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
        return ask.say.defer(first, "month_spent", **inputs)
    if day >= of_day or day + cost > of_day:
        midnight = datetime(at.year, at.month, at.day, tzinfo=UTC) + timedelta(days=1)
        return ask.say.defer(midnight, "day_spent", **inputs)
    return ask.say.allow("within_limits", **inputs)


def _limit(of_tenant: int | None, default_usd: float) -> int:
    """A tenant's own limit can lower the default."""
    default = int(default_usd * _USD)
    return default if of_tenant is None else min(default, of_tenant)


def _transfer(ask: Ask) -> Answer:
    listed = ask.facts.transfer_target_listed
    if listed is None:
        return ask.say.missing("transfer_target_listed")
    return ask.say.allow("listed") if listed else ask.say.deny("target_not_listed")


def _kill(ask: Ask) -> Answer:
    tenant = ask.facts.tenant
    if tenant is None:
        return ask.say.missing("tenant")
    return ask.say.deny("stopped") if tenant.is_stopped else ask.say.allow("not_stopped")


def _trigger(ask: Ask) -> Answer:
    tenant = ask.facts.tenant
    if tenant is None:
        return ask.say.missing("tenant")
    if tenant.usage_trigger_fired:
        return ask.say.deny("review: usage_trigger")
    return ask.say.allow("no_trigger")


_LOOK_AGAIN = Number(30, 1, 3600)
_TRANSFERS = frozenset({"transfer"})

RULES = (
    Define("FRD-KILL", 1, _kill, directions=DIALLED),
    Define("FRD-TRIG", 1, _trigger, directions=DIALLED),
    Define("FRD-GEO", 1, _geo, directions=DIALLED),
    Define(
        "FRD-TWGEO",
        1,
        _provider_geo,
        {"permit_unread": Flag(False), "max_age_h": Number(48, 1, 168)},
        directions=DIALLED,
        channels=VOICE,
    ),
    Define("FRD-PREFIX", 2, _prefix, {"max_age_days": Number(14, 1, 31)}, directions=DIALLED),
    Define("FRD-NEW", 1, _new, directions=DIALLED),
    Define("FRD-CPS", 1, _rate, {"per_second": Number(1, 1, 100)}, channels=VOICE, recheck=False),
    Define(
        "FRD-CONC",
        1,
        _concurrent,
        {
            "new": Number(5, 1, 1000),
            "proven": Number(20, 1, 1000),
            "clean_days": Number(30, 1, 365),
            "look_again_s": _LOOK_AGAIN,
        },
        channels=VOICE,
        recheck=False,
    ),
    Define(
        "FRD-VEL",
        1,
        _velocity,
        {
            "destinations": Number(60, 1, 1000),
            "per_prefix": Number(10, 1, 1000),
            "per_region": Number(20, 1, 1000),
        },
        directions=DIALLED,
        recheck=False,
    ),
    Define(
        "FRD-SPEND",
        1,
        _spend,
        {
            "call_usd": Number(5, 0.01, 100, whole=False),
            "day_usd": Number(50, 0.01, 100_000, whole=False),
            "month_usd": Number(500, 0.01, 1_000_000, whole=False),
        },
        directions=DIALLED,
        recheck=False,
    ),
    Define("FRD-XFER", 1, _transfer, directions=_TRANSFERS),
    Define(
        "FRD-DUR",
        1,
        _duration,
        {"max_s": Number(1800, 60, 14_400)},
        directions=DIALLED,
        channels=VOICE,
    ),
    Define(
        "FRD-SILENT",
        1,
        _silence,
        {"prompt_s": Number(30, 5, 300), "end_s": Number(60, 10, 600)},
        channels=VOICE,
    ),
)
