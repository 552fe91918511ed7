"""The compiled part of the generator, or what stands for it where it was not built."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np


class PlainTimes:
    """Instants in seconds."""

    def __init__(self) -> None:
        self._data = array("d")
        self.append = self._data.append

    def __len__(self) -> int:
        return len(self._data)

    def raw(self) -> bytes:
        return self._data.tobytes()


class PlainClockState:
    """The numbers of a `PlayoutClock`."""

    horizon_s = 0.0
    received_bytes = 0
    position = 0
    turn_bytes = 0


class PlainAgentHot:
    """The counters of an `Agent`."""

    def __init__(self, frame_bytes: int) -> None:
        self.usual = 0
        self.is_split = False
        self.audio_bytes = 0
        # The middle of a frame counts: a resampler may hold the end of it back.
        self.next_middle = frame_bytes / 2
        self.k = 0


def plain_speak(streams: list[Any], heads: list[tuple[bytes, int]]) -> None:
    """All of a slot send their next 20 ms."""
    for stream in streams:
        stream.frame(heads)


try:
    from bench.load import _swift

    Times: Any = _swift.Times
    ClockState: Any = _swift.ClockState
    speak: Any = _swift.speak
except ImportError:
    _swift = None
    Times, ClockState, speak = PlainTimes, PlainClockState, plain_speak

swift = _swift


def seconds_of(times: Any) -> Any:
    """The instants as an array."""
    return np.frombuffer(times.raw() if hasattr(times, "raw") else array("d", times), np.float64)
