"""From the bytes of a rule pack (TOML) to `RulePack`. Every error names the row. Pure."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, TypeVar

from policy.holidays import Calendar, Holiday
from policy.pack import CapRow, HoursRow, RulePack, StatesRow, TzData, Windows

_R = TypeVar("_R", HoursRow, CapRow)
_DAY_MIN = 24 * 60
_RANGE = re.compile(r"(\d{1,2})(?::(\d\d))?-(\d{1,2})(?::(\d\d))?")
_ROW_KEYS = frozenset({"source", "reviewed_on", "valid_from", "valid_to"})
_HOUR_KEYS = frozenset({"daily", "mon_fri", "sat", "sun", "holidays", "calendars", "zone"})
_TABLES = frozenset(
    [
        "pack",
        "tzdata",
        "country",
        "state",
        "device",
        "cap",
        "registration",
        "state_list",
        "recording",
        "oral_consent",
        "holiday",
    ]
)


class PackError(ValueError):
    """A rule pack that cannot be used. The text names the table, the row and what is wrong."""


def read_pack(document: bytes) -> RulePack:
    """Raises PackError."""
    try:
        tables = tomllib.loads(document.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PackError(f"rule pack: not TOML: {error}") from error
    for name in tables:
        if name not in _TABLES:
            raise PackError(f"rule pack: unknown table [{name}]")
    return _Reader(tables, hashlib.sha256(document).hexdigest()).pack()


class _Reader:
    """Walks the tables; `_where` is the row at hand, for the errors."""

    def __init__(self, tables: Mapping[str, Any], sha256: str) -> None:
        self._tables = tables
        self._sha256 = sha256
        self._where = "rule pack"

    def pack(self) -> RulePack:
        head = self._table("pack", {"id", "valid_from", "valid_until", "reviewed_on"})
        tz = self._table("tzdata", {"minimum", "current_on", "max_age_days"})
        calendars = self._calendars()
        self._where = "[pack]"
        valid_from, valid_until = (
            self._midnight(head, "valid_from"),
            self._midnight(head, "valid_until"),
        )
        if valid_from >= valid_until:
            raise self._error("valid_from is not before valid_until")
        hours = {
            table: self._rows(table, key, partial(self._hours, key, calendars))
            for table, key in (("country", "region"), ("state", "state"), ("device", "state"))
        }
        return RulePack(
            id=self._text(head, "id"),
            sha256=self._sha256,
            valid_from=valid_from,
            valid_until=valid_until,
            reviewed_on=self._date(head, "reviewed_on"),
            tzdata=TzData(
                self._text(tz, "minimum"),
                self._date(tz, "current_on"),
                self._whole(tz, "max_age_days", 1, 366),
            ),
            countries=self._by_region(hours["country"]),
            country_caps=self._by_key(self._country_caps()),
            states=self._by_key(hours["state"]),
            devices=self._by_key(hours["device"]),
            caps=self._by_key(self._rows("cap", "state", self._cap)),
            registrations=self._states("registration"),
            state_lists=self._states("state_list"),
            recording=self._states("recording", "consent"),
            oral_consent=self._states("oral_consent"),
        )

    # ---- rows ------------------------------------------------------------------------------------

    def _rows(self, table: str, key: str, read: Callable[[Mapping[str, Any]], _R]) -> list[_R]:
        found = []
        for number, row in enumerate(self._list(table), 1):
            self._where = f"[[{table}]] row {number} ({row.get(key, 'without ' + key)})"
            found.append(read(row))
        return found

    def _hours(
        self, key: str, calendars: Mapping[str, Calendar], row: Mapping[str, Any]
    ) -> HoursRow:
        self._known(
            row,
            _ROW_KEYS | _HOUR_KEYS | {key, "ban", "federal", "also", "cap_attempts", "cap_hours"},
        )
        names = self._texts(row, "calendars")
        for name in names:
            if name not in calendars:
                raise self._error(f"calendars: there is no [[holiday]] calendar {name!r}")
        if "holidays" in row and not names:
            raise self._error("holidays without calendars")
        is_ban = row.get("ban", False)
        return HoursRow(
            **self._base(row),
            key=self._text(row, key),
            days=() if is_ban else self._days(row),
            on_holiday=self._windows(row, "holidays") if "holidays" in row else None,
            calendars=tuple(calendars[name] for name in names),
            zone=self._text(row, "zone") if "zone" in row else None,
            is_ban=is_ban,
            is_federal=row.get("federal", False),
        )

    def _days(self, row: Mapping[str, Any]) -> tuple[Windows, ...]:
        if "daily" in row:
            if row.keys() & {"mon_fri", "sat", "sun"}:
                raise self._error("daily stands for mon_fri, sat and sun; give one or the other")
            return (self._windows(row, "daily"),) * 7
        return (
            (self._windows(row, "mon_fri"),) * 5
            + (self._windows(row, "sat"),)
            + (self._windows(row, "sun"),)
        )

    def _cap(self, row: Mapping[str, Any]) -> CapRow:
        self._known(row, _ROW_KEYS | {"state", "attempts", "hours", "device"})
        return CapRow(
            **self._base(row),
            key=self._text(row, "state"),
            attempts=self._whole(row, "attempts", 1, 1000),
            hours=self._whole(row, "hours", 1, 31 * 24),
            is_device=bool(row.get("device", False)),
        )

    def _country_caps(self) -> list[CapRow]:
        found = []
        for number, row in enumerate(self._list("country"), 1):
            self._where = f"[[country]] row {number} ({row.get('region')})"
            if "cap_attempts" in row or "cap_hours" in row:
                attempts = self._whole(row, "cap_attempts", 1, 1000)
                hours = self._whole(row, "cap_hours", 1, 31 * 24)
                found.append(
                    CapRow(**self._base(row), key=row["region"], attempts=attempts, hours=hours)
                )
        return found

    def _states(self, table: str, word: str | None = None) -> tuple[StatesRow, ...]:
        found = []
        for number, row in enumerate(self._list(table), 1):
            self._where = f"[[{table}]] row {number}"
            self._known(row, _ROW_KEYS | {"states"} | ({word} if word else set()))
            states = frozenset(self._texts(row, "states"))
            if not states:
                raise self._error("states: is empty")
            found.append(
                StatesRow(
                    **self._base(row), states=states, word=self._text(row, word) if word else ""
                )
            )
        return tuple(found)

    def _calendars(self) -> dict[str, Calendar]:
        found: dict[str, Calendar] = {}
        for number, row in enumerate(self._list("holiday"), 1):
            self._where = f"[[holiday]] row {number} ({row.get('calendar')})"
            self._known(row, _ROW_KEYS | {"calendar", "days"})
            self._base(row)
            days = row.get("days")
            if not isinstance(days, list):
                raise self._error("days: expected a list")
            found[self._text(row, "calendar")] = tuple(self._holiday(day) for day in days)
        return found

    def _holiday(self, day: Any) -> Holiday:
        if not isinstance(day, dict) or len(day.keys() & {"fixed", "nth", "easter"}) != 1:
            raise self._error(f"day {day!r}: expected one of fixed, nth, easter")
        try:
            holiday = Holiday(
                name=day["name"],
                fixed=tuple(day["fixed"]) if "fixed" in day else None,
                nth=tuple(day["nth"]) if "nth" in day else None,
                easter=day.get("easter"),
                observed=day.get("observed", False),
            )
            holiday.dates(2027)
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(f"day {day!r}: {error}") from error
        return holiday

    # ---- tables by key ---------------------------------------------------------------------------

    def _by_key(self, rows: list[_R]) -> dict[str, tuple[_R, ...]]:
        found: dict[str, list[_R]] = {}
        for row in rows:
            found.setdefault(row.key, []).append(row)
        return {key: tuple(of_key) for key, of_key in found.items()}

    def _by_region(self, rows: list[HoursRow]) -> dict[str, tuple[HoursRow, ...]]:
        found = self._by_key(rows)
        for row, raw in zip(rows, self._list("country"), strict=True):
            for region in raw.get("also", ()):
                found[region] = (*found.get(region, ()), row)
        return found

    # ---- values ----------------------------------------------------------------------------------

    def _base(self, row: Mapping[str, Any]) -> dict[str, Any]:
        base: dict[str, Any] = {
            "source": self._text(row, "source"),
            "reviewed_on": self._date(row, "reviewed_on"),
        }
        for key in ("valid_from", "valid_to"):
            if key in row:
                base[key] = self._date(row, key)
        if "valid_from" in base and "valid_to" in base and base["valid_from"] >= base["valid_to"]:
            raise self._error("valid_from is not before valid_to")
        return base

    def _windows(self, row: Mapping[str, Any], key: str) -> Windows:
        text = self._text(row, key)
        if text == "closed":
            return ()
        found: list[tuple[int, int]] = []
        for part in text.split(","):
            match = _RANGE.fullmatch(part.strip())
            if match is None:
                raise self._error(f'{key}: {part!r} is not like "8-20", "8:30-20" or "closed"')
            first, first_min, last, last_min = (int(group or 0) for group in match.groups())
            start, end = first * 60 + first_min, last * 60 + last_min
            if not (found[-1][1] if found else -1) < start < end <= _DAY_MIN:
                raise self._error(f"{key}: {part!r} ends before it starts, or overlaps")
            found.append((start, end))
        return tuple(found)

    def _table(self, name: str, keys: set[str]) -> Mapping[str, Any]:
        self._where = f"[{name}]"
        table = self._tables.get(name)
        if not isinstance(table, dict):
            raise self._error("is missing")
        self._known(table, keys)
        return table

    def _list(self, name: str) -> list[dict[str, Any]]:
        rows = self._tables.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise PackError(f"[[{name}]]: expected a list of tables")
        return rows

    def _known(self, row: Mapping[str, Any], keys: set[str] | frozenset[str]) -> None:
        for key in row:
            if key not in keys:
                raise self._error(f"unknown key {key!r}")

    def _text(self, row: Mapping[str, Any], key: str) -> str:
        value = row.get(key)
        if not isinstance(value, str) or not value:
            raise self._error(f"{key}: expected text")
        return value

    def _texts(self, row: Mapping[str, Any], key: str) -> list[str]:
        value = row.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._error(f"{key}: expected a list of texts")
        return value

    def _whole(self, row: Mapping[str, Any], key: str, low: int, high: int) -> int:
        value = row.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._error(f"{key}: expected a whole number, {low} to {high}")
        return value

    def _date(self, row: Mapping[str, Any], key: str) -> date:
        value = row.get(key)
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self._error(f"{key}: expected a date such as 2026-11-21")
        return value

    def _midnight(self, row: Mapping[str, Any], key: str) -> datetime:
        day = self._date(row, key)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)

    def _error(self, text: str) -> PackError:
        return PackError(f"rule pack: {self._where}: {text}")
