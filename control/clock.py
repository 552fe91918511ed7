"""The wall clock: what time it is for records and for the law. Durations are `trio.current_time()`'s.

Rules about hours depend on a clock that is right, so a step of it (somebody set it, NTP corrected it) can
be seen: wall time is compared with the monotonic clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

VARIABLE = "TANDEM_TEST_CLOCK"
"""An instant (RFC 3339) at which the clock of a test's daemon stands when it starts; it goes on from there."""

STEP_S = 2.0
"""A jump of more is a step: somebody set the clock, or a time service gave up slewing it."""
STEP_KEPT_S = 600.0
"""How long nothing is dialled after a step: time for a service to be sure of it, and for people to look."""


class Clock:
    """Wall time in UTC. Tests hand in their own two functions, both in seconds, or a subclass."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._ahead_s = wall() - monotonic()
        self._step_s = 0.0
        self._step_until_s = float("-inf")

    @classmethod
    def of_environment(cls) -> Clock:
        """The host's clock, or one that a test has set. Raises ValueError for what is no instant."""
        text = os.environ.get(VARIABLE)
        if not text:
            return cls()
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError(f"{VARIABLE} needs a time zone")
        ahead_s = at.timestamp() - time.time()
        return cls(lambda: time.time() + ahead_s)

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        return datetime.fromtimestamp(self._wall(), UTC)

    def recent_step_s(self) -> float:
        """The latest step that is worth the name, for STEP_KEPT_S after it was seen; else how far it slewed."""
        step_s, now_s = self.stepped_s(), self._monotonic()
        if abs(step_s) > STEP_S:
            self._step_s, self._step_until_s = step_s, now_s + STEP_KEPT_S
        return self._step_s if now_s < self._step_until_s else step_s

    def stepped_s(self) -> float:
        """How far the wall clock was set forward (or back: negative) since the last time this was asked.

        Slewing by NTP shows as a few hundred microseconds a second; the caller says what is too much.
        """
        ahead_s = self._wall() - self._monotonic()
        step_s = ahead_s - self._ahead_s
        self._ahead_s = ahead_s
        return step_s
