"""A worker under SCHED_RR, for who wants it: it runs at once when a frame arrives, whatever else shares its core.

Under the ordinary policies a worker that has used more than its share waits for the kernel's next tick, milliseconds. A
realtime task never does, and so nothing else runs while it does not rest: a worker that has worked for `RUN_MAX_S` without
resting takes its place among the others again for a while, and one that cannot even do that is ended by the kernel at
`RUN_END_S`; its calls go on elsewhere, like those of any worker that has died.

Source: sched(7), getrlimit(2) (RLIMIT_RTTIME). The right is root's, `CAP_SYS_NICE`'s, or RLIMIT_RTPRIO's (systemd's
`LimitRTPRIO=`, and `RestrictRealtime=no`).
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from typing import Any

from gateway import scheduling

RUN_MAX_S = 1.0
RUN_END_S = 5.0
AGAIN_AFTER_S = 60.0
PRIORITY = 1
"""The lowest: other realtime tasks of the machine are there for a reason of their own."""


class Realtime:
    """`take` once, in the main thread; `beat` every second."""

    def __init__(self, complain: Callable[..., None], *, run_max_s: float = RUN_MAX_S) -> None:
        self._complain = complain
        self._run_max_us = int(run_max_s * 1e6)
        self._is_wanted = False
        self._has_given_up = False
        self._given_up_s: float | None = None

    def take(self) -> bool:
        """Whether this thread is under SCHED_RR now. Where it may not be, that is said once, and all goes on without."""
        signal.signal(signal.SIGXCPU, self._give_up)
        self._is_wanted = self._take()
        return self._is_wanted

    def beat(self, now_s: float) -> None:
        """Some time after it was given up it is taken again."""
        if not self._is_wanted or not self._has_given_up:
            return
        if self._given_up_s is None:
            self._given_up_s = now_s
            self._complain("realtime_given_up", again_after_s=AGAIN_AFTER_S)
        elif now_s - self._given_up_s >= AGAIN_AFTER_S:
            self._has_given_up, self._given_up_s = False, None
            self._is_wanted = self._take()

    def _take(self) -> bool:
        try:
            # The kernel moves the soft limit on when it is reached, hence both, each time.
            limits = (self._run_max_us, int(RUN_END_S * 1e6))
            resource.setrlimit(resource.RLIMIT_RTTIME, limits)
            # Threads that write recordings are no realtime tasks.
            policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(0, policy, os.sched_param(PRIORITY))
        except (OSError, ValueError) as error:
            self._complain("realtime_refused", error=str(error))
            return False
        return True

    def _give_up(self, _signal: int, _frame: Any) -> None:
        """It may interrupt a line that is being written: what there is to say, `beat` says."""
        scheduling.prefer_audio()
        self._has_given_up = True
