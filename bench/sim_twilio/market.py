"""The numbers that the simulated Twilio has to sell, and what each country asks of a buyer. Pure.

A small, fixed world: a few countries and area codes with their places, so that searches by region, by
locality and around a number have something to find. Source of the shapes and filters: Twilio,
"AvailablePhoneNumber resource"; the requirements of DE and GB are examples of their kind, not the law.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

PER_AREA = 40
"""Numbers of each area that are looked at in one search."""
EARTH_RADIUS_MILES = 3958.8
KEYPAD = {
    letter: digit
    for digit, letters in {
        "2": "ABC", "3": "DEF", "4": "GHI", "5": "JKL", "6": "MNO", "7": "PQRS", "8": "TUV", "9": "WXYZ",
    }.items()
    for letter in letters
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Area:
    """A range of numbers: `prefix` in E.164, `digits` more follow."""

    prefix: str
    digits: int
    locality: str | None = None
    region: str | None = None
    postal_code: str | None = None
    lata: str | None = None
    latitude: str | None = None
    longitude: str | None = None

    def miles_to(self, latitude: float, longitude: float) -> float:
        """Great-circle distance; infinite when nobody knows where the area is."""
        if self.latitude is None or self.longitude is None:
            return math.inf
        here, there = math.radians(float(self.latitude)), math.radians(latitude)
        east = math.radians(longitude - float(self.longitude))
        haversine = (
            math.sin((there - here) / 2) ** 2
            + math.cos(here) * math.cos(there) * math.sin(east / 2) ** 2
        )
        return 2 * EARTH_RADIUS_MILES * math.asin(math.sqrt(haversine))

    def numbers(self) -> Iterator[str]:
        """Its numbers in order."""
        first = 10 ** (self.digits - 1) // 2 * 2 if self.digits > 4 else 0
        for number in range(first, 10**self.digits):
            yield f"{self.prefix}{number:0{self.digits}d}"


def _nanp(
    code: str, locality: str, region: str, postal: str, lata: str, lat: str, long: str
) -> Area:
    return Area(f"+1{code}555", 4, locality, region, postal, lata, lat, long)


@dataclass(frozen=True, slots=True)
class Country:
    """What is sold in a country, by Twilio's name of the type."""

    code: str
    name: str
    areas: dict[str, tuple[Area, ...]]
    address_requirements: str = "none"
    needs_bundle: frozenset[str] = frozenset()
    """Types that take a regulatory bundle."""

    def area_near(self, e164: str) -> Area | None:
        """Where a number of this country is: its area code is all that is looked at."""
        areas = (area for areas in self.areas.values() for area in areas)
        return next((area for area in areas if e164.startswith(area.prefix[:5])), None)


