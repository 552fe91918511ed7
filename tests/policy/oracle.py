"""A slow second opinion on calling hours: another parser, other calendars, other clocks, minute by minute.

Nothing of `policy` is imported. Local time comes from standard offsets and the American dates of clock change
written out here, not from any time-zone file; holidays come from walking a calendar day by day.
"""

from __future__ import annotations

import calendar
import tomllib
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

LAW = Path(__file__).resolve().parents[2] / "policy" / "packs" / "law_2026_11.toml"
STANDARD_OFFSET_H = {
    "America/New_York": -5,
    "America/Detroit": -5,
    "America/Indiana/Indianapolis": -5,
    "America/Chicago": -6,
    "America/North_Dakota/Center": -6,
    "America/Denver": -7,
    "America/Boise": -7,
    "America/Los_Angeles": -8,
    "America/Anchorage": -9,
    "America/Juneau": -9,
    "America/Adak": -10,
}
NEVER_CHANGE_H = {"America/Phoenix": -7, "Pacific/Honolulu": -10}
MINUTE = timedelta(minutes=1)


@lru_cache(maxsize=1)
def tables():
    return tomllib.loads(LAW.read_text(encoding="utf-8"))


def local(at, zone):
    """Naive local time, American rules since 2007: second Sunday of March to first of November, at two."""
    if zone in NEVER_CHANGE_H:
        return (at + timedelta(hours=NEVER_CHANGE_H[zone])).replace(tzinfo=None)
    standard = (at + timedelta(hours=STANDARD_OFFSET_H[zone])).replace(tzinfo=None)
    begins = datetime.combine(sundays(standard.year, 3)[1], datetime.min.time()) + timedelta(
        hours=2
    )
    ends = datetime.combine(sundays(standard.year, 11)[0], datetime.min.time()) + timedelta(hours=1)
    return standard + timedelta(hours=1) if begins <= standard < ends else standard


def sundays(year, month):
    return [
        week[6]
        for week in calendar.Calendar().monthdatescalendar(year, month)
        if week[6].month == month
    ]


def is_open(state, zones, at, *, devices):
    """Federal hours, the state's rows, and with `devices` those for announcing devices; in all zones."""
    if devices and any(row.get("ban") for row in of_state("device", state)):
        return False
    rows = [row for row in tables()["country"] if row["region"] == "US"] + of_state("state", state)
    if devices:
        rows += of_state("device", state)
    return all(row_allows(row, at, zone) for row in rows for zone in zones)


def of_state(table, state):
    return [row for row in tables()[table] if row["state"] == state]


def row_allows(row, at, zone):
    here = (
        (at - timedelta(hours=6)).replace(tzinfo=None)
        if row.get("zone") == "Etc/GMT+6"
        else local(at, zone)
    )
    day = here.date()
    if "valid_from" in row and day < row["valid_from"]:
        return True
    if "valid_to" in row and day >= row["valid_to"]:
        return True
    if "holidays" in row and any(day in holidays(name, day.year) for name in row["calendars"]):
        text = row["holidays"]
    elif "daily" in row:
        text = row["daily"]
    else:
        text = row[name_of(day)]
    if text == "closed":
        return False
    return any(within(part, here) for part in text.split(","))


def name_of(day):
    return {5: "sat", 6: "sun"}.get(day.weekday(), "mon_fri")


def within(part, here):
    start, end = part.split("-")
    shown = f"{here:%H:%M}"
    return padded(start) <= shown < padded(end)


def padded(hour):
    hours, _, minutes = hour.partition(":")
    return f"{int(hours):02}:{minutes or '00'}"


@lru_cache(maxsize=64)
def holidays(name, year):
    """Every closed day, found by asking each day of the year and its neighbours."""
    rows = [row for row in tables()["holiday"] if row["calendar"] == name]
    entries = [entry for row in rows for entry in row["days"]]
    found = set()
    day = date(year, 1, 1)
    while day.year == year:
        if any(falls_on(entry, day) or is_observed(entry, day) for entry in entries):
            found.add(day)
        day += timedelta(days=1)
    return frozenset(found)


def falls_on(entry, day):
    if "fixed" in entry:
        return [day.month, day.day] == entry["fixed"]
    if "nth" in entry:
        month, weekday, n = entry["nth"]
        same = [
            date(day.year, month, number)
            for number in range(1, calendar.monthrange(day.year, month)[1] + 1)
            if date(day.year, month, number).weekday() == weekday
        ]
        return day == same[n if n < 0 else n - 1]
    return day == EASTER[day.year] + timedelta(days=entry["easter"])


def is_observed(entry, day):
    if not entry.get("observed"):
        return False
    after, before = day + timedelta(days=1), day - timedelta(days=1)
    return (day.weekday() == 4 and falls_on(entry, after)) or (
        day.weekday() == 0 and falls_on(entry, before)
    )


EASTER = {
    2025: date(2025, 4, 20),
    2026: date(2026, 4, 5),
    2027: date(2027, 3, 28),
    2028: date(2028, 4, 16),
}


def edges(state, zones, day, *, devices):
    """Every minute of that UTC day and the night after it at which the answer changes.

    Quarters of an hour first, and where two of them differ every minute between.
    """
    quarter = timedelta(minutes=15)
    at = datetime(day.year, day.month, day.day, 4, tzinfo=UTC)
    was = is_open(state, zones, at, devices=devices)
    for _ in range(32 * 4):
        at += quarter
        now = is_open(state, zones, at, devices=devices)
        if now != was:
            minute = at - quarter
            while is_open(state, zones, minute, devices=devices) == was:
                minute += MINUTE
            yield minute
        was = now


def first_open(state, zones, at, *, devices):
    """The first whole minute from `at` on that is open, by looking at each; None within ten days."""
    for _ in range(10 * 24 * 60):
        if is_open(state, zones, at, devices=devices):
            return at
        at += MINUTE
    return None
