"""Caller audio on its way to the agent: in order, complete, in the agent's format.

While the agent leg comes up, or up again, the newest `caller_audio_max_ms` are held and then sent at once. From then on
a frame leaves in the same call that brought it. Pure.
"""

from __future__ import annotations

import binascii
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway import convai
from gateway.audio import ULAW_8000, AudioFormat
from gateway.g711 import silence_ulaw
from gateway.jitter import AGED, LATE, CallerTimeline
from gateway.settings import MediaSettings
from gateway.transcode import Transcoder

_FILL_PIECE_MS = 200
"""Silence for a gap goes out in pieces of this length, like speech would."""


class CallerTap(Protocol):
    """Whoever listens in on the caller (the recorder)."""

    def caller(self, position_samples: int, ulaw: bytes) -> None: ...


class Uplink:
    """Invariant: frames in = sent + late + aged + early-dropped + rejected + held + unheard."""

    __slots__ = (
        "_early",
        "_early_bytes",
        "_early_max_bytes",
        "_frame_message",
        "_out",
        "_tap",
        "_transcoder",
        "_was_closed",
        "early_dropped_frames",
        "is_open",
        "rejected_frames",
        "timeline",
        "unheard_frames",
    )

    def __init__(
        self,
        settings: MediaSettings,
        tap: CallerTap | None,
        out: list[bytes],
        frame_message: Callable[[bytes], bytes],
    ) -> None:
        """What goes to the agent is framed by `frame_message` and appended to `out`."""
        self._out = out
        self._frame_message = frame_message
        self.timeline = CallerTimeline(settings)
        self._tap = tap
        self._transcoder: Transcoder | None = None
        self._early: deque[tuple[bytes, bytes]] = deque()
        self._early_bytes = 0
        self._early_max_bytes = settings.caller_audio_max_ms * 8
        self.is_open = False
        self._was_closed = False
        self.early_dropped_frames = 0
        self.rejected_frames = 0
        self.unheard_frames = 0

    def open(self, agent_format: AudioFormat) -> None:
        """The agent listens from now on, in `agent_format`: send what was held."""
        self._transcoder = (
            Transcoder(ULAW_8000, agent_format) if agent_format != ULAW_8000 else None
        )
        self.is_open = True
        while self._early:
            payload, ulaw = self._early.popleft()
            self._send(payload, ulaw)
        self._early_bytes = 0

    def pause(self) -> None:
        """The agent is away and may come back: what the caller says is held, like before the first one."""
        self.is_open = False

    def attach(self, frame_message: Callable[[bytes], bytes]) -> None:
        """Another agent leg: what goes to it is framed by `frame_message`."""
        self._frame_message = frame_message

    def close(self) -> None:
        """The agent listens no longer; what the caller says from now on is counted as unheard."""
        self.is_open = False
        self._was_closed = True

    def frame(self, timestamp_ms: int, payload: bytes, now_s: float) -> bool:
        """One media message: `payload` is its base64 text. False when that is no base64."""
        try:
            ulaw = binascii.a2b_base64(payload, strict_mode=True)
        except binascii.Error:
            self.rejected_frames += 1
            return False
        fill_ms = self.timeline.place(timestamp_ms, len(ulaw) / 8, now_s)
        if fill_ms:
            if fill_ms in (LATE, AGED):
                return True
            self._fill(fill_ms)
        if self._tap is not None:
            self._tap.caller(timestamp_ms * 8, ulaw)
        if self.is_open:
            self._send(payload, ulaw)
        elif self._was_closed:
            self.unheard_frames += 1
        else:
            self._hold(payload, ulaw)
        return True

    def _send(self, payload: bytes, ulaw: bytes) -> None:
        flow = self.timeline
        flow.sent_frames += 1
        flow.sent_ms += len(ulaw) / 8
        if self._transcoder is None:
            self._out.append(self._frame_message(convai.encode_audio(payload)))
            return
        samples = self._transcoder.push(ulaw)
        if samples:
            self._send_samples(samples)

    def _send_samples(self, samples: bytes) -> None:
        payload = binascii.b2a_base64(samples, newline=False)
        self._out.append(self._frame_message(convai.encode_audio(payload)))

    def _hold(self, payload: bytes, ulaw: bytes) -> None:
        self._early.append((payload, ulaw))
        self._early_bytes += len(ulaw)
        while self._early_bytes > self._early_max_bytes:
            self._early_bytes -= len(self._early.popleft()[1])
            self.early_dropped_frames += 1

    def _fill(self, fill_ms: float) -> None:
        """Silence in place of audio that Twilio skipped. It is no frame and is counted as gap only."""
        if not self.is_open:
            return
        while fill_ms > 0:
            piece = silence_ulaw(int(min(fill_ms, _FILL_PIECE_MS) * 8))
            fill_ms -= _FILL_PIECE_MS
            samples = self._transcoder.push(piece) if self._transcoder is not None else piece
            if samples:
                self._send_samples(samples)

    @property
    def sent_frames(self) -> int:
        return self.timeline.sent_frames

    @property
    def is_usual(self) -> bool:
        """Whether a frame that comes as expected goes on at once, heard by nobody else on the way."""
        return self.is_open and self._tap is None

    @property
    def fir(self) -> object | None:
        """The compiled filter that caller audio passes, if it does; None also without a compiled one."""
        return None if self._transcoder is None else self._transcoder.fir

    @property
    def held_frames(self) -> int:
        return len(self._early)

    def report(self) -> dict[str, float]:
        """Counters for the call's record."""
        timeline = self.timeline
        return {
            "sent_frames": timeline.sent_frames,
            "sent_ms": round(timeline.sent_ms, 1),
            "late_frames": timeline.late_frames,
            "aged_frames": timeline.aged_frames,
            "aged_ms": round(timeline.aged_ms, 1),
            "gaps": timeline.gap_count,
            "gap_ms": round(timeline.gap_ms, 1),
            "early_dropped_frames": self.early_dropped_frames,
            "held_frames": self.held_frames,
            "rejected_frames": self.rejected_frames,
            "unheard_frames": self.unheard_frames,
            "jitter_ms": round(timeline.jitter_ms, 2),
            "lag_max_ms": round(timeline.lag_max_ms, 1),
        }
