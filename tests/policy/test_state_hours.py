"""Every state's hours against a second, slow opinion: both ends to the minute, on the days that are special."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from policy import evaluate
from policy.facts import Location
from policy.switches import VOICE_IS_NO_DEVICE
from tests.policy import oracle
from tests.policy.law_compared import (
    CHANGES_OF_LAW,
    DAYS,
    MINUTE,
    NOBODYS,
    Rules,
    differences,
    law_without_states,
    places,
    sale,
)
from tests.policy.oracle_tables import ABROAD, PLACES, STATES
from tests.policy.worlds import facts_for, rules

HOURS = rules("time_fed", "time_st", "time_hol", "time_cc", "time_unk", "time_ten")
SHIPPED = Rules()
NAMES_OF_PLACES = [f"{state}-{number[2:5]}" for state, number, _ in places()]


def number_of(state):
    """A number of the state's first area code, with an exchange that no library ties to a town."""
    return f"+1{PLACES[state][0].split()[0]}5550123"


def ask(state, at, *, devices, location=None, number=None):
    """All rules about hours, marketing, for somebody in that state."""
    facts = facts_for(
        number or number_of(state), at, purpose="marketing", location=location or Location()
    )
    if not devices:
        switched = replace(facts.tenant, switches=frozenset({VOICE_IS_NO_DEVICE}))
        facts = replace(facts, tenant=switched)
    return evaluate(HOURS, facts)


def test_all_fifty_states_and_the_district_are_looked_at():
    """So that no row can be forgotten."""
    assert len(PLACES) == 51
    assert set(STATES) - {NOBODYS} <= set(PLACES)


@pytest.mark.parametrize("place", places(), ids=NAMES_OF_PLACES)
def test_hours_are_the_oracles_to_the_minute(place):
    """Federal rule, state and closed days each by themselves, with the rows for devices and without."""
    assert list(differences(SHIPPED, place)) == []


@pytest.mark.parametrize("place", places(), ids=NAMES_OF_PLACES)
def test_all_rules_together_permit_exactly_what_the_oracle_does(place):
    """The whole decision, at every whole hour and the seconds beside it."""
    state, number, clocks = place
    if state == NOBODYS:
        pytest.skip("no number is without a state")
    for name, day in DAYS.items():
        start = datetime(day.year, day.month, day.day, 4, tzinfo=UTC)
        for hour in range(32):
            for second in (-1, 0):
                at = start + timedelta(hours=hour, seconds=second)
                expected = oracle.is_open(
                    state, clocks, at.replace(second=0, microsecond=0), devices=True
                )
                assert ask(state, at, devices=True, number=number).allowed is expected, (name, at)


@pytest.mark.parametrize("state", sorted(CHANGES_OF_LAW))
def test_law_that_changes_does_so_at_midnight_where_the_called_party_is(state):
    """The last evening under the old hours and the first morning under the new ones."""
    day = CHANGES_OF_LAW[state]
    for place in places():
        if place[0] == state:
            days = {"last": day, "first": day + timedelta(days=1)}
            assert list(differences(SHIPPED, place, days=days)) == []


def test_every_day_of_a_year_is_closed_where_the_wall_calendar_says_so():
    """About noon of each day of two years, in every state that closes."""
    for state, number, clocks in places():
        if state not in ("AL", "LA", "PA", "RI", "UT", "SD", "MS", "NY", "TX", NOBODYS):
            continue
        facts = sale(number, devices=False)
        at = datetime(2026, 1, 1, 18, tzinfo=UTC)
        while at.year < 2028:
            closed = not SHIPPED.permits(
                "time_hol", replace(facts, at=at), state_is_known=state != NOBODYS
            )
            assert closed is oracle.is_closed_day(state, clocks, at), (state, at)
            at += timedelta(days=1)


@pytest.mark.parametrize("number", ABROAD)
def test_countries_and_territories_are_open_exactly_when_the_oracle_says_so(number):
    """Every quarter of an hour of a week, of the closed days, and of the days on which clocks change."""
    facts = facts_for(number, datetime(2027, 1, 1, tzinfo=UTC))
    days = {datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in ABROAD[number][2]}
    days |= {datetime(2027, 1, 11, tzinfo=UTC) + timedelta(days=n) for n in range(7)}
    days |= {datetime(2027, 7, 12, tzinfo=UTC), datetime(2027, 3, 28, 0, tzinfo=UTC)}
    days |= {datetime(2027, 10, 31, tzinfo=UTC), datetime(2027, 3, 14, tzinfo=UTC)}
    for day in sorted(days):
        for quarter in range(24 * 4):
            at = day + quarter * timedelta(minutes=15)
            found = all(
                SHIPPED.permits(name, replace(facts, at=at)) for name in ("time_fed", "time_cc")
            )
            assert found is oracle.abroad(number, at), at


@pytest.mark.parametrize("state", PLACES)
def test_retry_time_of_a_state_is_the_oracles_first_open_minute(state):
    """From the evening before each special day: by looking at every minute, no earlier one is open."""
    clocks = tuple(PLACES[state][0].split()[1:])
    opinion = partial(oracle.is_open, state, clocks, devices=False)
    for name in ("saturday", "holiday", "clocks go forward", "summer"):
        day = DAYS[name]
        at = datetime(day.year, day.month, day.day, 3, 30, tzinfo=UTC)
        decision = ask(state, at, devices=False)
        expected = oracle.first_open(opinion, at)
        if decision.outcome == "allow":
            assert expected == at
        else:
            assert (decision.outcome, decision.retry_at) == ("defer", expected)


