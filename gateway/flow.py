"""The part of a call's state that changes with every frame of caller audio.

One plain object, so that the compiled express lane and the Python that looks after everything unusual work on
the same numbers. `CallerFlow` is the compiled one where that was built; this is its description, and what is used
without it. Pure.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING


class PlainCallerFlow:
    """Counters and clocks of one call's caller audio. NaN stands for "not known"."""

    __slots__ = (
        "aged_max_ms",
        "aged_since_s",
        "base_ms",
        "frames",
        "heard_s",
        "jitter_ms",
        "lag_max_ms",
        "last_transit_ms",
        "next_ms",
        "placed_frames",
        "sent_frames",
        "sent_ms",
    )

    def __init__(self, aged_max_ms: float = 0.0) -> None:
        self.heard_s = 0.0
        """When the caller leg last said anything."""
        self.frames = 0
        """Media messages, whatever became of them."""
        self.placed_frames = 0
        self.sent_frames = 0
        self.sent_ms = 0.0
        self.next_ms = math.nan
        """Where the next frame is expected, in Twilio's media time."""
        self.base_ms = 0.0
        """The smallest delay seen: arrival less media time."""
        self.last_transit_ms = 0.0
        self.jitter_ms = 0.0
        self.lag_max_ms = 0.0
        self.aged_max_ms = aged_max_ms
        self.aged_since_s = math.nan
        """Since when everything that comes is too old."""


IS_COMPILED = False
if TYPE_CHECKING:
    CallerFlow = PlainCallerFlow
else:
    CallerFlow = PlainCallerFlow
    if os.environ.get("TANDEM_PURE_PYTHON", "") in ("", "0"):
        try:
            from gateway import _express
        except ImportError:  # no compiler where this was installed
            pass
        else:
            IS_COMPILED = True
            CallerFlow = _express.CallerFlow
