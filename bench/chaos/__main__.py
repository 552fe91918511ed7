"""`python -m bench.chaos`: exit code 1 when the checker finds anything."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import trio

from bench.chaos.run import Plan, run


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="random SIGKILLs")
    parser.add_argument("--named", type=int, default=40, help="SIGKILLs at named points")
    parser.add_argument("--calls", type=int, default=20, help="calls at any time")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = trio.run(run, Path(folder), Plan(**vars(given)))
    print(
        f"seed {given.seed}: {outcome.worker_kills} workers and {outcome.control_kills} controls killed at"
        f" random, {len(outcome.named_kills)} at named points ({len(outcome.points_missed)} not reached),"
        f" under {given.calls} calls; {outcome.calls} calls, {outcome.conversations} conversations"
    )
    for problem in outcome.problems:
        print(f"  {problem}")
    print("the checker finds nothing" if not outcome.problems else "FAILED")
    return 1 if outcome.problems else 0


sys.exit(main())
