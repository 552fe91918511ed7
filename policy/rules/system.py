"""SYS-*: what has to work before anything else can be judged; TEN-*: the tenant's and the agent's state."""

from __future__ import annotations

from datetime import timedelta

from policy.pack import states_of
from policy.rules.base import ALL_DIRECTIONS, DIALLED, Answer, Ask, Day, Define, Number
from policy.switches import REGISTRATION_WARNS

_STEP_MAX_MS = 2000


def _store(ask: Ask) -> Answer:
    """A call that cannot be recorded is none; it holds for every direction."""
    readable = ask.facts.store_readable
    if readable:
        return ask.say.allow("store_readable", store_readable=True)
    return ask.say.deny("store_unreadable", store_readable=False)


def _clock(ask: Ask) -> Answer:
    clock = ask.facts.clock
    if clock is None or clock.is_synchronised is None:
        return ask.say.missing("clock.is_synchronised")
    inputs = {"synchronised": clock.is_synchronised, "stepped_ms": clock.stepped_ms}
    if not clock.is_synchronised:
        return ask.say.deny("clock_unsynchronised", **inputs)
    if abs(clock.stepped_ms) > _STEP_MAX_MS:
        return ask.say.deny("clock_stepped", **inputs)
    return ask.say.allow("clock_synchronised", **inputs)


def _tzdata(ask: Ask) -> Answer:
    """Too old by version, or nobody looked for a newer one in `max_age_days`."""
    wanted = ask.law.pack_at(ask.facts.at).tzdata
    known_on = max(filter(None, (wanted.current_on, ask.set["checked_on"])))
    age = ask.facts.at.date() - known_on
    inputs = {
        "version": ask.law.tzdata_version,
        "minimum": wanted.minimum,
        "known_current_on": known_on,
        "age_days": age.days,
    }
    if _order(ask.law.tzdata_version) < _order(wanted.minimum):
        return ask.say.deny("tzdata_too_old", **inputs)
    if age > timedelta(days=min(ask.set["max_age_days"], wanted.max_age_days)):
        return ask.say.deny("tzdata_unchecked", **inputs)
    return ask.say.allow("tzdata_current", **inputs)


def _order(version: str) -> tuple[str, int, str]:
    """`2026f` < `2026z` < `2026za` (the letters go on after z with another z)."""
    return version[:4], len(version), version


def _rules(ask: Ask) -> Answer:
    pack = ask.law.pack_at(ask.facts.at)
    inputs = {"pack": pack.id, "sha256": pack.sha256[:12], "valid_until": pack.valid_until}
    if pack.is_in_force(ask.facts.at):
        return ask.say.allow("pack_in_force", **inputs)
    return ask.say.deny("pack_not_in_force", **inputs)


def _state(ask: Ask) -> Answer:
    tenant, agent = ask.facts.tenant, ask.facts.agent
    if tenant is None:
        return ask.say.missing("tenant")
    if agent is None:
        return ask.say.missing("agent")
    inputs = {"tenant": tenant.state, "agent": agent.state}
    if tenant.state != "active":
        return ask.say.deny("tenant_not_active", **inputs)
    answers = ("live", "degraded") if ask.facts.direction == "inbound" else ("live",)
    if agent.state not in answers:
        return ask.say.deny("agent_not_live", **inputs)
    return ask.say.allow("active", **inputs)


def _registration(ask: Ask) -> Answer:
    tenant = ask.facts.tenant
    pack = ask.law.pack_at(ask.facts.at)
    place = ask.law.place(ask.facts)
    needed = sorted(states_of(pack.registrations, ask.facts.at.date()) & set(place.states))
    if not needed:
        return ask.say.allow("no_registration_needed", states=list(place.states))
    if tenant is None or tenant.registrations is None:
        return ask.say.missing("tenant.registrations")
    lacking = [state for state in needed if state not in tenant.registrations]
    if not lacking:
        return ask.say.allow("registered", states=needed)
    if ask.has_switch(REGISTRATION_WARNS):
        return ask.say.allow("unregistered_warned", states=lacking, switch=REGISTRATION_WARNS)
    return ask.say.deny("unregistered", states=lacking)


RULES = (
    Define("SYS-STORE", 1, _store, directions=ALL_DIRECTIONS, replies=True),
    Define("SYS-CLOCK", 1, _clock, directions=DIALLED, replies=True),
    Define(
        "SYS-TZDATA",
        1,
        _tzdata,
        {"max_age_days": Number(180, 1, 180), "checked_on": Day()},
    ),
    Define("SYS-RULES", 1, _rules, marketing=True),
    Define("TEN-STATE", 1, _state, directions=ALL_DIRECTIONS, replies=True),
    Define("TEN-REG", 1, _registration, marketing=True),
)
