"""Agent audio on its way to the caller: current, paced, accounted for by marks.

Audio of a turn that the caller has talked over is stale and dropped by its event id (never by time: audio of
the next turn may follow at once). What is current goes to playout; what playout releases becomes `media`
messages; every so often, and behind the last audio of a turn, a mark follows, whose echo tells what was
heard. Pure.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Protocol

from gateway import twilio_media
from gateway.audio import ULAW_8000, AudioFormat
from gateway.comfort import ComfortNoise
from gateway.heard import AgentTurn, Heard
from gateway.outlet import Outlet
from gateway.playout import BYTES_PER_MS, Pace, Playout
from gateway.settings import MediaSettings
from gateway.transcode import Transcoder

END_MARK = "end"
COMFORT_LEAD_S = 0.06
COMFORT_PIECE_BYTES = 40 * BYTES_PER_MS
"""Comfort noise is kept short at Twilio, because the agent's next words come behind it."""
_POSITION_MAX_DIGITS = 18


class AgentTap(Protocol):
    """Whoever listens in on the agent as heard by the caller (the recorder)."""

    def agent(self, at_s: float, ulaw: bytes) -> None: ...

    def cut_agent(self, at_s: float) -> None: ...


class Downlink:
    """Playout, marks and the watermark of one call.

    Invariant (µ-law bytes): received + comfort noise = stale + overrun + sent + queued + flushed.
    """

    __slots__ = (
        "_drops_equal",
        "_format",
        "_frame_message",
        "_out",
        "_stream_sid",
        "_tap",
        "_transcoder",
        "bad_chunks",
        "chunks",
        "cleared_bytes",
        "comfort",
        "heard",
        "marks_echoed",
        "outlet",
        "playout",
        "received_bytes",
        "stale_bytes",
        "stale_chunks",
        "stale_equal_chunks",
        "watermark",
    )

    def __init__(
        self,
        settings: MediaSettings,
        tap: AgentTap | None,
        out: list[bytes],
        frame_message: Callable[[bytes], bytes],
        pace: Pace | None = None,
    ) -> None:
        """What goes to the caller is framed by `frame_message` and appended to `out`."""
        self._out = out
        self._frame_message = frame_message
        self.playout = Playout(settings, pace)
        self.outlet = Outlet(self.playout, out, settings.mark_interval_ms * BYTES_PER_MS)
        self.heard = Heard()
        self.comfort = ComfortNoise()
        self._tap = tap
        self._transcoder: Transcoder | None = None
        self._format = ULAW_8000
        self._drops_equal = settings.interruption_drops_equal
        self._stream_sid = b""
        self.watermark = -1
        self.chunks = 0
        self.bad_chunks = 0
        self.received_bytes = 0
        self.stale_chunks = 0
        self.stale_equal_chunks = 0
        self.stale_bytes = 0
        self.cleared_bytes = 0
        self.marks_echoed = 0

    def open_agent(self, agent_format: AudioFormat) -> None:
        """The agent speaks in `agent_format`. Each agent leg counts its events anew."""
        self.watermark = -1
        self._format = agent_format
        self._transcoder = (
            None if agent_format == ULAW_8000 else Transcoder(agent_format, ULAW_8000)
        )

    def open_caller(self, stream_sid: bytes) -> None:
        """The stream has started: audio may be sent."""
        self._stream_sid = stream_sid

    # ---- in ------------------------------------------------------------------------------------

    def push(
        self,
        payload: bytes,
        event_id: int,
        now_s: float,
        next_turn: int,
        alignment: tuple[tuple[str, ...], tuple[int, ...]] | None,
    ) -> AgentTurn | None:
        """One chunk of agent audio (`payload`: base64 text). Returns the turn if the chunk opened one.

        Raises ValueError when the payload is no base64; the chunk is counted and nothing else changes.
        """
        self.chunks += 1
        try:
            audio = binascii.a2b_base64(payload, strict_mode=True)
        except binascii.Error:
            self.bad_chunks += 1
            raise
        is_stale = self._is_stale(event_id)
        if self._transcoder is not None and not is_stale:
            audio = self._transcoder.push(audio)
        if is_stale:
            size = round(
                self._format.ms_of(len(audio)) * BYTES_PER_MS
            )  # as long as it would have been
            self.received_bytes += size
            self.stale_chunks += 1
            self.stale_bytes += size
            return None
        self.received_bytes += len(audio)
        accepted = self.playout.push(audio, now_s)
        if not accepted:
            return None
        return self.heard.audio(accepted, event_id, now_s, next_turn, alignment)

    def _is_stale(self, event_id: int) -> bool:
        if event_id > self.watermark:
            return False
        if event_id == self.watermark:
            self.stale_equal_chunks += 1
            return self._drops_equal
        return True

    def end_turn(self) -> None:
        """The agent has finished its reply.

        The resampler is not flushed: the 1.375 ms it holds are silence, and the next turn pushes them out.
        """
        self.playout.end_turn()
        self.heard.end_turn()

    def abandon(self) -> AgentTurn | None:
        """The agent leg is gone; what came of it plays on. Returns the turn known to be cut short."""
        self.playout.end_turn()
        return self.heard.abandon()

    # ---- out -----------------------------------------------------------------------------------

    def fill(self, now_s: float) -> None:
        """Comfort noise, unless anything else is queued or Twilio holds enough."""
        playout = self.playout
        if playout.queued_bytes or playout.horizon_s >= now_s + COMFORT_LEAD_S:
            return
        self.heard.filler(playout.fill(self.comfort.take(COMFORT_PIECE_BYTES), now_s))
        self.play(now_s, is_noise=True)

    @property
    def fill_due_s(self) -> float:
        """When `fill` has something to do, if nothing is queued before."""
        return self.playout.horizon_s - COMFORT_LEAD_S

    def play(self, now_s: float, *, is_noise: bool = False) -> bool:
        """Send what is due. True when audio was sent. Nobody waits for the end of noise: no mark there."""
        playout = self.playout
        starts_s = playout.horizon_s
        audio = playout.take(now_s)
        if not audio:
            return False
        message = twilio_media.encode_media(
            self._stream_sid, binascii.b2a_base64(audio, newline=False)
        )
        self._out.append(self._frame_message(message))
        outlet = self.outlet
        outlet.messages += 1
        if self._tap is not None:
            self._tap.agent(max(starts_s, now_s), audio)
        is_last = not playout.queued_bytes and not is_noise
        if outlet.wants_mark or is_last:
            self._mark(f"{outlet.epoch}:{playout.sent_bytes}")
            outlet.marked_bytes = playout.sent_bytes
        return True

    def mark_end(self) -> None:
        """Ask to be told when the last word has been played."""
        self._mark(f"{self.outlet.epoch}:{END_MARK}")

    def _mark(self, name: str) -> None:
        self._out.append(self._frame_message(twilio_media.encode_mark(self._stream_sid, name)))
        self.outlet.marks_sent += 1

    def interrupt(self, event_id: int, now_s: float) -> tuple[int, list[tuple[AgentTurn, str]]]:
        """Barge-in: raise the watermark, empty playout, clear Twilio's buffer.

        The epoch changes first, so that the marks which `clear` sends back are not taken for heard audio.
        Returns the bytes that the caller will not hear, and the interrupted turns with what was heard.
        """
        self.watermark = max(self.watermark, event_id)
        self.outlet.epoch += 1
        queued, unheard = self.playout.flush(now_s)
        sent = self.playout.sent_bytes
        self.outlet.marked_bytes = sent
        self.cleared_bytes += unheard
        if self._transcoder is not None:
            self._transcoder.flush()
        if self._stream_sid:
            self._out.append(self._frame_message(twilio_media.encode_clear(self._stream_sid)))
        if self._tap is not None:
            self._tap.cut_agent(now_s)
        return queued + unheard, self.heard.cut(sent - unheard, sent)

    def mark_echo(self, name: str, now_s: float) -> tuple[bool, list[AgentTurn]]:
        """Twilio's echo of a mark. Returns whether it was the end mark, and the turns heard to their end."""
        epoch, colon, position = name.partition(":")
        if not colon or epoch != str(self.outlet.epoch):
            return False, []
        self.marks_echoed += 1
        if position == END_MARK:
            return True, self.heard.played(self.playout.sent_bytes, now_s)
        is_ours = position.isdecimal() and len(position) <= _POSITION_MAX_DIGITS
        return False, self.heard.played(int(position), now_s) if is_ours else []

    def report(self) -> dict[str, float]:
        """Counters for the call's record."""
        playout = self.playout
        return {
            "chunks": self.chunks,
            "bad_chunks": self.bad_chunks,
            "received_ms": round(self.received_bytes / BYTES_PER_MS, 1),
            "sent_ms": round(playout.sent_bytes / BYTES_PER_MS, 1),
            "sent_frames": round(playout.sent_bytes / (20 * BYTES_PER_MS), 2),
            "messages": self.outlet.messages,
            "heard_ms": round((playout.sent_bytes - self.cleared_bytes) / BYTES_PER_MS, 1),
            "flushed_ms": round(playout.flushed_bytes / BYTES_PER_MS, 1),
            "cleared_ms": round(self.cleared_bytes / BYTES_PER_MS, 1),
            "stale_chunks": self.stale_chunks,
            "stale_equal_chunks": self.stale_equal_chunks,
            "stale_ms": round(self.stale_bytes / BYTES_PER_MS, 1),
            "overrun_ms": round(playout.overrun_bytes / BYTES_PER_MS, 1),
            "queued_ms": round(playout.queued_bytes / BYTES_PER_MS, 1),
            "underruns": playout.underruns,
            "underrun_ms": round(playout.underrun_ms, 1),
            "late_underruns": playout.late_underruns,
            "late_underrun_ms": round(playout.late_ms, 1),
            "lead_ms": round(playout.lead_s * 1000, 1),
            "comfort_noise_ms": round(self.comfort.bytes / BYTES_PER_MS, 1),
            "burstiness_ms": round(playout.burstiness_s * 1000, 1),
            "marks_sent": self.outlet.marks_sent,
            "marks_echoed": self.marks_echoed,
        }
