"""How the kernel shares a core between workers and everything else. Nothing here is needed, all of it may be refused.

Source: sched(7), sched_setattr(2); the meaning of a slice is that of Linux 6.12 and later (EEVDF), before it is ignored.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Collection

AUDIO_SLICE_NS = 300_000
"""A worker's turns are short; who asks for short ones is let in before others' long ones are over."""
AUDIO_NICENESS = -10
"""A worker that has just worked beside others has had more than its share for the moment, and who has had that is let in
only at the next tick of the kernel, 4 ms with 250 Hz. The larger its share, the sooner it is owed time again."""
_CALL_NUMBERS = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""`struct sched_attr`, its first version: size, policy, flags, nice, priority, runtime (ordinary policies: slice),
deadline, period in nanoseconds."""


def prefer_audio() -> None:
    """For a media worker: ordinary policy, short slices, and as much weight as it may have.

    Less niceness is a privilege: of root, of `CAP_SYS_NICE`, or of RLIMIT_NICE (systemd's `LimitNICE=`). Without it a worker
    stays at 0, or at control's niceness when it was started later.
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    for niceness in (AUDIO_NICENESS, 0):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
            break
    with contextlib.suppress(OSError):
        _set_slice(AUDIO_SLICE_NS)


def give_way(niceness: int) -> None:
    """For all threads of this process that run beside audio: less weight, and awake they interrupt nobody.

    A thread of SCHED_BATCH waits for its turn when it wakes up, instead of taking the core from whoever runs.
    Threads and processes that are started later inherit both.
    """
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # a thread may end meanwhile; a container may forbid it
            os.setpriority(os.PRIO_PROCESS, int(task), niceness)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(int(task), os.SCHED_BATCH, os.sched_param(0))


def _set_slice(slice_ns: int) -> None:
    number = _CALL_NUMBERS.get(platform.machine())
    if number is None:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, 0, wanted, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def pin(pid: int, taken: Collection[int]) -> int | None:
    """Bind a process just started to a core that none of `taken` is, of those this process may use.

    Returns the core; None when all are taken, or it may not be.
    """
    for core in sorted(os.sched_getaffinity(0) - set(taken)):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, {core})
            return core
    return None


def core_of(pid: int) -> int | None:
    """The core that a process is bound to; None when it may use several, or is gone."""
    try:
        cores = os.sched_getaffinity(pid)
    except OSError:
        return None
    return min(cores) if len(cores) == 1 else None
