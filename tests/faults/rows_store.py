"""Rows of the fault table: the store and the disk. Each has a daemon to itself."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing

import trio

from tests.faults.bed import Bed
from tests.faults.rows import APOLOGY, Row

LOCKED_S = 2.0
FULL_S = 2.0
RECORDED_BYTES = 8_000


async def _lock(bed: Bed, seconds: float) -> None:
    """Somebody else has SQLite's only writer's lock."""

    with closing(sqlite3.connect(bed.rig.folder / "tandem.db", isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout=5000")
        other.execute("BEGIN IMMEDIATE")
        await trio.sleep(seconds)
        other.execute("ROLLBACK")


async def _locked(bed: Bed, row: Row, call) -> None:
    await _lock(bed, LOCKED_S)


async def _locked_at_ring(bed: Bed, row: Row) -> None:
    await _lock(bed, LOCKED_S)


async def _full(bed: Bed, row: Row, call) -> None:
    """No file of control's may grow: what a full disk does to it."""
    pid = bed.rig.daemon.process.pid
    former = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4_096, former[1]))
    await trio.sleep(FULL_S)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, former)


async def _full_at_ring(bed: Bed, row: Row) -> None:
    await _full(bed, row, None)


def _no_recordings(bed: Bed, row: Row) -> None:
    """A file lies where the folder of recordings should be."""
    folder = bed.rig.folder / "recordings"
    if folder.exists():
        folder.rmdir()
    folder.write_text("")


async def _recording_full(bed: Bed, row: Row, call) -> None:
    """No file of the worker's may grow any more."""
    lines = bed.rig.daemon.log_lines()
    (pid,) = [line["pid"] for line in lines if line.get("event") == "worker_ready"]
    former = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (RECORDED_BYTES, former[1]))
    await trio.sleep(FULL_S)


ROWS = (
    Row(
        name="store_locked",
        what="the database is locked for two seconds in mid-call",
        act=_locked,
    ),
    Row(
        name="store_locked_at_ring",
        what="the database is locked for two seconds when somebody calls",
        meanwhile=_locked_at_ring,
    ),
    Row(
        name="store_full",
        what="no file of control may grow for two seconds in mid-call (disk full)",
        act=_full,
    ),
    Row(
        name="store_full_at_ring",
        what="no file of control may grow for two seconds when somebody calls (disk full)",
        meanwhile=_full_at_ring,
        hears=APOLOGY,
        result="gateway_fault",
        blame="gateway",
        reason="the gateway could not answer when the call came",
        timeline=("missed", "ended"),
        gap_max_s=None,
    ),
    Row(
        name="recordings_nowhere",
        what="the folder of recordings cannot be used",
        prepare=_no_recordings,
        agent={"record": True},
    ),
    Row(
        name="recordings_full",
        what="the recording cannot grow any more from mid-call on",
        act=_recording_full,
        agent={"record": True},
    ),
)
