"""Puts the rules about hours and the oracle side by side, rule by rule, so that no rule covers for another's mistake."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial

from policy import Law, load_rules, packaged
from policy.loader import packaged_zone
from policy.switches import VOICE_IS_NO_DEVICE
from tests.policy import oracle
from tests.policy.oracle_tables import PLACES
from tests.policy.worlds import facts_for, nowhere

DAYS = {
    "wednesday": date(2027, 1, 13),
    "saturday": date(2027, 1, 16),
    "sunday": date(2027, 1, 17),
    "holiday": date(2027, 1, 18),
    "christmas observed": date(2027, 12, 24),
    "good friday": date(2027, 3, 26),
    "clocks go forward": date(2027, 3, 14),
    "clocks go back": date(2027, 11, 7),
    "summer": date(2027, 7, 14),
}
CHANGES_OF_LAW = {"PA": date(2026, 10, 17), "OR": date(2025, 12, 31)}
"""The last day of the law before."""
NAMES = ("time_fed", "time_st", "time_hol", "time_cc")
MINUTE = timedelta(minutes=1)
NOBODYS = "nobody's"


def law_without_states(packs):
    """The same numbers, but nobody knows which state they are in: the strictest row binds."""
    plan = packaged().plan
    made = type(plan).__new__(type(plan))
    made.__dict__.update(plan.__dict__)
    made.state_of_area = {}
    made.destination = made._destination
    return Law(packs, made, packaged_zone, "2026f", "9.0.43")


class Rules:
    """The four rules under one law, each asked by itself."""

    def __init__(self, packs=None):
        self.packs = packs or packaged().packs
        self.law = Law(self.packs, packaged().plan, packaged_zone, "2026f", "9.0.43")
        self._of = {None: self._made(self.law)}

    def _made(self, law):
        return dict(zip(NAMES, load_rules(NAMES, {}, nowhere, law=law), strict=True))

    def permits(self, name, facts, *, state_is_known=True):
        """What the one rule says; all of its results have to allow."""
        if not state_is_known and NOBODYS not in self._of:
            self._of[NOBODYS] = self._made(law_without_states(self.packs))
        answer = self._of[None if state_is_known else NOBODYS][name](facts)
        answers = answer if isinstance(answer, tuple) else (answer,)
        return all(one.outcome == "allow" for one in answers)


def places():
    """Every state with each of its area codes: `(state, number, clocks)`; last nobody's state."""
    found = [
        (state, f"+1{place.split()[0]}5550123", tuple(place.split()[1:]))
        for state, of_state in PLACES.items()
        for place in of_state
    ]
    return [*found, (NOBODYS, "+13125550123", ("C",))]


def differences(rules, place, *, days=DAYS):
    """Where the rules and the oracle do not agree: `(rule, devices, instant)`."""
    state, number, clocks = place
    known = state != NOBODYS
    for at in moments(state, clocks, tuple(days.values())):
        for devices in (True, False):
            facts = replace(sale(number, devices=devices), at=at)
            if rules.permits("time_fed", facts) is not oracle.federal(clocks, at):
                yield "TIME-FED", devices, at
            permits = rules.permits("time_st", facts, state_is_known=known) and rules.permits(
                "time_hol", facts, state_is_known=known
            )
            if permits is not oracle.of_state(state, clocks, at, devices=devices):
                yield "TIME-ST", devices, at
        closed = not rules.permits("time_hol", facts, state_is_known=known)
        if closed is not oracle.is_closed_day(state, clocks, at):
            yield "TIME-HOL", False, at


@lru_cache(maxsize=512)
def moments(state, clocks, days):
    """Each end of a window with the minute before, and every third hour, on each of the days."""
    found = set()
    for day in days:
        start = datetime(day.year, day.month, day.day, 4, tzinfo=UTC)
        found |= {start + n * timedelta(hours=3) for n in range(11)}
        for opinion in (
            partial(oracle.federal, clocks),
            partial(oracle.of_state, state, clocks, devices=True),
            partial(oracle.of_state, state, clocks, devices=False),
        ):
            for edge in oracle.edges(opinion, day):
                found |= {edge - MINUTE, edge, edge + MINUTE}
    return sorted(found)


@lru_cache(maxsize=256)
def sale(number, *, devices):
    """Somebody who consented to be sold something; the instant is to be set."""
    facts = facts_for(number, datetime(2027, 1, 1, tzinfo=UTC), purpose="marketing")
    if devices:
        return facts
    return replace(facts, tenant=replace(facts.tenant, switches=frozenset({VOICE_IS_NO_DEVICE})))
