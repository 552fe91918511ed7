"""TIME-*: the hours of federal law, states, countries and the tenant, where the called party may be.

A call is permitted only if it is permitted in every candidate zone. Each rule defers to the first instant at
which it alone would allow; the engine finds the one at which all do.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from policy.decision import RuleResult
from policy.facts import Hours
from policy.hours import Mode, Schedule
from policy.law import Place
from policy.pack import STRICTEST, HoursRow, RulePack, Windows
from policy.rules.base import Answer, Ask, Define, Number, Say
from policy.switches import EMERGENCY_CALLS, STATE_HOURS_FOR_ALL, VOICE_IS_NO_DEVICE

_TENANTS_KEPT = 256
_NO_ZONE = "location.zone"


def _federal(ask: Ask) -> Answer:
    pack, place = _law_of(ask)
    if not pack.is_federal(place.region):
        return ask.say.allow("other_country", region=place.region)
    return _judged(ask, ask.say, pack.countries[place.region or ""], "all", place)


def _country(ask: Ask) -> Answer:
    pack, place = _law_of(ask)
    if pack.is_federal(place.region):
        return ask.say.allow("federal", region=place.region)
    rows = pack.countries.get(place.region or "", ())
    if not rows:
        return ask.say.deny("no_country_rules", region=place.region)
    return _judged(ask, ask.say.of(str(place.region)), rows, "all", place)


def _states(ask: Ask) -> Answer:
    return _by_state(ask, "open_days")


def _closed_days(ask: Ask) -> Answer:
    return _by_state(ask, "closed_days")


def _by_state(ask: Ask, mode: Mode) -> Answer:
    pack, place = _law_of(ask)
    if not binds_by_state(ask, pack, place):
        return ask.say.allow("not_bound", purpose=ask.facts.judged_purpose)
    results = []
    for state in states_that_bind(place):
        rows = rows_of_state(ask, pack, state)
        if rows:
            results.append(_judged(ask, ask.say.of(state), rows, mode, place))
    return tuple(results) or ask.say.allow("no_state_row", states=list(place.states))


def _unknown(ask: Ask) -> Answer:
    place = ask.law.place(ask.facts)
    if place.zones:
        return ask.say.allow("zones_known", zones=list(place.zones), basis=place.basis)
    return ask.say.missing(_NO_ZONE)


def _tenant(ask: Ask) -> Answer:
    tenant = ask.facts.tenant
    if tenant is None:
        return ask.say.missing("tenant")
    if tenant.hours is None and not tenant.closed_dates:
        return ask.say.allow("no_own_hours")
    row = tenant_row(tenant.hours, tenant.closed_dates)
    return _judged(ask, ask.say, (row,), "all", ask.law.place(ask.facts))


def _margin(ask: Ask) -> Answer:
    """Judged at accept and at dialling; once it rings it is too late to wait."""
    margin = timedelta(seconds=ask.set["base_s"] + max(ask.facts.queue_wait_s, 0.0))
    everything = whole_schedule(ask)
    inputs = {"margin_s": margin.total_seconds(), "queue_wait_s": ask.facts.queue_wait_s}
    if not everything.permitted(ask.facts.at):
        return ask.say.allow("not_open", **inputs)
    if everything.is_open_for(ask.facts.at, margin):
        return ask.say.allow("enough_left", **inputs)
    retry_at = everything.next_open(ask.facts.at, margin)
    if retry_at is None:
        return ask.say.deny("never_open_long_enough", **inputs)
    return ask.say.defer(retry_at, "window_ends_soon", **inputs)


# ---- which rows bind -------------------------------------------------------------------------------


def whole_schedule(ask: Ask) -> Schedule:
    """Everything that the rules of this file ask for, together."""
    pack, place = _law_of(ask)
    if _is_emergency(ask):
        return ask.law.schedule((), place.zones)
    rows = list(pack.countries.get(place.region or "", ()))
    if binds_by_state(ask, pack, place):
        for state in states_that_bind(place):
            rows += (row for row in rows_of_state(ask, pack, state) if not row.is_ban)
    tenant = ask.facts.tenant
    if tenant is not None and (tenant.hours is not None or tenant.closed_dates):
        rows.append(tenant_row(tenant.hours, tenant.closed_dates))
    return ask.law.schedule(tuple(rows), place.zones)


def binds_by_state(ask: Ask, pack: RulePack, place: Place) -> bool:
    """State hours bind marketing, and other calls where the tenant wants it so."""
    is_meant = ask.is_marketing or ask.has_switch(STATE_HOURS_FOR_ALL)
    return is_meant and not _is_emergency(ask) and pack.is_federal(place.region)


def states_that_bind(place: Place) -> tuple[str, ...]:
    """Of the address and of the area code; nobody's state is the strictest."""
    return place.states or (STRICTEST,)


