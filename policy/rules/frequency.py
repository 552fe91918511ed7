"""FREQ-*: how often one number may be tried. Rolling windows of elapsed time, never calendar days.

Attempts that ring count, whatever caller id they came from. The attempt that is judged is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import lru_cache

from policy.decision import RuleResult
from policy.facts import Attempt
from policy.rules.base import VOICE, Answer, Ask, Define, Number, Say
from policy.rules.calling_hours import binds_by_state, states_that_bind
from policy.rules.consent import is_exempt
from policy.rules.consent_kinds import for_channel
from policy.switches import VOICE_IS_NO_DEVICE

DAY, WEEK = timedelta(days=1), timedelta(days=7)
Limit = tuple[int, timedelta]


def rolling(times: Iterable[datetime], at: datetime, limit: Limit) -> datetime | None:
    """None while fewer than the limit lie within the last `window`; else the first instant of it."""
    most, window = limit
    recent = sorted(time for time in times if time > at - window)
    return recent[len(recent) - most] + window if len(recent) >= most else None


def first_free(times: Iterable[datetime], at: datetime, limits: Iterable[Limit]) -> datetime:
    """The first instant, `at` included, that keeps all limits."""
    times, limits = list(times), list(limits)
    while True:
        later = [free for limit in limits if (free := rolling(times, at, limit)) is not None]
        if not later:
            return at
        at = max(later)


@lru_cache(maxsize=64)
def _shown(limits: tuple[Limit, ...]) -> tuple[str, ...]:
    return tuple(f"{most} in {window.total_seconds() / 3600:g} h" for most, window in limits)


def _counted(say: Say, ask: Ask, counts: Callable[[Attempt], bool], *limits: Limit) -> RuleResult:
    attempts = ask.facts.attempts
    if attempts is None:
        return say.missing("attempts")
    at = ask.facts.at
    times = [one.at for one in attempts if counts(one)]
    free_at = first_free(times, at, limits)
    inputs = {
        "limits": list(_shown(limits)),
        "counted": [sum(time > at - window for time in times) for _, window in limits],
    }
    if free_at == at:
        return say.allow("below_limit", **inputs)
    return say.defer(free_at, "limit_reached", **inputs)


def _same_matter(ask: Ask) -> Callable[[Attempt], bool]:
    """Same seller and subject, as far as both are known; solicitations alone."""
    facts = ask.facts
    seller = facts.seller

    def counts(one: Attempt) -> bool:
        return (
            one.purpose in (None, "marketing")
            and (seller is None or one.seller is None or one.seller.casefold() == seller.casefold())
            and (facts.subject is None or one.subject in (None, facts.subject))
        )

    return counts


def _by_state(ask: Ask) -> Answer:
    pack, place = ask.law.pack_at(ask.facts.at), ask.law.place(ask.facts)
    if not binds_by_state(ask, pack, place):
        return ask.say.allow("not_bound")
    with_devices = ask.facts.channel == "voice" and not ask.has_switch(VOICE_IS_NO_DEVICE)
    results = []
    for state in states_that_bind(place):
        limits = [
            (row.attempts, timedelta(hours=row.hours))
            for row in pack.caps.get(state, ())
            if row.holds_on(ask.facts.at.date()) and (with_devices or not row.is_device)
        ]
        if limits:
            results.append(_counted(ask.say.of(state), ask, _same_matter(ask), *limits))
    return tuple(results) or ask.say.allow("no_state_cap")


def _by_country(ask: Ask) -> Answer:
    pack, region = ask.law.pack_at(ask.facts.at), ask.law.place(ask.facts).region
    rows = [
        row for row in pack.country_caps.get(region or "", ()) if row.holds_on(ask.facts.at.date())
    ]
    if not rows:
        return ask.say.allow("no_country_cap")
    limits = [(row.attempts, timedelta(hours=row.hours)) for row in rows]
    return _counted(ask.say.of(str(region)), ask, _same_matter(ask), *limits)


def _exempt(ask: Ask) -> Answer:
    """47 CFR 64.1200(a)(3)(ii)-(v): without consent to a landline 3 in 30 days; HIPAA 1 a day, 3 a week."""
    if not is_exempt(ask) or for_channel(ask.facts):
        return ask.say.allow("not_exempt")
    if ask.facts.judged_purpose == "healthcare_hipaa":
        return _counted(ask.say, ask, _any, (1, DAY), (3, WEEK))
    return _counted(ask.say, ask, _any, (3, timedelta(days=30)))


def _any(_one: Attempt) -> bool:
    return True


def _debt(ask: Ask) -> Answer:
    """12 CFR 1006.14(b)(2): seven attempts in seven days a debt, and none within seven days of a talk."""
    if ask.facts.judged_purpose != "debt_collection":
        return ask.say.allow("no_debt")
    if ask.facts.attempts is None:
        return ask.say.missing("attempts")
    debt, at = ask.facts.debt_id, ask.facts.at

    def counts(one: Attempt) -> bool:
        return one.purpose in (None, "debt_collection") and (
            debt is None or one.debt_id in (None, debt)
        )

    counted = [one for one in ask.facts.attempts if counts(one)]
    talks = [one.at for one in counted if one.had_conversation]
    free_at = at
    while True:
        later = first_free((one.at for one in counted), free_at, [(7, WEEK)])
        later = first_free(talks, later, [(1, WEEK)])
        if later == free_at:
            break
        free_at = later
    inputs = {"attempts": len(counted), "last_conversation": max(talks, default=None)}
    if free_at == at:
        return ask.say.allow("below_limit", **inputs)
    return ask.say.defer(free_at, "limit_reached", **inputs)


def _tenant(ask: Ask) -> Answer:
    """Our own cap: no law stands behind it."""
    channel = ask.facts.channel
    return _counted(
        ask.say,
        ask,
        lambda one: one.channel == channel,
        (int(ask.set["per_day"]), DAY),
        (int(ask.set["per_week"]), WEEK),
    )


def _in_flight(ask: Ask) -> Answer:
    """Nobody knows when the other call ends, so `retry_at` is the moment to look again."""
    if ask.facts.in_flight is None:
        return ask.say.missing("in_flight")
    again_at = ask.facts.known_at + timedelta(seconds=ask.set["look_again_s"])
    if ask.facts.in_flight and ask.facts.at < again_at:
        return ask.say.defer(again_at, "in_flight", calls=ask.facts.in_flight)
    return ask.say.allow("none_in_flight")


RULES = (
    Define("FREQ-ST", 1, _by_state, recheck=False),
    Define("FREQ-CC", 1, _by_country, marketing=True, recheck=False),
    Define("FREQ-EXEMPT", 1, _exempt, channels=VOICE, recheck=False),
    Define("FREQ-DEBT", 1, _debt, channels=VOICE, recheck=False),
    Define(
        "FREQ-TEN",
        1,
        _tenant,
        {"per_day": Number(2, 1, 10), "per_week": Number(5, 1, 40)},
        recheck=False,
    ),
    Define(
        "FREQ-INFLIGHT",
        1,
        _in_flight,
        {"look_again_s": Number(60, 1, 3600)},
        channels=VOICE,
        recheck=False,
    ),
)
