"""The playout grid of a worker, how late it runs, and how busy the worker is. Pure.

The grid has absolute deadlines (`origin + n * slot`): relative ones drift by milliseconds a second. It is
split into phases, so that not all calls send in the same instant.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

GRID_S = 0.020
PHASES = 4
SLOT_S = GRID_S / PHASES
GRID_RESET_S = 1.0
"""Later than this (machine suspended, process stopped) the grid starts anew instead of catching up."""

LOAD_WINDOW_S = 1.0
# From which share of the core a message holds two and three frames, and below which it goes back by one.
_LONGER_AT = (0.15, 0.30)
_SHORTER_BELOW = (0.10, 0.22)

_LATENCY_EDGES_MS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, math.inf)

WINDOW_BEATS = 4
"""Heartbeats, a second apart, over which the headroom of a worker is measured."""


class Histogram:
    """Counts by fixed upper edges in milliseconds; adding costs a few comparisons and no memory."""

    __slots__ = ("counts", "max_ms", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * len(_LATENCY_EDGES_MS)
        self.sum_ms = 0.0
        self.max_ms = 0.0

    def add(self, value_ms: float) -> None:
        index = 0
        while value_ms > _LATENCY_EDGES_MS[index]:
            index += 1
        self.counts[index] += 1
        self.sum_ms += value_ms
        if value_ms > self.max_ms:
            self.max_ms = value_ms

    def quantile(self, share: float) -> float:
        """Upper edge of the bucket that holds the given share of the values (0.0 when empty)."""
        return _quantile(self.counts, share, self.max_ms)

    def buckets(self) -> dict[str, Any]:
        """All values so far, for whoever takes differences: the last count is of what is above all edges."""
        return {
            "edges_ms": list(_LATENCY_EDGES_MS[:-1]),
            "counts": list(self.counts),
            "sum_ms": round(self.sum_ms, 3),
        }

    def report(self) -> dict[str, float]:
        total = sum(self.counts)
        return {
            "count": total,
            "mean_ms": round(self.sum_ms / total, 3) if total else 0.0,
            "p50_ms": round(self.quantile(0.5), 3),
            "p99_ms": round(self.quantile(0.99), 3),
            "max_ms": round(self.max_ms, 3),
        }


def _quantile(counts: list[int], share: float, max_ms: float) -> float:
    total = sum(counts)
    if not total:
        return 0.0
    seen = 0
    for edge, count in zip(_LATENCY_EDGES_MS, counts, strict=True):
        seen += count
        if seen >= share * total:
            return min(edge, max_ms)
    return max_ms


class Window:
    """The newest `WINDOW_BEATS` beats of a histogram, by differences: adding a value costs nothing more.

    It takes the histogram's `max_ms` with each beat, which is the largest of one beat from then on.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._before: deque[list[int]] = deque([list(histogram.counts)], WINDOW_BEATS)
        self._peaks: deque[float] = deque(maxlen=WINDOW_BEATS)
        self._counts = [0] * len(histogram.counts)

    def roll(self) -> None:
        """A beat is over."""
        histogram = self._histogram
        now = histogram.counts
        self._counts = [new - old for new, old in zip(now, self._before[0], strict=True)]
        self._before.append(list(now))
        self._peaks.append(histogram.max_ms)
        histogram.max_ms = 0.0

    @property
    def max_ms(self) -> float:
        """The largest value (0.0 when empty)."""
        return max(self._peaks, default=0.0)

    def quantile(self, share: float) -> float:
        """Like `Histogram.quantile`."""
        return _quantile(self._counts, share, self.max_ms)


class Grid:
    """Deadlines one after another, PHASES to 20 ms. Stopped until `start`."""

    __slots__ = ("_origin_s", "_slot", "due_s", "lateness", "missed", "resets")

    def __init__(self) -> None:
        self._origin_s = 0.0
        self._slot = 0
        self.due_s = math.inf
        self.lateness = Histogram()
        self.missed = 0
        self.resets = 0

    def start(self, now_s: float) -> None:
        self._origin_s = now_s
        self._slot = 1
        self.due_s = now_s + SLOT_S

    def stop(self) -> None:
        self.due_s = math.inf

    def take(self, now_s: float) -> list[int]:
        """The phases whose deadlines have passed, each once and in order; arms the next deadline.

        What a late loop has missed is counted and made good by the one tick: what is due follows from
        the time, not from the number of ticks.
        """
        phases: list[int] = []
        while now_s >= self.due_s:
            late_s = now_s - self.due_s
            self.lateness.add(late_s * 1000.0)
            if late_s > GRID_S:
                self.missed += 1
                if late_s > GRID_RESET_S:
                    self.resets += 1
                    self.start(now_s)
                    return list(range(PHASES))
            phase = self._slot % PHASES
            if phase not in phases:
                phases.append(phase)
            self._slot += 1
            self.due_s = self._origin_s + self._slot * SLOT_S
        return phases


class Load:
    """How much of its time the loop works, and from that how many frames go into one message.

    Longer messages save system calls when they are dear; they change neither the lead nor what a barge-in
    discards.
    """

    __slots__ = ("_beats", "_busy_then_s", "_since_s", "busy_s", "frames_per_message", "share")

    def __init__(self) -> None:
        self.busy_s = 0.0
        """All of it so far."""
        self._busy_then_s = 0.0
        self._since_s: float | None = None
        self._beats: deque[tuple[float, float]] = deque(maxlen=WINDOW_BEATS)
        self.share = 0.0
        self.frames_per_message = 1

    def add(self, busy_s: float, now_s: float) -> None:
        """The loop has just worked for `busy_s`."""
        self.busy_s += busy_s
        if self._since_s is None:
            self._since_s = now_s
            return
        window_s = now_s - self._since_s
        if window_s < LOAD_WINDOW_S:
            return
        self.share = min((self.busy_s - self._busy_then_s) / window_s, 1.0)
        self._busy_then_s = self.busy_s
        self._since_s = now_s
        frames = self.frames_per_message
        if frames < 3 and self.share >= _LONGER_AT[frames - 1]:
            self.frames_per_message = frames + 1
        elif frames > 1 and self.share < _SHORTER_BELOW[frames - 2]:
            self.frames_per_message = frames - 1

    def beat(self, now_s: float) -> float:
        """Once a heartbeat: the share of the newest `WINDOW_BEATS` of them in which the loop worked.

        Unlike `share` it also falls when the loop has nothing to do any more and is not looked at.
        """
        then_s, busy_then_s = self._beats[0] if self._beats else (now_s, self.busy_s)
        self._beats.append((now_s, self.busy_s))
        if now_s <= then_s:
            return 0.0
        return min((self.busy_s - busy_then_s) / (now_s - then_s), 1.0)
