"""When a start is permitted: in every candidate zone, by every row of hours. Pure.

Instants are compared in the called party's local time; nothing is ever added to a local time. Starts of windows
are permitted, ends are not, minute-exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal, TypeAlias

from policy.pack import ALWAYS, HoursRow, Windows

HORIZON = timedelta(days=14)
"""No opening within this: there is none."""
_SHORTEST_GAP = timedelta(minutes=55)
_DAY_MIN = 24 * 60

Mode: TypeAlias = Literal["open_days", "closed_days", "all"]
"""`open_days`: hours of the days that are not closed as a whole; `closed_days`: those days alone."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One row, and which of its days count."""

    row: HoursRow
    mode: Mode = "all"

    def windows(self, day: date) -> Windows:
        windows = self.row.windows(day)
        if self.mode == "all" or (self.mode == "closed_days") != bool(windows):
            return windows
        return ALWAYS


@dataclass(frozen=True, slots=True)
class Schedule:
    """All bounds together, in all zones. Without zones nothing is permitted."""

    by_zone: tuple[tuple[tzinfo, tuple[Bound, ...]], ...]
    """Every zone with the bounds that have to hold there."""
    has_zone: bool

    def permitted(self, at: datetime) -> bool:
        """Whether a start at that instant is within all windows."""
        for zone, bounds in self.by_zone:
            local = at.astimezone(zone)
            day, minute = local.date(), local.hour * 60 + local.minute
            for bound in bounds:
                if not _is_within(bound.windows(day), minute):
                    return False
        return self.has_zone

    def is_open_for(self, at: datetime, margin: timedelta) -> bool:
        """Permitted now, and no window ends within less than `margin`."""
        if not self.permitted(at):
            return False
        if margin <= timedelta(0):
            return True
        if not self.permitted(at + margin - timedelta(microseconds=1)):
            return False
        if margin <= _SHORTEST_GAP:
            return True
        # A midday gap could lie between: look at every end on the way.
        ends = (end for end in self._edges(at, margin, 1) if end < at + margin)
        return all(self.permitted(end) for end in ends)

    def next_open(self, at: datetime, margin: timedelta = timedelta(0)) -> datetime | None:
        """The first instant after `at` that is permitted for `margin`; None within `HORIZON`.

        Only the start of a window can be it.
        """
        for start in sorted(set(self._edges(at, HORIZON, 0))):
            if self.is_open_for(start, margin):
                return start
        return None

    def _edges(self, at: datetime, reach: timedelta, side: int) -> Iterator[datetime]:
        """Starts (`side` 0) or ends (1) of windows after `at`, in UTC, in no order."""
        for zone, bounds in self.by_zone:
            first = at.astimezone(zone).date()
            for ahead in range(-1, reach.days + 3):
                day = first + timedelta(days=ahead)
                for minute in {window[side] for bound in bounds for window in bound.windows(day)}:
                    edge = _instant(day, minute, zone)
                    if at < edge <= at + reach:
                        yield edge


def _is_within(windows: Windows, minute: int) -> bool:
    for start, end in windows:  # noqa: SIM110  (half the time of any() over a generator)
        if start <= minute < end:
            return True
    return False


def _instant(day: date, minute: int, zone: tzinfo) -> datetime:
    """The instant at which that minute of the local day begins."""
    if minute >= _DAY_MIN:
        day, minute = day + timedelta(days=1), minute - _DAY_MIN
    local = datetime.combine(day, time(minute // 60, minute % 60), zone)
    return local.astimezone(UTC)


def schedule(
    bounds: tuple[Bound, ...], zones: tuple[tzinfo, ...], fixed: Mapping[str, tzinfo]
) -> Schedule:
    """`fixed`: zones that rows name themselves; such a row holds there and nowhere else."""
    found: dict[tzinfo, list[Bound]] = {}
    for bound in bounds:
        for zone in (fixed[bound.row.zone],) if bound.row.zone else zones:
            found.setdefault(zone, []).append(bound)
    by_zone = tuple((zone, tuple(of_zone)) for zone, of_zone in found.items())
    return Schedule(by_zone, bool(zones))
