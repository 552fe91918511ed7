"""What the rules judge by beside the facts: rule packs, numbering plan, time zones. Pure; loaded elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from policy.facts import Facts
from policy.hours import Bound, Mode, Schedule, schedule
from policy.numbering import NUMBERS_KEPT, TERRITORIES, Destination, NumberingPlan
from policy.pack import HoursRow, RulePack

ZONE_FRESH = timedelta(days=365)
"""A zone or a postcode that somebody stated longer ago counts no more against the number."""
SCHEDULES_KEPT = 512


@dataclass(frozen=True, slots=True)
class Place:
    """Where the called party may be. No zone: nobody can say what time it is there."""

    region: str | None
    zones: tuple[str, ...]
    states: tuple[str, ...]
    """US states whose rules bind: of the address and of the area code. One that does not exist is not known."""
    basis: str
    """What the zones come from: `stated`, `postcode`, `number`, `none`."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What a decision has to name so that it can be made again."""

    pack: str
    pack_sha256: str
    numbering_sha256: str
    tzdata: str
    phonenumbers: str

    def to_dict(self) -> dict[str, str]:
        return {
            "pack": self.pack,
            "pack_sha256": self.pack_sha256,
            "numbering_sha256": self.numbering_sha256,
            "tzdata": self.tzdata,
            "phonenumbers": self.phonenumbers,
        }


class Law:
    """Several packs may be loaded; the one in force at an instant is the latest that has begun.

    Raises ValueError without a pack, or when a row names a zone that the tz data does not have.
    """

    def __init__(
        self,
        packs: tuple[RulePack, ...],
        plan: NumberingPlan,
        zone: Callable[[str], ZoneInfo | None],
        tzdata_version: str,
        phonenumbers_version: str,
    ) -> None:
        if not packs:
            raise ValueError("no rule pack")
        self.packs = tuple(sorted(packs, key=lambda pack: pack.valid_from))
        self.plan = plan
        self.tzdata_version = tzdata_version
        self.phonenumbers_version = phonenumbers_version
        self._zone = zone
        self._fixed = self._fixed_zones()
        self._place = lru_cache(maxsize=NUMBERS_KEPT)(self._place_of)
        self._schedule = lru_cache(maxsize=SCHEDULES_KEPT)(self._schedule_of)
        self._versions = lru_cache(maxsize=16)(self._versions_of)

    def pack_at(self, at: datetime) -> RulePack:
        """The pack in force; outside of every pack the nearest one before (SYS-RULES refuses then)."""
        if self.packs[-1].is_in_force(at):
            return self.packs[-1]
        begun = [pack for pack in self.packs if pack.valid_from <= at]
        in_force = [pack for pack in begun if at < pack.valid_until]
        return (in_force or begun or self.packs[:1])[-1]

    def versions(self, at: datetime) -> Versions:
        return self._versions(self.pack_at(at).id)

    def destination(self, facts: Facts) -> Destination:
        """The customer's number, looked up once."""
        return self.plan.destination(facts.customer_number)

    def place(self, facts: Facts) -> Place:
        """Zones and states of the called party. A stated zone goes before a postcode, that before the number."""
        location = facts.location
        return self._place(
            facts.customer_number,
            location.zone if _is_fresh(location.zone_as_of, facts.at) else None,
            location.postcode,
            location.state,
            location.country,
            _is_fresh(location.as_of or location.zone_as_of, facts.at),
        )

    def zone(self, name: str) -> ZoneInfo | None:
        """A zone of the pinned data, never of the host."""
        return self._zone(name)

    def schedule(
        self, rows: tuple[HoursRow, ...], zones: tuple[str, ...], mode: Mode = "all"
    ) -> Schedule:
        """Made once for the same rows and zones."""
        return self._schedule(_SameRows(rows), zones, mode)

    def _place_of(
        self,
        number: str,
        stated: str | None,
        postcode: str | None,
        state: str | None,
        country: str | None,
        is_fresh: bool,
    ) -> Place:
        destination = self.plan.destination(number)
        region = destination.region
        if (country or region) not in TERRITORIES | {"US"}:
            state = None  # "CA" of a Canadian address is no Californian one
        states = [destination.state, state]
        zones, basis = destination.zones, "number" if destination.zones else "none"
        if postcode:
            of_postcode, known = self.plan.postcode(country or region or "", postcode)
            states.append(of_postcode)
            if known and is_fresh:
                zones, basis = known, "postcode"
            elif known and zones:
                zones = tuple(sorted({*zones, *known}))  # they may have moved since
        if basis != "postcode" and state:
            zones = tuple(sorted({*zones, *self.plan.zones_of_state.get(state, ())}))
        if stated is not None:
            zones, basis = (stated,), "stated"
        if any(self._zone(name) is None for name in zones):
            zones, basis = (), "none"
        known_states = {one for one in states if one in self.plan.zones_of_state}
        return Place(region, zones, tuple(sorted(known_states)), basis)

    def _schedule_of(self, same: _SameRows, zones: tuple[str, ...], mode: Mode) -> Schedule:
        found = [self._zone(name) for name in zones]
        return schedule(
            tuple(Bound(row, mode) for row in same.rows),
            tuple(zone for zone in found if zone is not None),
            self._fixed,
        )

    def _versions_of(self, pack_id: str) -> Versions:
        pack = next(pack for pack in self.packs if pack.id == pack_id)
        return Versions(
            pack.id, pack.sha256, self.plan.sha256, self.tzdata_version, self.phonenumbers_version
        )

    def _fixed_zones(self) -> dict[str, ZoneInfo]:
        found: dict[str, ZoneInfo] = {}
        rows: list[HoursRow] = [row for pack in self.packs for _, row in pack.hours_rows()]
        for row in rows:
            if row.zone:
                zone = self._zone(row.zone)
                if zone is None:
                    raise ValueError(f"rule pack: row {row.key}: no time zone {row.zone!r}")
                found[row.zone] = zone
        return found


def _is_fresh(as_of: datetime | None, at: datetime) -> bool:
    return as_of is not None and timedelta(0) <= at - as_of <= ZONE_FRESH


class _SameRows:
    """Rows are the same when they are the same objects: cheap to compare, and a pack makes each row once.

    Holds the rows, so that no id is given to another row while it is a key.
    """

    __slots__ = ("_ids", "rows")

    def __init__(self, rows: tuple[HoursRow, ...]) -> None:
        self.rows = rows
        self._ids = tuple(map(id, rows))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameRows) and self._ids == other._ids

    def __hash__(self) -> int:
        return hash(self._ids)


def law_with(law: Law, packs: tuple[RulePack, ...]) -> Law:
    """The same plan and zones under other packs: for previews."""
    return Law(packs, law.plan, law.zone, law.tzdata_version, law.phonenumbers_version)
