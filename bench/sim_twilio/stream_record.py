"""What a media stream keeps for those who look at it, and what it tells its call. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class StreamTimes:
    """Moments of a stream: `*_at` on Trio's clock, `*_s` counted from `start`."""

    connecting_at: float | None = None
    open_at: float | None = None
    t_start_sent: float | None = None
    t_first_media_received_s: float | None = None
    ended_s: float | None = None
    late_max_ms: float = 0.0
    """How late the simulator's own 20 ms grid ever was: above some milliseconds, distrust the run."""


@dataclass(slots=True)
class StreamCounts:
    """What passed."""

    media_sent: int = 0
    media_dropped: int = 0
    media_received: int = 0
    marks_received: int = 0
    marks_echoed: int = 0
    clears_received: int = 0
    invalid_messages: int = 0
    binary_messages: int = 0
    digits_sent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHooks:
    """What a stream tells the call it belongs to."""

    warn: Callable[[int, str, str], None]
    """Code, level, message: an entry of Twilio's debugger."""
    event: Callable[[str, str], None]
    """`stream-started`, `stream-stopped`, `stream-error` and the error text: a status callback."""
    hang_up: Callable[[], None]
    """The caller hangs up."""