def rows_of_state(ask: Ask, pack: RulePack, state: str) -> tuple[HoursRow, ...]:
    """With the rows for announcing devices, unless an operator turned them off; a message is none."""
    rows = pack.states.get(state, ())
    if ask.facts.channel == "voice" and not ask.has_switch(VOICE_IS_NO_DEVICE):
        return rows + pack.devices.get(state, ())
    return rows


@lru_cache(maxsize=_TENANTS_KEPT)
def tenant_row(hours: tuple[Hours, ...] | None, closed: frozenset[date]) -> HoursRow:
    """The tenant's own hours as a row."""
    days: tuple[Windows, ...] = (((0, 24 * 60),),) * 7
    if hours is not None:
        days = tuple(
            tuple(sorted((one.start_min, one.end_min) for one in hours if weekday in one.weekdays))
            for weekday in range(7)
        )
    return HoursRow("the tenant", date.min, key="tenant", days=days, closed_dates=closed)


# ---- judging ---------------------------------------------------------------------------------------


def _judged(ask: Ask, say: Say, rows: tuple[HoursRow, ...], mode: Mode, place: Place) -> RuleResult:
    if _is_emergency(ask):
        return say.allow("emergency", switch=EMERGENCY_CALLS)
    if not place.zones:
        return say.missing(_NO_ZONE)
    at = ask.facts.at
    for row in rows:
        if row.is_ban and row.holds_on(at.date()):
            if mode == "closed_days":
                continue
            return say.deny("device_ban", source=row.source)
    within = ask.law.schedule(tuple(row for row in rows if not row.is_ban), place.zones, mode)
    if within.permitted(at):
        return say.allow("within_hours", zones=list(place.zones))
    retry_at = within.next_open(at)
    inputs = {
        "local": {zone: _local(ask, zone, at) for zone in place.zones},
        "basis": place.basis,
        "sources": [row.source for row in rows],
    }
    if retry_at is None:
        return say.deny("never_open", **inputs)
    return say.defer(retry_at, "closed_day" if mode == "closed_days" else "outside_hours", **inputs)


def _local(ask: Ask, name: str, at: datetime) -> str:
    zone = ask.law.zone(name)
    return at.astimezone(zone or UTC).isoformat(timespec="seconds")


def _law_of(ask: Ask) -> tuple[RulePack, Place]:
    return ask.law.pack_at(ask.facts.at), ask.law.place(ask.facts)


def _is_emergency(ask: Ask) -> bool:
    return ask.facts.judged_purpose == "emergency"


RULES = (
    Define("TIME-FED", 1, _federal),
    Define("TIME-ST", 1, _states, needs=("time_hol",)),
    Define("TIME-HOL", 1, _closed_days, needs=("time_st",)),
    Define("TIME-CC", 1, _country),
    Define("TIME-UNK", 1, _unknown),
    Define("TIME-TEN", 1, _tenant),
    Define("TIME-MARGIN", 1, _margin, {"base_s": Number(120, 0, 3600)}, recheck=False),
)
