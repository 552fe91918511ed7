"""Public holidays, from the `holidays` library: a country, or a region of it. Pure, and remembered.

The library computes a year at a time; what it knows of a country is as good as its release, so a business
writes the days that matter into `dates`.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import holidays

YEARS_KEPT = 64
"""Calendars of one year that are remembered."""


def check_calendar(country: str, region: str | None) -> None:
    """Raises ValueError, naming the field, for a country or region that the library does not know."""
    regions = _regions().get(country)
    if regions is None:
        raise ValueError(f"country: no public holidays are known for {country[:2]}")
    if region is not None and region not in regions:
        raise ValueError(f"region: {country} has no region {region[:10]} here")


def holiday(day: date, country: str, region: str | None) -> str | None:
    """The name of the public holiday that `day` is, or None. Unknown places have none."""
    return _year(country, region, day.year).get(day)


@lru_cache(maxsize=YEARS_KEPT)
def _year(country: str, region: str | None, year: int) -> dict[date, str]:
    try:
        check_calendar(country, region)
    except ValueError:
        return {}
    return dict(holidays.country_holidays(country, subdiv=region, years=year).items())


@lru_cache(maxsize=1)
def _regions() -> dict[str, frozenset[str]]:
    return {
        country: frozenset(regions)
        for country, regions in holidays.list_supported_countries().items()
    }
