"""A slow second opinion on calling hours: another table, other calendars, other clocks, minute by minute.

Nothing of `policy` is imported and none of its files is read: the figures are in `oracle_tables`, typed from the
statutes. Local time is arithmetic with the days of clock change that are written out here.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from tests.policy.oracle_tables import (
    ABROAD,
    BEFORE,
    CENTRAL_STANDARD_TOO,
    CLOCKS,
    CLOSED_ON_HOLIDAYS,
    DEVICE_HOLIDAYS,
    DEVICES,
    FEDERAL,
    HOLIDAYS,
    STATES,
)

MINUTE = timedelta(minutes=1)
CHANGES = {
    "American": {2026: (date(2026, 3, 8), date(2026, 11, 1)), 2027: (date(2027, 3, 14), date(2027, 11, 7))},
    "European": {2026: (date(2026, 3, 29), date(2026, 10, 25)), 2027: (date(2027, 3, 28), date(2027, 10, 31))},
}  # fmt: skip
"""Clocks go forward, and back: in America at two by the clock, in Europe at one UTC."""


@lru_cache(maxsize=65_536)  # the same minutes are looked at for every state
def here(at, clock):
    """Naive local time."""
    if clock.startswith("Europe"):
        return _european(at, int(clock.split()[1]))
    hours, changes = CLOCKS[clock]
    standard = (at + timedelta(hours=hours)).replace(tzinfo=None)
    if not changes:
        return standard
    forward, back = CHANGES["American"].get(standard.year, (date.max, date.max))
    is_summer = _at(forward, 2) <= standard < _at(back, 1)  # two by the summer's clock
    return standard + timedelta(hours=1) if is_summer else standard


def _european(at, hours):
    plain = at.replace(tzinfo=None)
    forward, back = CHANGES["European"].get(plain.year, (date.max, date.max))
    return plain + timedelta(hours=hours + (_at(forward, 1) <= plain < _at(back, 1)))


def _at(day, hour):
    return datetime(day.year, day.month, min(day.day, 31), hour)


# ---- one opinion for each rule -----------------------------------------------------------------------


def federal(clocks, at):
    """Whether the federal hours permit it, in every place where it may be."""
    return all(_within(_of_day(FEDERAL, here(at, c)), here(at, c)) for c in clocks)


def of_state(state, clocks, at, *, devices):
    """Whether the state does, for marketing."""
    return all(_state_permits(state, here(at, clock), devices) for clock in clocks) and (
        state not in CENTRAL_STANDARD_TOO
        or _within(_of_day("8-20", None), (at - timedelta(hours=6)).replace(tzinfo=None))
    )


def is_closed_day(state, clocks, at):
    """Whether the state forbids the whole day, in one of the places."""
    return any(_hours_of_state(state, here(at, clock).date()) == "closed" for clock in clocks)


def abroad(number, at):
    """Whether the country does."""
    hours, clocks, closed = ABROAD[number]
    for clock in clocks:
        local = here(at, clock)
        if local.date().isoformat() in closed or not _within(_of_day(hours, local), local):
            return False
    return True


def is_open(state, clocks, at, *, devices):
    """Federal hours and the state's, together."""
    return federal(clocks, at) and of_state(state, clocks, at, devices=devices)


def _state_permits(state, local, devices):
    day = local.date()
    if not _within(_hours_of_state(state, day), local):
        return False
    return not devices or _within(_hours_of_device(state, day), local)


@lru_cache(maxsize=4096)
def _hours_of_state(state, day):
    """The text for that day; the whole day where the state says nothing."""
    hours = STATES.get(state)
    for (which, began), former in BEFORE.items():
        if which == state and day.isoformat() < began:
            return "0-24" if former is None else former
    if hours is None:
        return "0-24"
    if _is_holiday(CLOSED_ON_HOLIDAYS.get(state, ()), day):
        return "closed"
    return _of_day(hours, day)


@lru_cache(maxsize=4096)
def _hours_of_device(state, day):
    hours = DEVICES.get(state)
    if hours is None:
        return "0-24"
    if hours == "banned":
        return "closed"
    text, calendars = DEVICE_HOLIDAYS.get(state, ("", ()))
    return text if _is_holiday(calendars, day) else _of_day(hours, day)


def _is_holiday(calendars, day):
    return any(day.isoformat() in HOLIDAYS[name].split() for name in calendars)


def _of_day(hours, day):
    parts = hours.split()
    if len(parts) == 1:
        return parts[0]
    return parts[{5: 1, 6: 2}.get(day.weekday(), 0)]


@lru_cache(maxsize=64)
def _minutes(hours):
    """Every minute of the day that is permitted."""
    if hours == "closed":
        return frozenset()
    found = set()
    for part in hours.split(","):
        begin, end = (_minute(one) for one in part.split("-"))
        found |= set(range(begin, end))
    return frozenset(found)


def _minute(text):
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes or 0)


def _within(hours, local):
    return local.hour * 60 + local.minute in _minutes(hours)


# ---- looking at every minute -------------------------------------------------------------------------


def edges(opinion, day):
    """Every minute of that day at which the answer of `opinion(at)` changes: from 4:00 UTC, 32 hours long."""
    at = datetime(day.year, day.month, day.day, 4, tzinfo=UTC)
    was = opinion(at)
    for _ in range(32 * 60):
        at += MINUTE
        now = opinion(at)
        if now != was:
            yield at
        was = now


def first_open(opinion, at):
    """The first whole minute from `at` on that is open, by looking at each; None within ten days."""
    for _ in range(10 * 24 * 60):
        if opinion(at):
            return at
        at += MINUTE
    return None
