"""Closed days of a calendar, from rows of a rule pack. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

_SATURDAY, _SUNDAY = 5, 6


@dataclass(frozen=True, slots=True)
class Holiday:
    """One day a year: `fixed` (month, day), `nth` (month, weekday, n; -1 the last) or `easter` (days after)."""

    name: str
    fixed: tuple[int, int] | None = None
    nth: tuple[int, int, int] | None = None
    easter: int | None = None
    observed: bool = False

    def dates(self, year: int) -> tuple[date, ...]:
        """The day in that year, and the day on which it is observed when that is another."""
        if self.fixed is not None:
            day = date(year, *self.fixed)
        elif self.nth is not None:
            day = _nth(year, *self.nth)
        else:
            day = easter_sunday(year) + timedelta(days=self.easter or 0)
        if self.observed and day.weekday() == _SATURDAY:
            return day, day - timedelta(days=1)
        if self.observed and day.weekday() == _SUNDAY:
            return day, day + timedelta(days=1)
        return (day,)


Calendar = tuple[Holiday, ...]


@lru_cache(maxsize=256)
def closed_days(calendar: Calendar, year: int) -> dict[date, str]:
    """Every closed day of the year by name. New Year's Day may be observed in the year before."""
    found: dict[date, str] = {}
    for counted in (year, year + 1):
        for holiday in calendar:
            for day in holiday.dates(counted):
                if day.year == year:
                    found.setdefault(day, holiday.name)
    return found


def easter_sunday(year: int) -> date:
    """Gregorian Easter (the anonymous algorithm, as in Meeus, Astronomical Algorithms, chapter 8)."""
    golden, century, rest = year % 19, year // 100, year % 100
    skipped, leap = divmod(century, 4)
    moon = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * golden + century - skipped - moon + 15) % 30
    quarter, odd = divmod(rest, 4)
    weekday = (32 + 2 * leap + 2 * quarter - epact - odd) % 7
    correction = (golden + 11 * epact + 22 * weekday) // 451
    month, day = divmod(epact + weekday - 7 * correction + 114, 31)
    return date(year, month, day + 1)


def _nth(year: int, month: int, weekday: int, n: int) -> date:
    if n < 0:
        last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
        return last - timedelta(days=(last.weekday() - weekday) % 7)
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))
