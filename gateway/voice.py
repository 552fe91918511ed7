"""A worker's wall clock and its own lines of the log. A shell.

Media runs on Trio's clock, which begins anywhere; what is told to others carries the time of day.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

import trio

from gateway import journal

CLOCK_RESYNC_S = 60.0


class WallClock:
    """Trio's clock to Unix milliseconds; resynchronised now and then, because wall clocks are stepped."""

    def __init__(self) -> None:
        self._offset_s = 0.0
        self._synced_s = -CLOCK_RESYNC_S
        self.sync()

    def sync(self) -> None:
        self._synced_s = trio.current_time()
        self._offset_s = time.time() - self._synced_s  # noqa: TID251  the one place that joins the two clocks

    def ms(self, at_s: float) -> int:
        return round((at_s + self._offset_s) * 1000.0)


class Voice:
    """A worker's own lines on stderr. Control logs everything else."""

    def __init__(self) -> None:
        self._as_text = False
        self._to_journal = False

    def configure(self, log_format: str) -> None:
        self._as_text = log_format == "text"
        self._to_journal = journal.goes_to_journal(sys.stderr, os.environ)

    def __call__(self, event: str, *, level: str = "warning", **fields: Any) -> None:
        now_s = time.time()  # noqa: TID251  a line of the log has the wall clock's time
        line = journal.worker_line(now_s, level, event, fields, as_text=self._as_text)
        if self._to_journal:
            line = journal.prefixed(line, level)
        with contextlib.suppress(
            OSError
        ):  # whoever read the log may have gone together with control
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
