"""A long run in rounds: each has a daemon, simulators and a store of its own, and its outcome is written down at once.

So a run of an hour can be interrupted and resumed. A round that was begun and came to no verdict, or whose verdict was bad, is
played again by `--resume`; what it was before stays in the file, and is told at the end.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.chaos.points import Point
from bench.chaos.run import Outcome, Plan

_REPOSITORY = Path(__file__).resolve().parents[2]
_PRODUCT = ("control", "gateway", "policy")
_SUMS = ("worker_kills", "control_kills", "calls", "records", "conversations", "messages")


class OtherPlan(Exception):
    """The file holds rounds of another plan; they cannot be added to these."""


def build() -> str:
    """Which product this is: a digest of its source, the same on every machine."""
    digest = hashlib.sha256()
    for folder in _PRODUCT:
        for path in sorted((_REPOSITORY / folder).rglob("*.py*")):
            if path.suffix in (".py", ".pyx"):
                digest.update(str(path.relative_to(_REPOSITORY)).encode() + b"\0")
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def divided(plan: Plan, rounds: int) -> list[Plan]:
    """One plan a round: kills and points in equal shares, seeds one after another, the points going on where they were.

    Raises ValueError when they cannot be shared out equally.
    """
    if rounds < 1 or plan.kills % rounds or plan.named % rounds:
        raise ValueError(f"{plan.kills} and {plan.named} kills are no {rounds} equal rounds")
    named = plan.named // rounds
    return [
        dataclasses.replace(
            plan,
            kills=plan.kills // rounds,
            named=named,
            seed=plan.seed + index,
            points=_turned(plan.points, index * named),
        )
        for index in range(rounds)
    ]


def _turned(points: Sequence[Point], by: int) -> Sequence[Point]:
    at = by % len(points)
    return (*points[at:], *points[:at])


@dataclass
class Attempt:
    """One try of a round. Without an outcome it was interrupted, or goes on."""

    seed: int
    build: str
    began_at: str
    outcome: dict[str, Any] | None = None

    @property
    def is_good(self) -> bool:
        return self.outcome is not None and not self.outcome["problems"]


class Book:
    """The file. `path` None: nothing is written down."""

    def __init__(self, path: Path | None, plans: Sequence[Plan], *, resume: bool) -> None:
        """Raises OtherPlan when it is resumed with other numbers, OSError when the file cannot be read."""
        self.attempts: list[Attempt] = []
        self._path = path
        self._plans = plans
        if resume and path is not None and path.exists():
            told = json.loads(path.read_text())
            if told["rounds"] != self._rounds():
                raise OtherPlan(f"{path} holds rounds of another plan")
            self.attempts = [Attempt(**attempt) for attempt in told["attempts"]]

    def to_do(self) -> list[Plan]:
        """The rounds without a good verdict."""
        good = {seed for seed, attempt in self._latest().items() if attempt.is_good}
        return [plan for plan in self._plans if plan.seed not in good]

    def begin(self, plan: Plan) -> Attempt:
        """Written down before anything is killed, so that an attempt that is interrupted is not forgotten."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        attempt = Attempt(plan.seed, build(), now)
        self.attempts.append(attempt)
        self._write()
        return attempt

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.outcome = dataclasses.asdict(outcome)
        self._write()

    def totals(self) -> dict[str, Any]:
        """What was done in all, by the last attempt of each round, and what was found."""
        latest = self._latest()
        outcomes = [each.outcome for each in latest.values() if each.outcome is not None]
        former = [each for each in self.attempts if latest[each.seed] is not each]
        results: Counter[str] = Counter()
        for outcome in outcomes:
            results.update(outcome["results"])
        points = Counter(name for outcome in outcomes for name in outcome["named_kills"])
        return {
            "rounds": len(self._plans),
            "rounds_done": len(outcomes),
            "builds": sorted({each.build for each in latest.values() if each.outcome}),
            **{name: sum(outcome[name] for outcome in outcomes) for name in _SUMS},
            "opt_outs": sum(outcome["opt_outs"] for outcome in outcomes),
            "named_kills": points.total(),
            "points_covered": sorted(points),
            "points_missed": [name for each in outcomes for name in each["points_missed"]],
            "seconds": round(sum(outcome["seconds"] for outcome in outcomes), 1),
            "results": dict(results),
            "problems": [
                f"seed {each.seed}: {problem}"
                for each in latest.values()
                if each.outcome
                for problem in each.outcome["problems"]
            ],
            "former_with_findings": sum(bool(e.outcome and not e.is_good) for e in former),
            "interrupted": sum(each.outcome is None for each in self.attempts),
        }

    def _latest(self) -> dict[int, Attempt]:
        """The last attempt of each round; one that came to a verdict before one that did not."""
        latest: dict[int, Attempt] = {}
        for attempt in self.attempts:
            if attempt.outcome is not None or attempt.seed not in latest:
                latest[attempt.seed] = attempt
        return latest

    def _rounds(self) -> list[dict[str, Any]]:
        return [
            {
                "seed": plan.seed,
                "kills": plan.kills,
                "calls": plan.calls,
                "workers": plan.workers,
                "points": [plan.points[i % len(plan.points)].name for i in range(plan.named)],
            }
            for plan in self._plans
        ]

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "rounds": self._rounds(),
            "attempts": [dataclasses.asdict(attempt) for attempt in self.attempts],
            "totals": self.totals(),
        }
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(told, indent=1))
        partial.replace(self._path)
