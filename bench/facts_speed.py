"""What it costs to read the facts of a decision, by how many calls the tenant has made this month.

    python -m bench.facts_speed [--calls 0,1000,10000,100000] [--rounds 60]

The tenant dials five numbers a second at the end of a month of such days; one call in four is answered, the others are busy.
Prints CPU of the thread in milliseconds, median: to read the facts, and to make of them what is kept with the decision.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from control.compliance import facts, stored
from control.compliance.facts import Asked
from control.compliance.number_file import Shelf
from control.store import Store, agents, rows
from control.store.records import AgentRecord, CallRecord
from control.store.tables import calls as table

NOW = datetime(2027, 1, 30, 18, 0, tzinfo=UTC)
OURS, THEIRS = "+14155550199", "+14155569999"
ASKED = Asked("outbound", "dial", "tnt_default", "agt_1", OURS, THEIRS, call_id="call_now")
A_DAY = 8 * 3600 * 5
"""Calls of eight hours at five a second."""


def fill(conn: Connection, count: int) -> None:
    """The newest call a moment ago, five a second, on one day after the other."""
    done = [_call(n) for n in range(count)]
    if done:
        conn.execute(insert(table), [rows.values(one) for one in done])


def _call(n: int) -> CallRecord:
    days, nth = divmod(n, A_DAY)
    at = NOW - timedelta(days=days, seconds=1 + nth * 0.2)
    is_talk = n % 4 == 0
    return CallRecord(
        f"call_{10**9 - n:010d}",
        "outbound",
        at,
        agent_id="agt_1",
        from_number=OURS,
        to_number=f"+1415556{n % 9000:04d}",
        status="completed" if is_talk else "busy",
        campaign="agt_1",
        ringing_at=at,
        answered_at=at if is_talk else None,
        ended_at=at + timedelta(seconds=50 if is_talk else 1),
        sent_at=at,
        dial_state="created",
        abandoned=False if is_talk else None,
    )


def measure(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Milliseconds of CPU, medians."""
    store = Store.open(f"sqlite:///{folder / 'store.db'}")
    agent = AgentRecord("agt_1", "Ada", NOW, NOW, status="live", number_e164=OURS)
    with store._engine.connect() as conn, conn.begin():
        agents.insert(conn, agent)
        fill(conn, count)
    shelf = Shelf(folder)
    read, keep = [], []
    for _ in range(rounds + 5):
        with store._engine.connect() as conn, conn.begin():
            known, taken = _timed(lambda: facts.assemble(conn, ASKED, NOW, NOW, shelf))
        read.append(taken)
        keep.append(_timed(lambda: stored.dump(replace(known, at=NOW)))[1])  # noqa: B023
    store.close()
    return {"read": statistics.median(read[5:]), "keep": statistics.median(keep[5:])}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    before = time.thread_time_ns()
    result = work()
    return result, (time.thread_time_ns() - before) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", default="0,1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    for count in map(int, options.calls.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), count, options.rounds)
        print(f"{count:8,} calls: read {found['read']:7.2f} ms, keep {found['keep']:6.2f} ms")


if __name__ == "__main__":
    main()
