"""A wrong figure in the rule pack is noticed: each one is made wrong, one at a time, and the oracle has to object."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from policy.pack_reading import PackError, read_pack
from tests.policy import oracle
from tests.policy.law_compared import (
    CHANGES_OF_LAW,
    DAYS,
    NOBODYS,
    Rules,
    differences,
    places,
    sale,
)
from tests.policy.oracle_tables import ABROAD, CLOSED_ON_HOLIDAYS

PACK = Path(__file__).resolve().parents[2] / "policy" / "packs" / "law_2026_11.toml"
LINES = PACK.read_text(encoding="utf-8").splitlines()
UNSEEN = {
    "country": set(),
    "state": {
        # In Mississippi two clocks have to allow it, and the one covers for the other.
        ("MS", 'daily = "7-20"'),
        ("MS", 'daily = "8-21"'),
        ("MS", 'mon_fri = "7-20"'),
        ("MS", 'mon_fri = "8-21"'),
        ("MS", 'sat = "7-20"'),
        ("MS", 'sat = "8-21"'),
        # Both rows on the first day of the narrower one.
        ("PA", "valid_to = 2026-10-19"),
    },
    "device": {
        # The row of the state is as narrow or narrower.
        ("IL", 'daily = "9-22"'),
        ("GA", 'daily = "8-22"'),
        ("NE", 'mon_fri = "7-21"'),
        ("NE", 'mon_fri = "8-22"'),
        ("NE", 'sat = "7-21"'),
        ("NE", 'sat = "8-22"'),
        ("NE", 'sun = "13-22"'),
        ("NE", 'holidays = "13-22"'),
        ("STRICTEST", 'mon_fri = "9-17"'),
        ("STRICTEST", 'sun = "8-21"'),
        ("STRICTEST", 'holidays = "8-21"'),
    },
}
"""What changes no answer, because another row forbids it too. Anything else that goes unnoticed is a fault."""
UNSEEN_DAYS = {'  { name = "Veterans Day", fixed = [11, 11] },'}
"""Falls on no weekend in the years of the pack."""


def rows_of_hours():
    """`(table, key, line number)` of each line in a row of hours."""
    table = key = ""
    for number, line in enumerate(LINES):
        if line.startswith("["):
            table, key = line.strip("[]"), ""
        elif match := re.fullmatch(r'(?:state|region) = "(\w+)"', line):
            key = match[1]
        if table in ("country", "state", "device") and key:
            yield table, key, number


def wrong_hours(line):
    """The line with one figure an hour off, or closed hours opened."""
    name, _, text = line.partition(" = ")
    if text == '"closed"':
        yield f'{name} = "8-21"'
        return
    for match in re.finditer(r"\d+", text):
        for changed in (int(match[0]) - 1, int(match[0]) + 1):
            if match[0] != "30":
                yield f"{name} = {text[: match.start()]}{changed}{text[match.end() :]}"


def mutants():
    """`(table, key, line number, the wrong line)`."""
    for table, key, number in rows_of_hours():
        line = LINES[number].partition("  #")[0].rstrip()
        if re.match("(mon_fri|sat|sun|daily|holidays) = ", line):
            for wrong in wrong_hours(line):
                yield table, key, number, wrong
        elif re.match("valid_(from|to) = ", line):
            day = date.fromisoformat(line.split()[-1])
            for days in (-1, 1):
                yield table, key, number, f"{line.split()[0]} = {day + timedelta(days=days)}"
        elif line == "ban = true":
            yield table, key, number, 'daily = "8-21"'
        elif line.startswith("zone = "):
            yield table, key, number, ""


def packs_with(number, line):
    """The shipped pack with this one line."""
    changed = [*LINES[:number], line, *LINES[number + 1 :]]
    return (read_pack("\n".join(changed).encode()),)


def objects(rules, table, key):
    """Whether the oracle sees it: in the states and numbers that the row is about."""
    if table == "country" and key != "US":
        return any(_abroad_differs(rules, number) for number in NUMBERS[key])
    state = {"US": "NY", "STRICTEST": NOBODYS}.get(key, key)
    for place in places():
        if place[0] != state:
            continue
        if any(differences(rules, place)):
            return True
        if state in CHANGES_OF_LAW:
            day = CHANGES_OF_LAW[state]
            days = {"last": day, "first": day + timedelta(days=1), "next": day + timedelta(days=2)}
            return any(differences(rules, place, days=days))
    return False


NUMBERS = {
    "CA": ["+14165550123"],
    "GB": ["+442071838750"],
    "AU": ["+61732345678"],
    "DE": ["+49301234567"],
    "FR": ["+33142685300"],
}


def _abroad_differs(rules, number):
    facts = replace(sale(number, devices=True), purpose="informational")
    days = [datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in ABROAD[number][2]]
    days += [datetime(2027, 1, 11, tzinfo=UTC) + timedelta(days=n) for n in range(7)]
    for day in days:
        for half in range(48):
            at = day + half * timedelta(minutes=30)
            permits = rules.permits("time_cc", replace(facts, at=at))
            if permits is not oracle.abroad(number, at):
                return True
    return False


@pytest.mark.parametrize("table", ["country", "state", "device"])
def test_every_figure_of_hours_that_is_wrong_by_an_hour_or_a_day_is_noticed(table):
    """Opening and closing hours, closed days, the day on which a law begins, a ban, a fixed clock."""
    found, looked_at = set(), 0
    for of_table, key, number, wrong in mutants():
        if of_table != table:
            continue
        try:
            packs = packs_with(number, wrong)
        except PackError:
            continue  # the loader objects
        looked_at += 1
        if not objects(Rules(packs), table, key):
            found.add((key, wrong))
    assert looked_at > {"country": 25, "state": 120, "device": 20}[table]
    assert found - UNSEEN[table] == set()


def holiday_lines():
    """Lines of single days in the calendars of American states and of the federation."""
    calendar = ""
    for number, line in enumerate(LINES):
        if match := re.match('calendar = "(\\w+)"', line):
            calendar = match[1]
        if calendar in ("US", "AL", "LA", "RI", "UT") and "name = " in line:
            yield calendar, number


@pytest.mark.parametrize(("calendar", "number"), list(holiday_lines()))
def test_holiday_that_is_missing_or_on_another_day_is_noticed(calendar, number):
    """Left out, without its observed day, or a day or a week off."""
    line = LINES[number]
    wrongs = [line.replace(", observed = true", "")] if "observed" in line else []
    if "days = [{" in line:
        wrongs.append("days = []")
    elif line.startswith("  {"):
        wrongs.append("")
    for match in re.finditer(r"-?\d+(?=[],])|-?\d+(?= })", line):
        changed = int(match[0]) + (1 if int(match[0]) < 28 else -1)
        wrongs.append(f"{line[: match.start()]}{changed}{line[match.end() :]}")
    state = {"US": "UT"}.get(calendar, calendar)
    assert state in CLOSED_ON_HOLIDAYS
    place = next(one for one in places() if one[0] == state)
    for wrong in wrongs:
        try:
            rules = Rules(packs_with(number, wrong))
        except PackError:
            continue  # the thirteenth month, the fifth Monday
        assert any(_closed_otherwise(rules, place)) or wrong in UNSEEN_DAYS, wrong


def _closed_otherwise(rules, place):
    state, number, clocks = place
    facts = sale(number, devices=False)
    at = datetime(2026, 1, 1, 18, tzinfo=UTC)
    while at.year < 2028:
        closed = not rules.permits("time_hol", replace(facts, at=at))
        yield closed is not oracle.is_closed_day(state, clocks, at)
        at += timedelta(days=1)


def test_shipped_pack_is_not_objected_to():
    """So that an objection means something."""
    assert not objects(Rules(), "state", "PA")
    assert not objects(Rules(), "country", "FR")
    assert set(DAYS) > {"wednesday", "saturday", "sunday", "holiday"}
