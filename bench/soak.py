"""python -m bench.soak [--calls 200] [--seconds 1800] [--churn 0.5] [--fill 2000] [--priority 0] [--json FILE]

Many calls for a long time through the daemon, with short ones coming and going beside them: memory has to stay flat,
every descriptor has to come back, and no caller may hear a gap. Short calls come first, as many as it takes until what
is kept on purpose has its size: pages and statements of each connection to the store, tickets of the last ten minutes,
deadlines that Trio drops by the thousand. What grows after them is lost memory. Memory and descriptors of each process are read every
ten seconds. Exit code 0 when all of it holds, 1 when it does not, 3 when the generator was the bottleneck.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.load import procfs
from bench.load.plan import StepPlan
from bench.load.steps import Bench, StepFailed, run_step
from bench.load.targets import DAEMON

SAMPLE_EVERY_S = 10.0
SETTLE_SHARE = 0.25
"""The first part of the window is not judged: allocators and caches fill."""
JUDGED_FROM_S = 300.0
"""A shorter window says nothing about a slope: it is shown, and not judged."""
SLOPE_MAX_KIB_PER_MIN = 64.0
"""Of one process. At 200 calls that is a third of a KiB a call and minute: a frame that is kept is 160 bytes, 50
times a second."""
BACK_WITHIN_S = 30.0
"""After the last call: HTTP connections are kept alive for some seconds."""
SLACK = {"worker": 0, "control": 32}
"""Descriptors beyond those of the idle process: control's pools of connections to the store and to the providers fill
once and stay."""
EXIT_MISSED, EXIT_REFUSED = 1, 3


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one process, at seconds since the window's begin (below 0: before it)."""

    at_s: float
    rss_kib: int
    pss_kib: int
    descriptors: int


@dataclass(slots=True)
class Watcher:
    """Reads the processes while the load runs; a `bench.load.steps.Watch`."""

    every_s: float = SAMPLE_EVERY_S
    back_within_s: float = BACK_WITHIN_S
    samples: dict[int, list[Sample]] = field(default_factory=dict)
    roles: dict[int, str] = field(default_factory=dict)
    idle: dict[int, list[str]] = field(default_factory=dict)
    final: dict[int, list[str]] = field(default_factory=dict)
    begin_s: float | None = None
    end_s: float = 0.0
    _next_s: float = 0.0

    def __call__(self, event: dict[str, Any], roles: dict[str, list[int]]) -> None:
        now_s = time.monotonic()
        match event["event"]:
            case "idle":
                self.roles = {pid: role for role, pids in roles.items() for pid in pids}
                self.idle = {pid: procfs.descriptors(pid) for pid in self.roles}
                self._next_s = now_s
            case "window_begin":
                self.begin_s, self._next_s = now_s, now_s
            case "window_end":
                self.end_s, self._next_s = now_s, now_s
            case "done":
                self._wait_until_back(now_s + self.back_within_s)
        if now_s >= self._next_s:
            self._next_s = now_s + self.every_s
            self._sample(now_s)

    def _sample(self, now_s: float) -> None:
        at_s = round(now_s - self.begin_s, 1) if self.begin_s is not None else -1.0
        for pid in self.roles:
            sample = Sample(
                at_s, procfs.rss_kib(pid), procfs.pss_kib(pid), len(procfs.descriptors(pid))
            )
            self.samples.setdefault(pid, []).append(sample)

    def _wait_until_back(self, until_s: float) -> None:
        while True:
            self.final = {pid: procfs.descriptors(pid) for pid in self.roles}
            if not self.left_open() or time.monotonic() > until_s:
                return
            time.sleep(0.5)

    def left_open(self) -> dict[int, dict[str, int]]:
        """By process what is open at the end and was not before, where that is more than may be."""
        found = {}
        for pid, role in self.roles.items():
            more = len(self.final[pid]) - len(self.idle[pid])
            if more > SLACK.get(role, 0):
                found[pid] = dict(Counter(self.final[pid]) - Counter(self.idle[pid]))
        return found

    def plain(self) -> dict[int, list[dict[str, Any]]]:
        """All samples, by process, for JSON."""
        return {pid: [asdict(one) for one in all_] for pid, all_ in self.samples.items()}

    def window(self, pid: int) -> list[Sample]:
        """The samples that are judged."""
        length_s = self.end_s - (self.begin_s or 0.0)
        return [
            s for s in self.samples.get(pid, []) if SETTLE_SHARE * length_s <= s.at_s <= length_s
        ]