def test_oracles_hours_of_nobodys_state_are_those_that_all_states_have():
    """A row that is typed by hand and says that it is derived."""
    others = [state for state in PLACES if state != "WA"]  # which bans devices
    for devices, states in ((False, list(PLACES)), (True, others)):
        for day in ("wednesday", "saturday", "sunday", "holiday"):
            start = datetime.combine(DAYS[day], datetime.min.time(), UTC) + timedelta(hours=6)
            for minute in range(0, 24 * 60, 5):
                at = start + minute * MINUTE
                everywhere = all(oracle.of_state(s, ("C",), at, devices=devices) for s in states)
                assert oracle.of_state(NOBODYS, ("C",), at, devices=devices) is everywhere, at


def test_washington_with_the_device_rows_is_closed_for_good():
    """A ban does not end with the night."""
    decision = ask("WA", datetime(2027, 1, 13, 20, tzinfo=UTC), devices=True)
    assert decision.outcome == "deny"
    assert decision.reason == "TIME-ST-WA: device_ban"


def test_two_states_bind_when_address_and_area_code_differ():
    """A New York number at an address in Florida: both rows, the narrower wins."""
    at = datetime(2027, 1, 14, 1, 30, tzinfo=UTC)  # 20:30 in both
    assert ask("NY", at, devices=True).allowed
    decision = ask("NY", at, devices=True, location=Location(state="FL", postcode="33101"))
    assert decision.reason == "TIME-ST-FL: outside_hours"
    assert [one.id for one in decision.rules if one.id.startswith("TIME-ST")] == [
        "TIME-ST-FL",
        "TIME-ST-NY",
    ]


def test_explicit_zone_wins_for_the_time_and_is_forgotten_after_a_year():
    """A 212 number that lives in Honolulu; the state of the area code still binds."""
    at = datetime(2027, 1, 13, 17, 0, tzinfo=UTC)  # noon in New York, seven in Honolulu
    stated = Location(
        zone="Pacific/Honolulu", zone_source="consumer", zone_as_of=at - timedelta(days=30)
    )
    decision = ask("NY", at, devices=True, location=stated)
    assert decision.outcome == "defer"
    assert decision.rules[0].inputs["local"] == {"Pacific/Honolulu": "2027-01-13T07:00:00-10:00"}
    old = Location(
        zone="Pacific/Honolulu", zone_source="consumer", zone_as_of=at - timedelta(days=366)
    )
    assert ask("NY", at, devices=True, location=old).allowed


def test_postcode_of_last_year_adds_its_zones_to_those_of_the_number():
    """Tallahassee is Eastern; 850 is half Central, and whoever gave the postcode may have moved since."""
    at = datetime(2027, 1, 13, 13, 30, tzinfo=UTC)
    number = "+18502220123"
    fresh = Location(postcode="32301", as_of=at - timedelta(days=365))
    assert ask("FL", at, devices=True, location=fresh, number=number).allowed
    for old in (
        Location(postcode="32301", as_of=at - timedelta(days=366)),
        Location(postcode="32301"),
    ):
        decision = ask("FL", at, devices=True, location=old, number=number)
        assert decision.reason == "TIME-FED: outside_hours"
    # A number elsewhere: both places have to allow it, and both states' rules bind.
    moved = Location(postcode="90001", as_of=at - timedelta(days=400))
    decision = ask("NY", at, devices=True, location=moved)
    assert set(decision.rules[0].inputs["local"]) == {"America/Los_Angeles", "America/New_York"}
    assert [one.id for one in decision.rules if one.id.startswith("TIME-ST")] == [
        "TIME-ST-CA",
        "TIME-ST-NY",
    ]


def test_state_that_does_not_exist_binds_like_nobodys():
    """Two letters that are no state must not free a number of an unknown area from the strictest hours."""
    at = datetime(2027, 1, 13, 23, 30, tzinfo=UTC)  # 17:30 in Chicago: too late for Maine's devices
    facts = replace(sale("+13125550123", devices=True), at=at, location=Location(state="ZZ"))
    law = law_without_states(SHIPPED.packs)
    assert law.place(facts).states == ()
    assert law.place(replace(facts, location=Location(state="TX"))).states == ("TX",)
    assert not SHIPPED.permits("time_st", facts, state_is_known=False)
    assert SHIPPED.permits("time_st", facts)  # Illinois


def test_zone_that_nobody_knows_denies_and_names_what_is_missing():
    """A misspelt zone is no zone."""
    at = datetime(2027, 1, 13, 17, 0, tzinfo=UTC)
    decision = ask("NY", at, devices=True, location=Location(zone="Mars/Base", zone_as_of=at))
    assert decision.outcome == "deny"
    assert {one.id for one in decision.rules if one.inputs.get("missing") == "location.zone"} >= {
        "TIME-FED",
        "TIME-UNK",
    }
