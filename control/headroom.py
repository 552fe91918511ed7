"""Whether a media worker takes another call, by what it measures of itself and tells with each heartbeat. Pure.

Two things are looked at, over the newest four seconds: the part of the time in which its loop works, and how
late the loop comes to what is due (the ticks of the playout grid; without calls, the heartbeat itself). A worker
over either limit takes no new call until it is clearly below both again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from gateway.settings import MediaSettings

CALL_LOAD_PERCENT = 0.1
"""What a call adds to the load of a worker: 600 to 1,000 µs of a second, as `make bench` measures it."""
SETTLE_S = 4.0
"""So long after it was placed, a call is in what the worker measures."""
SILENCE_MAX_S = 3.0
"""A worker that has missed two heartbeats is late for more than calls."""
LATENESS_BACK = 0.5
LOAD_BACK = 0.9
"""Parts of the limits below which a worker that was over one takes calls again."""


class Headroom:
    """Of one worker."""

    def __init__(self, settings: MediaSettings, now_s: float) -> None:
        self._lateness_max_ms = settings.admit_lateness_ms
        self._load_max_percent = settings.admit_load_percent
        self._heard_s = now_s
        self._placed_s: deque[float] = deque()
        self.load_percent = 0.0
        self.lateness_ms = 0.0
        self.is_over = False

    def beat(self, counters: Mapping[str, int | float], now_s: float) -> None:
        """A heartbeat has come."""
        self._heard_s = now_s
        self.load_percent = float(counters.get("load_percent", 0.0))
        self.lateness_ms = float(
            max(counters.get("tick_lateness_p95_ms", 0.0), counters.get("loop_lag_ms", 0.0))
        )
        late_part = _part(self.lateness_ms, self._lateness_max_ms)
        load_part = _part(self.load_percent, self._load_max_percent)
        if late_part > 1.0 or load_part > 1.0:
            self.is_over = True
        elif late_part <= LATENESS_BACK and load_part <= LOAD_BACK:
            self.is_over = False

    def place(self, now_s: float) -> None:
        """A call was placed here."""
        self._placed_s.append(now_s)

    def expected_percent(self, now_s: float) -> float:
        """The load that was measured, and what calls that are too new to be in it will add."""
        placed = self._placed_s
        while placed and placed[0] <= now_s - SETTLE_S:
            placed.popleft()
        return self.load_percent + CALL_LOAD_PERCENT * len(placed)

    def takes(self, now_s: float) -> bool:
        """Whether a new call may be placed here."""
        if not self._lateness_max_ms and not self._load_max_percent:
            return True
        if self.is_over or now_s - self._heard_s > SILENCE_MAX_S:
            return False
        return _part(self.expected_percent(now_s), self._load_max_percent) <= 1.0


def _part(value: float, limit: float) -> float:
    """Of its limit; 0 where there is none."""
    return value / limit if limit else 0.0