def _keep(path: str | None, found: Mapping[str, Any]) -> None:
    """Also what was read before a soak broke off: it took an hour."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(found, indent=1) + "\n")


def slope_kib_per_min(samples: Sequence[Sample]) -> float:
    """Of the least-squares line through PSS; 0 for fewer than three samples."""
    if len(samples) < 3:
        return 0.0
    times = [sample.at_s / 60 for sample in samples]
    sizes = [float(sample.pss_kib) for sample in samples]
    middle, mean = sum(times) / len(times), sum(sizes) / len(sizes)
    spread = sum((at - middle) ** 2 for at in times)
    leaning = sum((at - middle) * (kib - mean) for at, kib in zip(times, sizes, strict=True))
    return leaning / spread if spread else 0.0


def account(watcher: Watcher, result: Mapping[str, Any], *, is_judged: bool) -> dict[str, Any]:
    """What came out, and what of it may not be."""
    processes = []
    missed = []
    for pid, role in watcher.roles.items():
        inside = watcher.window(pid)
        slope = slope_kib_per_min(inside)
        processes.append(
            {
                "pid": pid,
                "role": role,
                "pss_kib": [inside[0].pss_kib, inside[-1].pss_kib] if inside else [],
                "rss_kib": [inside[0].rss_kib, inside[-1].rss_kib] if inside else [],
                "slope_kib_per_min": round(slope, 2),
                "descriptors": {
                    "idle": len(watcher.idle[pid]),
                    "peak": max((s.descriptors for s in watcher.samples[pid]), default=0),
                    "final": len(watcher.final[pid]),
                },
            }
        )
        if not watcher.final[pid]:
            missed.append(f"{role} {pid} has died")
        if is_judged and slope > SLOPE_MAX_KIB_PER_MIN:
            missed.append(f"{role} {pid} grows by {slope:.0f} KiB a minute")
    for pid, left in watcher.left_open().items():
        missed.append(f"{watcher.roles[pid]} {pid} has not closed {left}")
    if result["account"]["calls_failed"]:
        missed.append(f"{result['account']['calls_failed']} calls failed")
    if not result["account"]["balances"]:
        missed.append("counts do not balance")
    # Whoever measures late hears gaps that are its own.
    if result["underruns"] and not result["verdict"]["refused"]:
        missed.append(f"{result['underruns']} underruns")
    return {
        "processes": processes,
        "underruns": result["underruns"],
        "calls": result["calls"],
        "short_calls": result["short_calls"],
        "slope_judged": is_judged,
        "missed": missed,
        "refused": result["verdict"]["refused"],
        "samples": watcher.plain(),
    }


def soak(plan: StepPlan, bench: Bench, watcher: Watcher) -> dict[str, Any]:
    """One soak; its account. Raises StepFailed when it could not be run."""
    result = run_step(DAEMON, plan, bench, _show, watcher)
    return account(watcher, result, is_judged=plan.seconds >= JUDGED_FROM_S)


def _show(event: dict[str, Any]) -> None:
    if event["event"] in ("window_begin", "window_end"):
        counts = {name: event[name] for name in ("talking", "failed", "ended")}
        print(f"{event['event']}: {counts}", file=sys.stderr, flush=True)


def main() -> int:
    """Run it and say what came out."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--churn", type=float, default=0.5, help="short calls a second beside them")
    parser.add_argument("--fill", type=int, default=2000, help="short calls before all others")
    parser.add_argument(
        "--priority", type=int, default=0, help="niceness of the target and the generator"
    )
    parser.add_argument("--json", help="everything that was read goes to this file")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    bench = Bench({cores[0]}, set(cores[1:]) or set(cores), priority=options.priority)
    plan = StepPlan(
        calls=options.calls,
        seconds=options.seconds,
        ramp_per_s=10.0,
        churn_per_s=options.churn,
        fill_calls=options.fill,
    )
    watcher = Watcher()
    try:
        found = soak(plan, bench, watcher)
    except StepFailed as error:
        print(f"soak: {error}", file=sys.stderr)
        _keep(options.json, {"failed": str(error), "samples": watcher.plain()})
        return EXIT_MISSED
    _keep(options.json, found)
    shown = {name: value for name, value in found.items() if name != "samples"}
    print(json.dumps(shown, indent=1))
    if found["missed"]:
        return EXIT_MISSED
    return EXIT_REFUSED if found["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
