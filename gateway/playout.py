"""Agent audio, paced: the jitter buffer of the downlink and a model of what Twilio holds.

Agents speak faster than real time, Twilio plays in real time and buffers without limit. Playout keeps the
surplus here, where a barge-in costs nothing, and lets Twilio have only a small *lead*: enough that one
stall of ours or of the network is not heard. `horizon_s` is the instant at which Twilio will have played
everything that was sent; the lead is `horizon_s - now_s`.

All audio is µ-law at 8,000 bytes a second. Pure: time comes in as `now_s`. `Playout` and `Pace` are the
compiled ones (`gateway/_outlet.pxi`) where those were built; what is written here is their description.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from gateway import flow
from gateway.settings import MediaSettings

BYTES_PER_S = 8_000
BYTES_PER_MS = 8

UNDERRUN_MAX_GAP_S = 2.0
"""A longer silence between two chunks of one turn is taken for a pause of the agent, not for an underrun."""

_BURSTINESS_DECAY = 0.9
_UNDERRUN_TOLERANCE_S = 0.002


class PlainPace:
    """How many frames at least go into one message; shared by the calls of a worker, which sets it by its load.

    Fewer, longer messages cost less. The lead does not change, so neither does what a barge-in discards.
    """

    __slots__ = ("frames",)

    def __init__(self, frames: int = 1) -> None:
        self.frames = frames


class PlainPlayout:
    """The queue of one call. Invariant: pushed = sent + queued + overrun + flushed (bytes)."""

    __slots__ = (
        "_chunks",
        "_frame_bytes",
        "_frame_s",
        "_lead_max_s",
        "_lead_min_s",
        "_mid_turn",
        "_next_push_due_s",
        "_offset",
        "_pace",
        "_prebuffer_max_s",
        "_queue_max_bytes",
        "_started_s",
        "burstiness_s",
        "due_s",
        "flushed_bytes",
        "horizon_s",
        "late_ms",
        "late_underruns",
        "lead_s",
        "overrun_bytes",
        "pushed_bytes",
        "queued_bytes",
        "sent_bytes",
        "underrun_ms",
        "underruns",
    )

    def __init__(self, settings: MediaSettings, pace: PlainPace | None = None) -> None:
        self._pace = pace or PlainPace()
        self._frame_s = settings.frame_ms / 1000.0
        self._frame_bytes = settings.frame_ms * BYTES_PER_MS
        self._lead_min_s = settings.lead_ms / 1000.0
        self._lead_max_s = settings.lead_max_ms / 1000.0
        self._prebuffer_max_s = settings.prebuffer_max_ms / 1000.0
        self._queue_max_bytes = settings.playout_max_ms * BYTES_PER_MS
        self._chunks: deque[bytes] = deque()
        self._offset = 0
        self._mid_turn = False
        self._started_s = 0.0
        self._next_push_due_s = 0.0
        self.lead_s = self._lead_min_s
        self.burstiness_s = 0.0
        self.horizon_s = -math.inf
        self.due_s = math.inf
        self.queued_bytes = 0
        self.pushed_bytes = 0
        self.sent_bytes = 0
        self.overrun_bytes = 0
        self.flushed_bytes = 0
        self.underruns = 0
        self.underrun_ms = 0.0
        self.late_underruns = 0
        self.late_ms = 0.0

    # ---- in ------------------------------------------------------------------------------------

    def push(self, ulaw: bytes, now_s: float) -> int:
        """Queue agent audio. Returns the bytes accepted; the rest was over the bound and is counted."""
        size = len(ulaw)
        self.pushed_bytes += size
        room = self._queue_max_bytes - self.queued_bytes
        if size > room:
            self.overrun_bytes += size - room
            ulaw = ulaw[:room]
            size = room
        if not size:
            return 0
        self._note_arrival(size, now_s)
        self._chunks.append(ulaw)
        self.queued_bytes += size
        return size

    def fill(self, ulaw: bytes, now_s: float) -> int:
        """Queue audio that is nobody's (comfort noise): nothing is learned from it, nothing held back.

        Returns the bytes accepted: all, or none while anything else is queued.
        """
        if self.queued_bytes:
            return 0
        self.end_turn()
        if self.horizon_s < now_s:
            self.horizon_s = now_s
            self._started_s = now_s - self._frame_s
        self._chunks.append(ulaw)
        self.pushed_bytes += len(ulaw)
        self.queued_bytes = len(ulaw)
        self.due_s = now_s
        return len(ulaw)

    def end_turn(self) -> None:
        """The agent has finished this turn: silence after it is no underrun."""
        self._mid_turn = False

    def _note_arrival(self, size: int, now_s: float) -> None:
        """Learn how late this agent's chunks can be, and begin or resume a turn if the queue was empty."""
        begin_s = now_s
        if self._mid_turn:
            # How much longer this chunk took than the audio before it lasts. Bursts arrive early
            # (negative) and let the estimate fall back.
            late_s = now_s - self._next_push_due_s
            if late_s < UNDERRUN_MAX_GAP_S:
                self.burstiness_s = max(late_s, self.burstiness_s * _BURSTINESS_DECAY, 0.0)
                self.lead_s = min(self._lead_min_s + self.burstiness_s, self._lead_max_s)
            begin_s = max(self._next_push_due_s, now_s)
        self._next_push_due_s = begin_s + size / BYTES_PER_S
        was_mid_turn, self._mid_turn = self._mid_turn, True
        if self.queued_bytes:
            # It may complete a frame, lift the hold on the first words, or have raised the lead.
            lead_due_s = self.horizon_s - self.lead_s + self._frame_s / 2
            self.due_s = min(self.due_s, max(lead_due_s, now_s))
            return
        gap_s = now_s - self.horizon_s
        if was_mid_turn and _UNDERRUN_TOLERANCE_S < gap_s < UNDERRUN_MAX_GAP_S:
            self.underruns += 1
            self.underrun_ms += gap_s * 1000.0
        if gap_s > 0.0:
            self._started_s = now_s
            self.due_s = now_s
        else:
            self.due_s = self.horizon_s - self.lead_s + self._frame_s / 2

    # ---- out -----------------------------------------------------------------------------------

    def take(self, now_s: float) -> bytes:
        """The audio to send now, possibly several frames at once; empty when none is due.

        A late call catches up by itself, because what is due follows from the horizon and not from the
        number of calls. When lateness let Twilio run dry although audio was queued, it is counted as a
        late underrun: that one is ours.
        """
        queued = self.queued_bytes
        if not queued:
            self.due_s = math.inf
            return b""
        lead_s = self.horizon_s - now_s
        if lead_s <= 0.0:
            if self.horizon_s <= self._started_s and self._holds_back(now_s):
                return b""
            if lead_s < -_UNDERRUN_TOLERANCE_S and self.horizon_s > self._started_s:
                self.late_underruns += 1
                self.late_ms -= lead_s * 1000.0
            lead_s = 0.0
            self.horizon_s = now_s
        frames = int((self.lead_s - lead_s) / self._frame_s + 0.5)
        if frames < self._pace.frames:
            self.due_s = self._next_due_s()
            if frames <= 0 or self.due_s > now_s:
                return b""
        size = frames * self._frame_bytes
        if size > queued:
            # A rest shorter than a frame waits for its other part as long as Twilio has enough to play.
            size = queued if lead_s <= self._frame_s else queued - queued % self._frame_bytes
            if not size:
                self.due_s = self.horizon_s - self._frame_s
                return b""
        audio = self._cut(size)
        self.sent_bytes += size
        self.queued_bytes = queued = queued - size
        self.horizon_s += size / BYTES_PER_S
        if not queued:
            self.due_s = math.inf
        elif queued < self._frame_bytes:
            self.due_s = self.horizon_s - self._frame_s
        else:
            self.due_s = self._next_due_s()
        return audio

    def _next_due_s(self) -> float:
        """When the lead has fallen by as many frames as go into one message; two frames always stay."""
        room_s = max(self.lead_s - 2 * self._frame_s, self._frame_s)
        return (
            self.horizon_s
            - self.lead_s
            + min((self._pace.frames - 0.5) * self._frame_s, room_s - 0.5 * self._frame_s)
        )

    def _holds_back(self, now_s: float) -> bool:
        """Whether the first words of a turn wait: for a whole frame, or because this agent tends to stall."""
        wait_s = max(min(self.burstiness_s, self._prebuffer_max_s), self._frame_s)
        if self.queued_bytes >= wait_s * BYTES_PER_S or now_s - self._started_s >= wait_s:
            return False
        self.due_s = self._started_s + wait_s
        return True

    def _cut(self, size: int) -> bytes:
        """Take `size` bytes off the front of the queue (there are that many)."""
        chunk = self._chunks[0]
        offset = self._offset
        end = offset + size
        if end < len(chunk):
            self._offset = end
            return chunk[offset:end]
        parts = [chunk[offset:]]
        size -= len(parts[0])
        self._chunks.popleft()
        self._offset = 0
        while size:
            chunk = self._chunks[0]
            if size < len(chunk):
                parts.append(chunk[:size])
                self._offset = size
                break
            parts.append(chunk)
            size -= len(chunk)
            self._chunks.popleft()
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def flush(self, now_s: float) -> tuple[int, int]:
        """Barge-in: drop what is queued and what Twilio is about to clear. Nothing is ahead any more.

        Returns the bytes that were queued here, and those that were sent but not heard yet.
        """
        unheard, queued = self.unheard_bytes(now_s), self.queued_bytes
        self.flushed_bytes += queued
        self._chunks.clear()
        self._offset = 0
        self.queued_bytes = 0
        self.horizon_s = min(self.horizon_s, now_s)
        self.due_s = math.inf
        self.end_turn()
        return queued, unheard

    def unheard_bytes(self, now_s: float) -> int:
        """Bytes that were sent and, by the playout clock, not played yet."""
        lead_s = self.horizon_s - now_s
        return min(int(lead_s * BYTES_PER_S + 0.5), self.sent_bytes) if lead_s > 0.0 else 0

    def remaining_s(self, now_s: float) -> float:
        """Seconds until the caller has heard everything that is here or at Twilio."""
        return max(self.horizon_s - now_s, 0.0) + self.queued_bytes / BYTES_PER_S


if TYPE_CHECKING:
    Pace = PlainPace
    Playout = PlainPlayout
elif flow.IS_COMPILED:
    from gateway._express import Pace, Playout
else:
    Pace, Playout = PlainPace, PlainPlayout
