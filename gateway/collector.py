"""When the worker looks for garbage: never in the middle of many calls' talk, if that can be helped.

A full collection looks at everything that all calls hold and stops the media plane meanwhile: 20 to 40 ms with 500 calls.
Python begins one whenever enough objects have been made that live on, so calls that come and go brought several in ten
seconds. A call that ends leaves nothing to it (`gateway.call.Call.let_go`); only what a bug or a broken connection leaves in a
ring does. So the young generations are collected as ever, and the old one when nobody talks, or after many calls.
"""

from __future__ import annotations

import gc

NEVER = 1 << 30
"""Collections of the middle generation before Python begins a full one by itself."""
ENDED_MAX = 5_000
"""Calls that have ended, after which a full collection is made beside talking calls."""


class Collector:
    """`start` once, `ended` for each call, `beat` every second."""

    def __init__(self) -> None:
        self._ended = 0

    def start(self) -> None:
        """What lives until now lives on: it need not be looked at again."""
        gc.collect()
        gc.freeze()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, NEVER)

    def ended(self) -> None:
        """A call is over."""
        self._ended += 1

    def beat(self, calls: int) -> bool:
        """Collect, if it is time; `calls` are there now. Whether it was."""
        if not self._ended or (calls and self._ended < ENDED_MAX):
            return False
        self._ended = 0
        gc.collect()
        return True
