"""What a dialled string is: its class, region, state and candidate zones. Pure; `phonenumbers` holds the plans.

The library alone is not enough, and this file says where: an area code's bare answer may hide a second time
zone, an overlay knows less than the area it was laid over, and 988 or 211 are no short numbers to it.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import phonenumbers
from phonenumbers import PhoneNumberType, timezone
from phonenumbers.tzdata import TIMEZONE_DATA

Kind: TypeAlias = Literal[
    "emergency",
    "premium",
    "toll_free",
    "non_geographic",
    "satellite",
    "geographic",
    "mobile",
    "voip",
    "unknown",
]
NUMBERS_KEPT = 4096
"""Parsed numbers that are kept, the least recently used go first."""
TERRITORIES = frozenset({"PR", "GU", "VI", "AS", "MP"})
"""Regions of their own that US federal law binds."""
_GEOGRAPHIC: frozenset[Kind] = frozenset({"geographic", "mobile", "voip"})
_KINDS: dict[int, Kind] = {
    PhoneNumberType.FIXED_LINE: "geographic",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "geographic",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.VOIP: "voip",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "premium",
    PhoneNumberType.UAN: "premium",
    PhoneNumberType.PERSONAL_NUMBER: "non_geographic",
    PhoneNumberType.PAGER: "non_geographic",
    PhoneNumberType.VOICEMAIL: "non_geographic",
}


@dataclass(frozen=True, slots=True)
class Destination:
    """A dialled string. `zones` are names, sorted; `state` is a US state or territory by the area code."""

    is_valid: bool
    kind: Kind
    region: str | None = None
    area_code: str | None = None
    state: str | None = None
    zones: tuple[str, ...] = ()
    prefix: str | None = None
    """The entry of the list of prefixes that it falls under."""
    is_fictitious: bool = False
    """555-0100 to 555-0199 of any North American area: for films and tests."""


class NumberingPlan:
    """The tables of `packs/numbering.toml`. Raises ValueError or KeyError when they are not whole."""

    def __init__(self, document: bytes) -> None:
        tables = tomllib.loads(document.decode("utf-8"))
        self.sha256 = hashlib.sha256(document).hexdigest()
        self.never_dial = frozenset(tables["never_dial"])
        self.high_risk_regions = frozenset(tables["high_risk_regions"])
        self.state_of_area = {
            str(area): state for state, areas in tables["area_codes"].items() for area in areas
        }
        self.zones_of_state: dict[str, tuple[str, ...]] = {
            state: tuple(zones) for state, zones in tables["state_zones"].items()
        }
        self._nanp: dict[str, frozenset[str]] = {
            name: frozenset(map(str, codes)) for name, codes in tables["nanp"].items()
        }
        self._prefixes: dict[str, Kind] = {
            prefix: kind for kind, prefixes in tables["prefixes"].items() for prefix in prefixes
        }
        self._zones_of_area = _zones_of_areas(tables)
        self._zip = dict(_zip_table(tables, self.zones_of_state))
        self._postcodes: Mapping[str, Mapping[str, list[str]]] = tables["postcode_zones"]
        self.destination = lru_cache(maxsize=NUMBERS_KEPT)(self._destination)

    def postcode(self, country: str, code: str) -> tuple[str | None, tuple[str, ...]]:
        """State (in the US) and zones of a postcode; `(None, ())` when the tables do not have it."""
        code = code.strip().upper()
        if country == "US" or country in TERRITORIES:
            return self._zip.get(code[:3], (None, ())) if code[:5].isdigit() else (None, ())
        return None, tuple(self._postcodes.get(country, {}).get(code[:1], ()))

    def _destination(self, raw: str) -> Destination:
        digits = raw[1:] if raw.startswith("+") else raw
        if self._is_never_dialled(digits):
            return Destination(is_valid=False, kind="emergency")
        if not (raw.startswith("+") and digits.isascii() and digits.isdigit()):
            return Destination(is_valid=False, kind="unknown")
        try:
            number = phonenumbers.parse(raw, None)
        except phonenumbers.NumberParseException:
            return Destination(is_valid=False, kind="unknown", prefix=self._prefix_of(raw))
        if number.country_code == 1:
            return self._north_american(number, digits[1:])
        region = phonenumbers.region_code_for_number(number)
        kind = _KINDS.get(phonenumbers.number_type(number), "unknown")
        prefix = self._prefix_of(raw)
        if prefix is not None:
            kind = self._prefixes[prefix]
        elif region == "001":
            kind = "non_geographic"
        zones = _known(timezone.time_zones_for_number(number)) if kind in _GEOGRAPHIC else ()
        return Destination(
            phonenumbers.is_valid_number(number), kind, region, zones=zones, prefix=prefix
        )

    def _north_american(self, number: phonenumbers.PhoneNumber, national: str) -> Destination:
        area, exchange = national[:3], national[3:6]
        kind = self._north_american_kind(number, area, exchange)
        region = phonenumbers.region_code_for_number(number)
        state = self.state_of_area.get(area)
        if region in TERRITORIES:
            state = region
        elif region != "US":
            state = None
        zones: tuple[str, ...] = ()
        if kind in _GEOGRAPHIC:
            from_library = _known(timezone.time_zones_for_number(number))
            zones = tuple(sorted({*from_library, *self._zones_of_area.get(area, ())}))
        return Destination(
            is_valid=phonenumbers.is_valid_number(number),
            kind=kind,
            region=region,
            area_code=area,
            state=state if kind in _GEOGRAPHIC else None,
            zones=zones,
            is_fictitious=exchange == "555" and national[6:8] == "01",
        )

    def _north_american_kind(
        self, number: phonenumbers.PhoneNumber, area: str, exchange: str
    ) -> Kind:
        if area in self._nanp["premium"] or exchange in self._nanp["premium_exchanges"]:
            return "premium"
        if area in self._nanp["toll_free"]:
            return "toll_free"
        if area in self._nanp["non_geographic"]:
            return "non_geographic"
        return _KINDS.get(phonenumbers.number_type(number), "unknown")

    def _is_never_dialled(self, digits: str) -> bool:
        if digits in self.never_dial:
            return True
        return any(
            digits[length:] in self.never_dial
            and digits[:length].isascii()
            and digits[:length].isdigit()
            and int(digits[:length]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE
            for length in (1, 2, 3)
        )

    def _prefix_of(self, raw: str) -> str | None:
        fitting = [prefix for prefix in self._prefixes if raw.startswith(prefix)]
        return max(fitting, key=len) if fitting else None


def _known(zones: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(zone for zone in zones if zone != timezone.UNKNOWN_TIMEZONE))


def _zones_of_areas(tables: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Every zone of every prefix below an area code, of the area it overlays, and the extra ones."""
    found: dict[str, set[str]] = {}
    for prefix, zones in TIMEZONE_DATA.items():
        if prefix.startswith("1") and len(prefix) >= 4:
            found.setdefault(prefix[1:4], set()).update(_known(zones))
    for area, zones in tables["extra_zones"].items():
        found.setdefault(area, set()).update(zones)
    for area, parents in tables["overlays"].items():
        for parent in parents:
            found.setdefault(area, set()).update(found[str(parent)])
    return {area: tuple(sorted(zones)) for area, zones in found.items()}


def _zip_table(
    tables: Mapping[str, Any], zones_of_state: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
    """By the first three digits: state and zones. Narrower rows come later and replace the state's."""
    states: dict[str, str] = {}
    for state, ranges in tables["zip_states"].items():
        for three in _expanded(ranges):
            states[three] = state
            yield three, (state, zones_of_state[state])
    for ranges, zones in tables["zip_zones"].items():
        for three in _expanded(ranges):
            yield three, (states[three], tuple(zones))


def _expanded(ranges: str) -> Iterator[str]:
    """`"200 202-205"` as 200, 202, 203, 204, 205."""
    for part in ranges.split():
        first, _, last = part.partition("-")
        for three in range(int(first), int(last or first) + 1):
            yield f"{three:03}"
