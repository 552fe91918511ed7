"""A rule pack: the figures of law, each row with its source and the dates between which it holds. Pure values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from policy.holidays import Calendar, closed_days

Windows = tuple[tuple[int, int], ...]
"""Half-open ranges of minutes of the local day; none: closed."""

ALWAYS: Windows = ((0, 24 * 60),)
STRICTEST = "STRICTEST"
"""The row of a US number whose state nobody knows."""


@dataclass(frozen=True, slots=True)
class Row:
    """What every row has. In force on local dates `valid_from <= date < valid_to`; None: no bound."""

    source: str
    reviewed_on: date
    valid_from: date | None = None
    valid_to: date | None = None

    def holds_on(self, day: date) -> bool:
        """Whether the row is in force on that local date."""
        after = self.valid_from is None or day >= self.valid_from
        return after and (self.valid_to is None or day < self.valid_to)


@dataclass(frozen=True, slots=True)
class HoursRow(Row):
    """Hours of a state, of a device row or of a country. `key`: `TX`, `US`."""

    key: str = ""
    days: tuple[Windows, ...] = (ALWAYS,) * 7
    """Monday to Sunday."""
    on_holiday: Windows | None = None
    """None: as on other days."""
    calendars: tuple[Calendar, ...] = ()
    zone: str | None = None
    """A fixed zone that the law names; None: the called party's."""
    is_ban: bool = False
    is_federal: bool = False
    closed_dates: frozenset[date] = frozenset()
    """Single days, as a tenant has them."""

    def windows(self, day: date) -> Windows:
        """When a start is allowed on that local date, by this row."""
        if not self.holds_on(day):
            return ALWAYS
        if day in self.closed_dates:
            return ()
        if self.on_holiday is not None and self.holiday(day) is not None:
            return self.on_holiday
        return self.days[day.weekday()]

    def holiday(self, day: date) -> str | None:
        """The name of the holiday, if the row's calendars have one."""
        for calendar in self.calendars:
            name = closed_days(calendar, day.year).get(day)
            if name is not None:
                return name
        return None


@dataclass(frozen=True, slots=True)
class CapRow(Row):
    """At most `attempts` in rolling `hours`. `is_device`: for announcing devices alone."""

    key: str = ""
    attempts: int = 1
    hours: int = 24
    is_device: bool = False


@dataclass(frozen=True, slots=True)
class StatesRow(Row):
    """A duty of some states. `word`: what kind, where there are several."""

    states: frozenset[str] = frozenset()
    word: str = ""


@dataclass(frozen=True, slots=True)
class TzData:
    """Which time-zone data the pack needs, and until when somebody knows it to be the newest."""

    minimum: str
    current_on: date
    max_age_days: int


@dataclass(frozen=True, slots=True)
class RulePack:
    """All rows by table. In force for `valid_from <= instant < valid_until` (UTC midnights)."""

    id: str
    sha256: str
    valid_from: datetime
    valid_until: datetime
    reviewed_on: date
    tzdata: TzData
    countries: Mapping[str, tuple[HoursRow, ...]]
    country_caps: Mapping[str, tuple[CapRow, ...]]
    states: Mapping[str, tuple[HoursRow, ...]]
    devices: Mapping[str, tuple[HoursRow, ...]]
    caps: Mapping[str, tuple[CapRow, ...]]
    registrations: tuple[StatesRow, ...]
    state_lists: tuple[StatesRow, ...]
    recording: tuple[StatesRow, ...]
    oral_consent: tuple[StatesRow, ...]

    def is_in_force(self, at: datetime) -> bool:
        return self.valid_from <= at < self.valid_until

    def is_federal(self, region: str | None) -> bool:
        """US law binds there: the states and the territories."""
        rows = self.countries.get(region or "", ())
        return any(row.is_federal for row in rows)

    def hours_rows(self) -> Iterator[tuple[str, HoursRow]]:
        """Every row of hours with the name of its table, for reports and tests."""
        tables = {"country": self.countries, "state": self.states, "device": self.devices}
        for name, table in tables.items():
            for rows in table.values():
                for row in rows:
                    yield name, row


def states_of(rows: tuple[StatesRow, ...], day: date) -> frozenset[str]:
    """All states of the rows in force on that day."""
    return frozenset(state for row in rows if row.holds_on(day) for state in row.states)