_US = (
    _nanp("212", "New York", "NY", "10001", "132", "40.714000", "-74.006000"),
    _nanp("646", "New York", "NY", "10002", "132", "40.715000", "-73.985000"),
    _nanp("917", "New York", "NY", "10003", "132", "40.731000", "-73.989000"),
    _nanp("415", "San Francisco", "CA", "94105", "722", "37.789000", "-122.395000"),
    _nanp("628", "San Francisco", "CA", "94103", "722", "37.772000", "-122.411000"),
    _nanp("843", "Charleston", "SC", "29401", "436", "32.780000", "-79.937000"),
    _nanp("854", "Summerville", "SC", "29483", "436", "33.018000", "-80.175000"),
    _nanp("803", "Columbia", "SC", "29201", "434", "34.000000", "-81.035000"),
    _nanp("512", "Austin", "TX", "78701", "558", "30.271000", "-97.742000"),
    _nanp("808", "Hilo", "HI", "96720", "834", "19.720000", "-155.090000"),
)
_CA = (
    _nanp("416", "Toronto", "ON", "M5H", "888", "43.650000", "-79.383000"),
    _nanp("647", "Toronto", "ON", "M5J", "888", "43.640000", "-79.380000"),
    _nanp("604", "Vancouver", "BC", "V6B", "888", "49.280000", "-123.110000"),
)
COUNTRIES = {
    country.code: country
    for country in (
        Country(
            "US",
            "United States",
            {
                "Local": _US,
                "TollFree": tuple(Area(f"+1{code}555", 4) for code in ("833", "844", "855")),
            },
        ),
        Country("CA", "Canada", {"Local": _CA, "TollFree": (Area("+1866555", 4),)}),
        Country(
            "GB",
            "United Kingdom",
            {
                "Local": (Area("+4420790", 5, "London"), Area("+4416150", 5, "Manchester")),
                "Mobile": (Area("+4474001", 5),),
                "TollFree": (Area("+4480016", 5),),
            },
            address_requirements="any",
        ),
        Country(
            "DE",
            "Germany",
            {
                "Local": (Area("+493056", 6, "Berlin"), Area("+498956", 6, "Munich")),
                "Mobile": (Area("+4915735", 6),),
            },
            address_requirements="local",
            needs_bundle=frozenset({"Local", "Mobile"}),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Offer:
    """One number for sale."""

    phone_number: str
    country: Country
    kind: str
    area: Area

    @property
    def can_send_sms(self) -> bool:
        """Landlines of Europe cannot."""
        return self.country.code in ("US", "CA") or self.kind == "Mobile"

    def resource(self) -> dict[str, Any]:
        """The JSON object of an AvailablePhoneNumber."""
        area = self.area
        return {
            "friendly_name": _national(self.phone_number),
            "phone_number": self.phone_number,
            "lata": area.lata,
            "rate_center": area.locality.upper() if area.lata and area.locality else None,
            "locality": area.locality,
            "latitude": area.latitude,
            "longitude": area.longitude,
            "region": area.region,
            "postal_code": area.postal_code,
            "iso_country": self.country.code,
            "address_requirements": self.country.address_requirements,
            "beta": False,
            "capabilities": {
                "voice": True,
                "SMS": self.can_send_sms,
                "MMS": self.country.code in ("US", "CA"),
            },
        }


@dataclass(slots=True)
class Market:
    """What is for sale now. `sold_out` holds prefixes (`+1212`) of which nothing is left."""

    sold_out: set[str] = field(default_factory=set)
    only: set[str] | None = None
    """These numbers and no others; `None` = all of the world above."""
    snatch_next: int = 0
    """So many of the next purchases come too late: somebody else has just bought the number."""

    def offers(
        self, country: Country, kind: str, fits: Callable[[Offer], bool], limit: int
    ) -> list[Offer]:
        """The first `limit` that fit, from all areas in turn."""
        areas = country.areas[kind]
        found: list[Offer] = []
        per_area = [list(islice(self._fitting(country, kind, area, fits), limit)) for area in areas]
        for row in range(limit):
            found += [offers[row] for offers in per_area if row < len(offers)]
        return found[:limit]

    def _fitting(
        self, country: Country, kind: str, area: Area, fits: Callable[[Offer], bool]
    ) -> Iterator[Offer]:
        if self.only is None:
            numbers: Iterator[str] = islice(area.numbers(), PER_AREA)
        else:
            # An explicit list belongs to the area code, not to the narrow range of ours.
            prefix = area.prefix[:5] if area.prefix.startswith("+1") else area.prefix
            numbers = iter(sorted(n for n in self.only if n.startswith(prefix)))
        for number in numbers:
            offer = Offer(number, country, kind, area)
            if not self.is_sold_out(number) and fits(offer):
                yield offer

    def is_sold_out(self, e164: str) -> bool:
        """Whether nothing is left where this number is."""
        return any(e164.startswith(prefix) for prefix in self.sold_out)


def kind_of(e164: str) -> tuple[Country, str] | None:
    """Country and type of a number in the world above; None for all others."""
    for country in COUNTRIES.values():
        for kind, areas in country.areas.items():
            if any(e164.startswith(area.prefix) for area in areas):
                return country, kind
    return None


def pattern(contains: str) -> re.Pattern[str]:
    """Twilio's `Contains`: `*` is any digit, letters are keys, `+` begins and `$` ends the number."""
    translated = "".join(
        r"\d" if char in "*%" else KEYPAD.get(char.upper(), char) for char in contains.strip("+$")
    )
    start = r"^\+" if contains.startswith("+") else ""
    return re.compile(start + translated + ("$" if contains.endswith("$") else ""))


def _national(number: str) -> str:
    match = re.fullmatch(r"\+1(\d{3})(\d{3})(\d{4})", number)
    return "({}) {}-{}".format(*match.groups()) if match else number
