"""`python -m bench.chaos`: exit code 1 when the checker finds anything, or a point was not reached."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path

import trio

from bench.chaos.points import POINTS
from bench.chaos.run import Outcome, Plan, run


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="random SIGKILLs")
    parser.add_argument("--named", type=int, default=40, help="SIGKILLs at named points")
    parser.add_argument("--calls", type=int, default=20, help="calls at any time")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--points", help="names, with commas; else all of them, in turn")
    parser.add_argument("--folder", type=Path, help="keep store, logs and configuration there")
    parser.add_argument("--json", type=Path, help="write the outcome there")
    given = vars(parser.parse_args())
    folder, report, names = given.pop("folder"), given.pop("json"), given.pop("points")
    if names:
        given["points"] = [point for point in POINTS if point.name in names.split(",")]
    plan = Plan(**given)
    with tempfile.TemporaryDirectory() as temporary:
        outcome = trio.run(run, folder or Path(temporary), plan, _say)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(dataclasses.asdict(outcome), indent=1))
    _tell(plan, outcome)
    return 1 if outcome.problems else 0


def _say(text: str) -> None:
    print(text, flush=True)


def _tell(plan: Plan, outcome: Outcome) -> None:
    going = statistics.median(outcome.going) if outcome.going else 0
    _say(
        f"seed {plan.seed}: SIGKILL to {outcome.worker_kills} workers and {outcome.control_kills} control"
        f" processes at random, {len(outcome.named_kills)} at {len(set(outcome.named_kills))} named points"
        f" ({len(outcome.points_missed)} not reached), in {outcome.seconds:g} s"
    )
    _say(
        f"{outcome.calls} calls ({going:g} at a time, median), {outcome.records} records,"
        f" {outcome.conversations} conversations, {outcome.messages} messages,"
        f" {outcome.opt_outs} opt-outs confirmed; results: {outcome.results}"
    )
    for problem in outcome.problems:
        _say(f"  {problem}")
    _say("FAILED" if outcome.problems else "the checker finds nothing")


if __name__ == "__main__":
    sys.exit(main())
