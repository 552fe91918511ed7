"""How late and how slow the media plane is: what it measures of all calls, and of each. Pure."""

from __future__ import annotations

from typing import Any

from gateway.grid import Grid, Histogram, Window


class PlaneTimes:
    """Since the start, and in the newest `WINDOW_BEATS` beats of the worker."""

    def __init__(self, grid: Grid) -> None:
        self._uplink = Histogram()
        self._clear = Histogram()
        self._histograms = {
            "tick_lateness": grid.lateness,
            "uplink_latency": self._uplink,
            "clear_latency": self._clear,
        }
        self._newest = {name: Window(histogram) for name, histogram in self._histograms.items()}

    def uplink(self, own: Histogram | None, latency_ms: float) -> None:
        """From the wake that found a frame of caller audio to its bytes being sent. `own` is the call's; `None`: it is gone."""
        self._uplink.add(latency_ms)
        if own is not None:
            own.add(latency_ms)

    def clear(self, own: Histogram, latency_ms: float) -> None:
        """From the wake that found an interruption to `clear` being sent."""
        self._clear.add(latency_ms)
        own.add(latency_ms)

    def beat(self) -> dict[str, float]:
        """Once a heartbeat: quantiles of the newest beats, in milliseconds."""
        for newest in self._newest.values():
            newest.roll()
        ticks = self._newest["tick_lateness"]
        return {
            "tick_lateness_p95_ms": round(ticks.quantile(0.95), 3),
            "tick_lateness_p99_ms": round(ticks.quantile(0.99), 3),
            "tick_lateness_max_ms": round(ticks.max_ms, 3),
            "uplink_latency_p99_ms": round(self._newest["uplink_latency"].quantile(0.99), 3),
            "clear_latency_p99_ms": round(self._newest["clear_latency"].quantile(0.99), 3),
        }

    def buckets(self) -> dict[str, dict[str, Any]]:
        """All since the start; see `Histogram.buckets`."""
        return {name: histogram.buckets() for name, histogram in self._histograms.items()}
