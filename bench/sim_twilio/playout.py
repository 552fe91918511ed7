"""Twilio's outbound buffer for one bidirectional stream: media, `mark`, `clear`. Pure; time is passed in.

Source: Twilio, "Media Streams - WebSocket messages": payloads are appended to one buffer and played in
order in real time; a mark is echoed when everything before it was played, at once when the buffer is
empty; `clear` empties the buffer and returns every mark; at most ten minutes are held, what is beyond is
dropped.

Times are seconds since the stream began; they never go back. The clock is counted in samples, so that
`heard` is exactly aligned: byte n is what the caller heard at n/8000 s.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from bench.sim_twilio.sound import RATE_HZ, ULAW_SILENCE

CAPACITY_BYTES = 10 * 60 * RATE_HZ
UNDERRUN_MAX_MS = 500
"""A longer gap is taken for the pause between two utterances: the buffer cannot know the difference."""
_SLACK_SAMPLES = 1e-3
"""A deadline computed in floating point must not fall short of its own sample."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Silence between two pieces of audio because the buffer was empty, without a `clear` between."""

    at_s: float
    ms: float


@dataclass(frozen=True, slots=True)
class Clear:
    """A `clear` as it arrived: when, how much unheard audio it threw away, how many marks it returned."""

    at_s: float
    discarded_ms: float
    marks: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One media message: when it came, how much it held, how much was still unplayed before it."""

    at_s: float
    ms: float
    lead_ms: float


class Playout:
    """The buffer. Invariant: received = played + discarded + dropped + still queued, in bytes."""

    def __init__(self, *, capacity_bytes: int = CAPACITY_BYTES, keep_audio: bool = True) -> None:
        self.heard = bytearray()
        """µ-law on the stream's time line, silence where nothing was played. Without `keep_audio` only
        the last second or two, from `heard_from` on."""
        self.heard_from = 0
        self.gaps: list[Gap] = []
        self.clears: list[Clear] = []
        self.arrivals: list[Arrival] = []
        self.received_bytes = 0
        self.played_bytes = 0
        self.discarded_bytes = 0
        self.dropped_bytes = 0
        self._capacity_bytes = capacity_bytes
        self._keep_audio = keep_audio
        self._clock = 0  # samples of the time line that have passed
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._head = 0  # bytes of the first payload that were played already
        self._passed = 0  # bytes that left the queue, played or discarded
        self._marks: deque[tuple[str, int]] = deque()
        self._ran_dry_at: int | None = None

    @property
    def queued_bytes(self) -> int:
        """Audio that was received and not played yet."""
        return self._queued

    @property
    def underruns(self) -> list[Gap]:
        """Gaps inside an utterance, see `UNDERRUN_MAX_MS`."""
        return [gap for gap in self.gaps if gap.ms <= UNDERRUN_MAX_MS]

    def push(self, payload: bytes, now_s: float) -> int:
        """Append audio; returns the bytes that found no room and are dropped."""
        self._run_to(now_s)
        self.arrivals.append(Arrival(now_s, len(payload) * 1000 / RATE_HZ, self._ms(self._queued)))
        self.received_bytes += len(payload)
        room = self._capacity_bytes - self._queued
        accepted = payload[:room] if room < len(payload) else payload
        self.dropped_bytes += len(payload) - len(accepted)
        if accepted:
            self._note_gap()
            self._queue.append(accepted)
            self._queued += len(accepted)
        return len(payload) - len(accepted)

    def mark(self, name: str, now_s: float) -> None:
        """Ask for `name` back when everything queued now was played."""
        self._run_to(now_s)
        self._marks.append((name, self._passed + self._queued))

    def clear(self, now_s: float) -> None:
        """Throw away what is queued; every pending mark is due at once."""
        self._run_to(now_s)
        self.clears.append(Clear(now_s, self._ms(self._queued), len(self._marks)))
        self.discarded_bytes += self._queued
        self._passed += self._queued
        self._queue.clear()
        self._queued = self._head = 0
        self._ran_dry_at = None

    def advance(self, now_s: float) -> list[str]:
        """Play up to `now_s`; returns the names of the marks that are due, in order."""
        self._run_to(now_s)
        due: list[str] = []
        while self._marks and self._marks[0][1] <= self._passed:
            due.append(self._marks.popleft()[0])
        return due

    def next_echo_s(self) -> float:
        """When the first pending mark is due; infinity when there is none."""
        if not self._marks:
            return math.inf
        return (self._clock + max(0, self._marks[0][1] - self._passed)) / RATE_HZ

    def heard_between(self, first: int, end: int) -> bytes:
        """What was heard from sample `first` up to `end` of the time line, as far as it is kept."""
        return bytes(self.heard[max(0, first - self.heard_from) : max(0, end - self.heard_from)])

    def _run_to(self, now_s: float) -> None:
        target = math.floor(now_s * RATE_HZ + _SLACK_SAMPLES)
        playing = min(self._queued, target - self._clock)
        if playing > 0:
            self._play(playing)
        if target > self._clock:
            self.heard += bytes([ULAW_SILENCE]) * (target - self._clock)
            self._clock = target
        if not self._keep_audio and len(self.heard) > 2 * RATE_HZ:
            self.heard_from += len(self.heard) - RATE_HZ
            del self.heard[:-RATE_HZ]

    def _play(self, count: int) -> None:
        self._clock += count
        self._queued -= count
        self._passed += count
        self.played_bytes += count
        while count:
            first = self._queue[0]
            piece = first[self._head : self._head + count]
            self.heard += piece
            count -= len(piece)
            self._head += len(piece)
            if self._head == len(first):
                self._queue.popleft()
                self._head = 0
        if not self._queued:
            self._ran_dry_at = self._clock

    def _note_gap(self) -> None:
        if self._ran_dry_at is not None and self._clock > self._ran_dry_at and not self._queued:
            at_s = self._ran_dry_at / RATE_HZ
            self.gaps.append(Gap(at_s, self._ms(self._clock - self._ran_dry_at)))
        self._ran_dry_at = None

    @staticmethod
    def _ms(samples: int) -> float:
        return samples * 1000 / RATE_HZ
