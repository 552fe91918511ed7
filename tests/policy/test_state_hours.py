"""Every state's hours against a second, slow opinion: both ends to the minute, on the days that are special."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from policy import evaluate, packaged
from policy.facts import Location
from policy.switches import VOICE_IS_NO_DEVICE
from tests.policy import oracle
from tests.policy.worlds import facts_for, rules

ROOT = Path(__file__).resolve().parents[2]
NUMBERING = tomllib.loads(
    (ROOT / "policy" / "packs" / "numbering.toml").read_text(encoding="utf-8")
)
STATES = sorted(NUMBERING["area_codes"])
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
HOURS = rules("time_fed", "time_st", "time_hol", "time_cc", "time_unk", "time_ten")
MINUTE = timedelta(minutes=1)


def number_of(state):
    """A number of the state's first area code, with an exchange that no library ties to a town."""
    return f"+1{NUMBERING['area_codes'][state][0]}5550123"


def ask(state, at, *, devices, location=None):
    """All rules about hours, marketing, for somebody in that state."""
    facts = facts_for(number_of(state), at, purpose="marketing", location=location or Location())
    if not devices:
        tenant = facts.tenant
        switched = type(tenant)(
            **{name: getattr(tenant, name) for name in tenant.__slots__}
            | {"switches": frozenset({VOICE_IS_NO_DEVICE})}
        )
        facts = facts_for(
            number_of(state),
            at,
            purpose="marketing",
            tenant=switched,
            location=location or Location(),
        )
    return evaluate(HOURS, facts)


def zones_of(state):
    return packaged().place(facts_for(number_of(state), datetime(2027, 1, 1, tzinfo=UTC))).zones


def test_all_fifty_states_and_the_district_are_looked_at():
    """So that no row can be forgotten."""
    assert len(STATES) == 51


@pytest.mark.parametrize("devices", [True, False], ids=["device-rows", "without"])
@pytest.mark.parametrize("state", STATES)
def test_state_is_open_exactly_when_the_oracle_says_so(state, devices):
    """The minute before, at and after each end, and every hour between, on each kind of day."""
    zones = zones_of(state)
    compared = 0
    for name, day in DAYS.items():
        moments = set()
        for edge in oracle.edges(state, zones, day, devices=devices):
            moments |= {edge - MINUTE, edge, edge + MINUTE, edge - timedelta(seconds=1)}
        start = datetime(day.year, day.month, day.day, 4, tzinfo=UTC)
        moments |= {start + n * timedelta(hours=1) for n in range(32)}
        for at in sorted(moments):
            floor = at.replace(second=0)
            expected = oracle.is_open(state, zones, floor, devices=devices)
            assert ask(state, at, devices=devices).allowed is expected, (name, at)
            compared += 1
    assert compared >= len(DAYS) * 32


@pytest.mark.parametrize("state", STATES)
def test_retry_time_of_a_state_is_the_oracles_first_open_minute(state):
    """From the evening before each special day: by looking at every minute, no earlier one is open."""
    zones = zones_of(state)
    for name in ("saturday", "holiday", "clocks go forward", "summer"):
        day = DAYS[name]
        at = datetime(day.year, day.month, day.day, 3, 30, tzinfo=UTC)
        decision = ask(state, at, devices=False)
        expected = oracle.first_open(state, zones, at, devices=False)
        if decision.outcome == "allow":
            assert expected == at
        else:
            assert (decision.outcome, decision.retry_at) == ("defer", expected)


FIGURES = {
    "AL": "8-20 8-20 closed",
    "CT": "9-20",
    "FL": "8-20",
    "KY": "10-21",
    "LA": "8-20 8-20 closed",
    "MA": "8-20",
    "MD": "8-20",
    "MI": "9-21",
    "MN": "9-21",
    "MS": "8-20 8-20 closed",
    "NM": "9-21",
    "NV": "9-20",
    "OK": "8-20",
    "OR": "8-20",
    "PA": "9-19 9-19 closed",
    "RI": "9-18 10-17 closed",
    "SD": "9-21 9-21 closed",
    "TX": "9-21 9-21 12-21",
    "UT": "8-21 8-21 closed",
    "WA": "8-20",
    "WY": "8-20",
}
CLOSED_ON_HOLIDAYS = {"AL", "LA", "PA", "RI", "UT"}


@pytest.mark.parametrize("state", STATES)
def test_figures_of_the_pack_are_those_of_the_statutes(state):
    """Typed a second time, from the statutes' table; states that are not here have the federal 8-21."""
    parts = (FIGURES.get(state, "8-21").split() * 3)[:3]
    for day, text in zip(
        (date(2027, 1, 13), date(2027, 1, 16), date(2027, 1, 17)), parts, strict=True
    ):
        for hour in range(24):
            at = datetime(day.year, day.month, day.day, hour, tzinfo=UTC) + timedelta(hours=6)
            start, end = (0, 0) if text == "closed" else map(int, text.split("-"))
            is_open = max(start, 8) <= hour < min(end, 21)
            assert oracle.is_open(state, ("America/Chicago",), at, devices=False) is is_open, (
                day,
                hour,
            )
    noon = datetime(2027, 1, 18, 18, tzinfo=UTC)
    is_open = oracle.is_open(state, ("America/Chicago",), noon, devices=False)
    assert is_open is (state not in CLOSED_ON_HOLIDAYS)


def test_washington_with_the_device_rows_is_closed_for_good():
    """A ban does not end with the night."""
    decision = ask("WA", datetime(2027, 1, 13, 20, tzinfo=UTC), devices=True)
    assert decision.outcome == "deny"
    assert decision.reason == "TIME-ST-WA: device_ban"


def test_hours_of_the_unknown_state_are_the_intersection_of_all_states():
    """A row that is written by hand and says that it is derived."""
    zone = ("America/Chicago",)
    for day in ("wednesday", "saturday", "sunday", "holiday"):
        start = datetime.combine(DAYS[day], datetime.min.time(), UTC) + timedelta(hours=6)
        for minute in range(0, 24 * 60, 5):
            at = start + minute * MINUTE
            everywhere = all(oracle.is_open(s, zone, at, devices=False) for s in STATES)
            assert oracle.is_open("STRICTEST", zone, at, devices=False) is everywhere, at


def test_device_hours_of_the_unknown_state_are_no_wider_than_any_state_but_the_one_with_a_ban():
    """Washington bans such calls; the derived row stands for the others."""
    zone = ("America/Chicago",)
    others = [state for state in STATES if state != "WA"]
    for day in ("wednesday", "saturday", "sunday", "holiday"):
        start = datetime.combine(DAYS[day], datetime.min.time(), UTC) + timedelta(hours=6)
        for minute in range(0, 24 * 60, 5):
            at = start + minute * MINUTE
            everywhere = all(oracle.is_open(s, zone, at, devices=True) for s in others)
            assert oracle.is_open("STRICTEST", zone, at, devices=True) is everywhere, at


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


def test_zone_that_nobody_knows_denies_and_names_what_is_missing():
    """A misspelt zone is no zone."""
    at = datetime(2027, 1, 13, 17, 0, tzinfo=UTC)
    decision = ask("NY", at, devices=True, location=Location(zone="Mars/Base", zone_as_of=at))
    assert decision.outcome == "deny"
    assert {one.id for one in decision.rules if one.inputs.get("missing") == "location.zone"} >= {
        "TIME-FED",
        "TIME-UNK",
    }
