"""`python -m bench.chaos`: random and named SIGKILLs under calls, in rounds, with the checker's verdict after each.

Exit code 0 when all rounds are done and nothing was found, 1 when the checker found anything or a point was not reached,
2 when the rounds of a file do not fit what is asked for, 3 when rounds are left (`--at-most`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import trio

from bench.chaos.points import POINTS
from bench.chaos.rounds import Book, OtherPlan, divided
from bench.chaos.run import Outcome, Plan, run


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="random SIGKILLs, in all rounds")
    parser.add_argument("--named", type=int, default=40, help="SIGKILLs at named points")
    parser.add_argument("--calls", type=int, default=20, help="calls at any time")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first round; then one more each"
    )
    parser.add_argument("--points", help="names, with commas; else all of them, in turn")
    parser.add_argument("--rounds", type=int, default=1, help="each with a daemon of its own")
    parser.add_argument("--resume", action="store_true", help="go on with the rounds of --json")
    parser.add_argument("--at-most", type=int, help="rounds to play now")
    parser.add_argument("--folder", type=Path, help="keep stores, logs and configurations there")
    parser.add_argument("--json", type=Path, help="every round's outcome, written when it ends")
    given = parser.parse_args()
    points = POINTS
    if given.points:
        points = tuple(point for point in POINTS if point.name in given.points.split(","))
    plan = Plan(
        kills=given.kills,
        named=given.named,
        calls=given.calls,
        workers=given.workers,
        seed=given.seed,
        points=points,
    )
    try:
        book = Book(given.json, divided(plan, given.rounds), resume=given.resume)
    except (OtherPlan, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for each in book.to_do()[: given.at_most]:
        _play(book, each, given.folder)
    return _total(book)


def _play(book: Book, plan: Plan, folder: Path | None) -> None:
    attempt = book.begin(plan)
    with tempfile.TemporaryDirectory() as temporary:
        place = folder / f"seed-{plan.seed}-{len(book.attempts)}" if folder else Path(temporary)
        outcome = trio.run(run, place, plan, _say)
    book.end(attempt, outcome)
    _tell(plan, outcome)


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


def _total(book: Book) -> int:
    """Say what all rounds came to; returns the exit code."""
    totals = book.totals()
    _say(
        f"\n{totals['rounds_done']} of {totals['rounds']} rounds, {totals['seconds']:g} s, build"
        f" {', '.join(totals['builds']) or '-'}: {totals['worker_kills']} workers and"
        f" {totals['control_kills']} control processes killed at random, {totals['named_kills']} kills at"
        f" {len(totals['points_covered'])} of {len(POINTS)} named points ({len(totals['points_missed'])} not"
        f" reached); {totals['calls']} calls, {totals['records']} records, {totals['conversations']}"
        f" conversations, {totals['messages']} messages, {totals['opt_outs']} opt-outs"
    )
    _say(
        f"findings: {len(totals['problems'])}; before they were played again,"
        f" {totals['former_with_findings']} rounds had findings; {totals['interrupted']} were interrupted"
    )
    for problem in totals["problems"]:
        _say(f"  {problem}")
    if totals["problems"]:
        return 1
    return 3 if book.to_do() else 0


if __name__ == "__main__":
    sys.exit(main())
