"""The media plane's turn between the steps of other tasks.

Trio runs every task that is ready before it asks the kernel again. Where calls are set up beside those that talk, that is
a dozen steps of 0.1 to 0.3 ms in a row, and frames would wait for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import trio


class Looks(trio.abc.Instrument):
    """Calls `look` after every step of every task; it has to be quick where nothing is to be done, and never to wait."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See `trio.abc.Instrument`."""
        self._look()
