"""What is measured while the calls run, and its summary. Times are seconds of the monotonic clock."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.load.hot import Times, seconds_of

QUANTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}


@dataclass(slots=True)
class Second:
    """One second of the window, all calls together."""

    leads: int = 0
    lead_sum_ms: float = 0.0
    lead_min_ms: float = math.inf
    underruns: int = 0
    underrun_ms: float = 0.0


def by_second(at_s: Any, values: Any) -> dict[int, Any]:
    """The values of each second that has any. Sorted once: half an hour of 200 calls has 18 million frames."""
    if not values.size:
        return {}
    second = at_s.astype(np.int64)
    order = np.argsort(second, kind="stable")
    names, begins = np.unique(second[order], return_index=True)
    return dict(zip(names.tolist(), np.split(values[order], begins[1:]), strict=True))


class Tally:
    """Filled by callers and agents. Uplink frames count when they were *sent* inside the window."""

    def __init__(self) -> None:
        self.begin_s = math.inf
        self.end_s = math.inf
        self._uplink_ms: list[Any] = [np.zeros(0)]
        self._uplink_at_s: list[Any] = [np.zeros(0)]
        self.webhook_ms: list[float] = []
        self.setup_ms: list[float] = []
        self.first_word_ms: list[float] = []
        self.clear_ms: list[float] = []
        self.lateness_ms = array("f")
        self.lead_s = Times()
        self.lead_at_s = Times()
        self.errors: Counter[str] = Counter()
        self.interruptions = 0
        self.clears = 0
        self.is_open = False

    def open(self, at_s: float) -> None:
        """The window begins."""
        self.begin_s = at_s
        self.is_open = True

    def close(self, at_s: float) -> None:
        """The window is over."""
        self.end_s = at_s
        self.is_open = False

    def uplink(self, sent_s: Any, arrived_s: Any) -> None:
        """A call's frames: when each was sent, and when its middle was at the agent."""
        count = min(len(sent_s), len(arrived_s))
        sent = seconds_of(sent_s)[:count]
        arrived = seconds_of(arrived_s)[:count]
        inside = (sent >= self.begin_s) & (sent < self.end_s)
        self._uplink_ms.append((arrived[inside] - sent[inside]) * 1000.0)
        self._uplink_at_s.append(sent[inside] - self.begin_s)

    def lead(self, lead_s: float, at_s: float) -> None:
        """What a virtual Twilio still held when audio came; negative: it had run dry within a turn."""
        if lead_s != math.inf:
            self.lead_s.append(lead_s)
            self.lead_at_s.append(at_s)

    def _leads(self) -> tuple[Any, dict[int, Second]]:
        """The leads of the window in milliseconds, and second by second."""
        lead_ms, at_s = seconds_of(self.lead_s) * 1000.0, seconds_of(self.lead_at_s)
        inside = (at_s >= self.begin_s) & (at_s < self.end_s)
        lead_ms, at_s = lead_ms[inside], at_s[inside] - self.begin_s
        seconds = {}
        for second, found in by_second(at_s, lead_ms).items():
            held = np.maximum(found, 0.0)
            seconds[second] = Second(
                leads=len(found),
                lead_sum_ms=float(held.sum()),
                lead_min_ms=float(held.min()),
                underruns=int((found < 0.0).sum()),
                underrun_ms=float(-found[found < 0.0].sum()),
            )
        return np.maximum(lead_ms, 0.0), seconds

    def summary(self) -> dict[str, Any]:
        """Percentiles and the course over the window."""
        uplink = np.concatenate(self._uplink_ms)
        at_s = np.concatenate(self._uplink_at_s)
        lead_ms, seconds = self._leads()
        uplink_of = by_second(at_s, uplink)
        underruns = sum(second.underruns for second in seconds.values())
        return {
            "uplink_ms": spread(uplink),
            "first_word_ms": spread(self.first_word_ms),
            "clear_ms": spread(self.clear_ms),
            "webhook_ms": spread(self.webhook_ms),
            "setup_ms": spread(self.setup_ms),
            "lead_ms": spread(lead_ms),
            "underruns": underruns,
            "underrun_ms": round(sum(s.underrun_ms for s in seconds.values()), 1),
            "interruptions": self.interruptions,
            "clears": self.clears,
            "over_time": [
                {
                    "s": second,
                    "lead_mean_ms": round(found.lead_sum_ms / max(1, found.leads), 1),
                    "lead_min_ms": round(min(found.lead_min_ms, 1e6), 1),
                    "underruns": found.underruns,
                    "underrun_ms": round(found.underrun_ms, 1),
                    "uplink_p99_ms": _p99(uplink_of.get(second, np.zeros(0))),
                }
                for second, found in sorted(seconds.items())
            ],
            "errors": dict(self.errors),
        }


def spread(values: Any) -> dict[str, float]:
    """Count, median and upper percentiles, largest; only the count when there are no values."""
    found = np.asarray(values, np.float64)
    if not found.size:
        return {"count": 0}
    quantiles = {name: round(float(np.percentile(found, q)), 3) for name, q in QUANTILES.items()}
    return {"count": int(found.size), **quantiles, "max": round(float(found.max()), 3)}


def _p99(values: Any) -> float | None:
    return round(float(np.percentile(values, 99.0)), 3) if values.size else None
