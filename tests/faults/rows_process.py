"""Rows of the fault table: the processes and what the host gives them. Each has a daemon to itself."""

from __future__ import annotations

import os
import resource
import signal

import trio

from bench.chaos import processes
from tests.faults.bed import Bed
from tests.faults.rows import BOTH, Row

STOPPED_S = 1.0
HANGS_S = 13.0
"""Longer than a worker may say nothing."""
FEW_FILES_S = 2.0


def _worker_of(bed: Bed, call) -> int:
    """Pid of the worker that holds the newest call, as the daemon's log says."""
    lines = bed.rig.daemon.log_lines()
    name = [line["worker"] for line in lines if line.get("event") == "prepared"][-1]
    pids = {
        line["worker"]: line["pid"]
        for line in lines
        if line.get("event") in ("worker_ready", "worker_returned")
    }
    return int(pids[name])


async def _kill_worker(bed: Bed, row: Row, call) -> None:
    assert await processes.kill(_worker_of(bed, call))


def _stop_worker(seconds: float):
    async def act(bed: Bed, row: Row, call) -> None:
        pid = _worker_of(bed, call)
        os.kill(pid, signal.SIGSTOP)
        await trio.sleep(seconds)
        if (found := processes.stat(pid)) is not None and found.is_alive:
            os.kill(pid, signal.SIGCONT)

    return act


async def _kill_control(bed: Bed, row: Row, call) -> None:
    await bed.rig.daemon.stop(signal.SIGKILL)
    await bed.rig.restart_daemon()


async def _stop_control(bed: Bed, row: Row, call) -> None:
    bed.rig.daemon.process.send_signal(signal.SIGSTOP)
    await trio.sleep(STOPPED_S)
    bed.rig.daemon.process.send_signal(signal.SIGCONT)


async def _no_more_files(bed: Bed, row: Row, call) -> None:
    """Control has no descriptor left: connections that come now wait or are refused."""
    pid = bed.rig.daemon.process.pid
    former = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken, former[1]))
    port = int(bed.rig.public_url.rpartition(":")[2])
    streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(40)]
    await trio.sleep(FEW_FILES_S)
    for stream in streams:
        await trio.aclose_forcefully(stream)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, former)


_RESUMED = ("stream_started", "worker_lost", "asked_to_continue", "resumed", "stream_started")
ROWS = (
    Row(
        name="worker_kill",
        what="SIGKILL to the call's worker; another one is there",
        act=_kill_worker,
        hears=BOTH,
        timeline=_RESUMED,
        media={"workers": 2},
        bystanders=1,
    ),
    Row(
        name="worker_kill_alone",
        what="SIGKILL to the only worker",
        act=_kill_worker,
        hears=BOTH,
        timeline=_RESUMED,
        gap_max_s=15.0,
        bystanders=0,
    ),
    Row(
        name="worker_stopped",
        what="SIGSTOP to the worker for a second",
        act=_stop_worker(STOPPED_S),
        bystanders=0,
    ),
    Row(
        name="worker_hangs",
        what="SIGSTOP to the worker for good",
        act=_stop_worker(HANGS_S),
        hears=BOTH,
        timeline=_RESUMED,
        gap_max_s=30.0,
        bystanders=0,
    ),
    Row(
        name="control_kill",
        what="SIGKILL to control, started again at once",
        act=_kill_control,
        timeline=("stream_started", "control_returned", "ended"),
        media={
            "control_return_timeout_s": 60.0
        },  # a busy machine takes half a minute to start a daemon
        gap_max_s=60.0,
    ),
    Row(
        name="control_stopped",
        what="SIGSTOP to control for a second",
        act=_stop_control,
    ),
    Row(
        name="no_descriptors",
        what="RLIMIT_NOFILE of control used up for two seconds, forty connections knocking",
        act=_no_more_files,
    ),
)
