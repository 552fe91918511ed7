"""The processes under a chaos run: who lives, who is killed for certain, who is buried.

We are the subreaper of everything that the daemon starts: a worker whose parent was killed becomes our child, and
as a zombie it stays in `/proc`, with its command line gone and its number taken, until we bury it. So life is
read from the state in `/proc/PID/stat`, and a process is held by a pidfd, which never comes to mean another one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_DEAD = frozenset("ZX")
WORKER = b"gateway.worker"
FROZEN_WORKER = b"media-worker"
END_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Stat:
    """What matters of `/proc/PID/stat` (proc(5))."""

    pid: int
    parent: int
    state: str
    started_ticks: int

    @property
    def is_alive(self) -> bool:
        return self.state not in _DEAD


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Orphans of our descendants become our children. Linux only; raises OSError elsewhere."""
    libc = ctypes.CDLL(None, use_errno=True)

    def be(on: int) -> None:
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, on, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

    be(1)
    try:
        yield
    finally:
        be(0)


def stat(pid: int) -> Stat | None:
    """None when there is no such process, not even a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return Stat(pid, int(fields[1]), fields[0], int(fields[19]))


def children(*parents: int) -> list[Stat]:
    """All processes with one of these parents, zombies too."""
    numbers = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return [found for pid in numbers if (found := stat(pid)) and found.parent in parents]


def living_workers(daemon_pid: int) -> list[int]:
    """Pids of media workers that live: children of this daemon, or of a dead one and so ours."""
    return sorted(
        child.pid
        for child in children(daemon_pid, os.getpid())
        if child.is_alive and _is_worker(child.pid)
    )


def _is_worker(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return WORKER in command or FROZEN_WORKER in command


async def kill(pid: int) -> bool:
    """SIGKILL to a process that lives, and wait for its end. False when it was dead already."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        found = stat(pid)
        if found is None or not found.is_alive:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        with trio.fail_after(END_TIMEOUT_S):
            while not _has_ended(handle):
                await trio.sleep(0.005)
        return True
    finally:
        os.close(handle)


def _has_ended(handle: int) -> bool:
    watch = select.poll()
    watch.register(handle, select.POLLIN)
    return bool(watch.poll(0))


def bury(*spared: int) -> int:
    """Reap orphans that have ended; `spared` are children whose end somebody else waits for. How many there were."""
    buried = 0
    for child in children(os.getpid()):
        if not child.is_alive and child.pid not in spared:
            with contextlib.suppress(ChildProcessError):
                buried += os.waitpid(child.pid, os.WNOHANG)[0] == child.pid
    return buried
