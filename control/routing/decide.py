"""Which route takes a call at this instant, and why. Pure.

An instant has exactly one wall-clock time in a zone, so half-open windows neither overlap nor leave a gap,
also where clocks are changed: an hour that is skipped matches nothing, one that comes twice matches twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from control.routing.calendar import holiday
from control.routing.model import DAY_MINUTES, DAYS, Calendar, DateSpan, Route, Target, When

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the routes of a number are read with."""

    zone: tzinfo
    calendar: Calendar | None = None
    hours: Mapping[str, Sequence[tuple[int, int]]] | None = None
    """Minutes by day, as `control.routing.model.parse_hours` gives them."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The answer: `target` None = no route matched, the agent takes the call."""

    target: Target | None
    index: int | None
    reason: str


def decide(routes: Sequence[Route], at: datetime, setting: Setting) -> Chosen:
    """The first route that matches at `at` (aware). Raises ValueError for a time without a zone."""
    if at.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    local = at.astimezone(setting.zone)
    for index, route in enumerate(routes):
        why = matches(route.when, local, setting)
        if why is not None:
            name = f" ({route.name})" if route.name else ""
            return Chosen(route.to, index, f"route {index + 1}{name}: {why}")
    return Chosen(None, None, "no route matched" if routes else "no routes")


def matches(when: When, local: datetime, setting: Setting) -> str | None:
    """Why the conditions hold at this wall-clock time; None when they do not."""
    if when.open is not None and is_open(local, setting.hours) != when.open:
        return None
    begin, end = when.window
    minute = local.hour * 60 + local.minute
    today = local.date()
    # A window past midnight belongs to the day on which it began.
    for day, at in ((today, minute), (_before(today), minute + DAY_MINUTES)):
        if day is not None and begin <= at < end:
            why = _of_day(when, day, setting)
            if why is not None:
                return why
    return None


def is_open(local: datetime, hours: Mapping[str, Sequence[tuple[int, int]]] | None) -> bool:
    """Whether the business is open; without known hours it is."""
    if hours is None:
        return True
    minute = local.hour * 60 + local.minute
    today = DAYS[local.weekday()]
    yesterday = DAYS[local.weekday() - 1]
    return any(begin <= minute < end for begin, end in hours.get(today, ())) or any(
        begin <= minute + DAY_MINUTES < end for begin, end in hours.get(yesterday, ())
    )


def _of_day(when: When, day: date, setting: Setting) -> str | None:
    """Why the conditions about the day hold for `day`; None when they do not."""
    words: list[str] = []
    name = DAYS[day.weekday()]
    if when.days is not None:
        if name not in when.days:
            return None
        words.append(name)
    if when.dates is not None:
        if not any(DateSpan.parse(text).holds(day) for text in when.dates):
            return None
        words.append(day.isoformat())
    if when.holidays is not None:
        calendar = setting.calendar
        found = holiday(day, calendar.country, calendar.region) if calendar else None
        if (found is not None) != when.holidays:
            return None
        words.append(f"holiday {found}" if found else "no holiday")
    if when.from_ is not None or when.to is not None:
        words.append(f"{when.from_ or '00:00'}-{when.to or '24:00'}")
    if when.open is not None:
        words.append("open" if when.open else "closed")
    return ", ".join(words) or "always"


def _before(day: date) -> date | None:
    return day - _ONE_DAY if day > date.min else None
