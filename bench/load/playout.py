"""A virtual Twilio's outbound buffer, reduced to its clock. Pure; times are seconds, audio is in bytes.

What is queued plays in real time, so the buffer is one number: the instant at which it will have run dry.
Running dry between two turns is no fault. Where turns end is known here, because the agents are ours: all
have the same length.
"""

from __future__ import annotations

from collections import deque

from bench.load.hot import ClockState, swift

BYTES_PER_S = 8000.0
UNDERRUN_MIN_S = 0.001
"""A gap below one millisecond is within the error of reading the clock."""
BOUNDARY_BYTES = 80
"""Transcoding may move the end of a turn by a few samples."""


class PlayoutClock(ClockState):  # type: ignore[misc]  # compiled or not
    """The buffer of one call."""

    def __init__(self, turn_bytes: int) -> None:
        self.turn_bytes = turn_bytes
        self.marks: deque[tuple[float, str]] = deque()
        """(when it is due, name), in order."""

    def plain_push(self, size: int, now_s: float) -> float:
        """Append `size` bytes. Returns the lead before it in seconds; negative = underrun of that length.

        Between turns the lead is reported as infinity: nothing was expected.
        """
        self.received_bytes += size
        lead_s = self.horizon_s - now_s
        position = self.position
        at_begin = position <= BOUNDARY_BYTES or position >= self.turn_bytes - BOUNDARY_BYTES
        if lead_s < 0.0:
            self.horizon_s = now_s
            if at_begin:
                position = 0
                lead_s = float("inf")
            elif lead_s > -UNDERRUN_MIN_S:
                lead_s = 0.0
        elif at_begin:
            lead_s = float("inf")
        self.horizon_s += size / BYTES_PER_S
        position += size
        while position >= self.turn_bytes + BOUNDARY_BYTES:
            position -= self.turn_bytes
        self.position = position
        return lead_s

    if swift is None:
        push = plain_push

    def mark(self, name: str, now_s: float) -> float:
        """Remember a mark; returns when it is due."""
        due_s = max(self.horizon_s, now_s)
        self.marks.append((due_s, name))
        return due_s

    def clear(self, now_s: float) -> float:
        """Empty the buffer; every mark is due now, the next audio begins a turn. Returns what was unheard."""
        unheard_s = max(0.0, self.horizon_s - now_s)
        self.horizon_s = min(self.horizon_s, now_s)
        self.position = 0
        self.marks = deque((now_s, name) for _, name in self.marks)
        return unheard_s

    def due(self, now_s: float) -> list[str]:
        """The marks that were reached, in order; each once."""
        names = []
        while self.marks and self.marks[0][0] <= now_s:
            names.append(self.marks.popleft()[1])
        return names
