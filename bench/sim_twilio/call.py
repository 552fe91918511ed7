"""One simulated telephone call: its state, what happened on it, and the levers on it.

A `SimCall` holds no logic of the network: `life` brings it up and down, `verbs` carries out its TwiML,
`stream` is its media. Everything that a test, the demo or a load run wants to know is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import trio

from bench.sim_twilio.account import new_sid
from bench.sim_twilio.amd import Detection
from bench.sim_twilio.callbacks import CallbackQueue, Delivery
from bench.sim_twilio.callee import Behaviour, Caller
from bench.sim_twilio.child import ChildCall
from bench.sim_twilio.playout import Clear, Gap
from bench.sim_twilio.sound import RATE_HZ, ULAW_SILENCE, Audio, write_stereo
from bench.sim_twilio.stream import MediaStream
from bench.sim_twilio.twiml import Element
from bench.sim_twilio.webhooks import Attempt

TERMINAL = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
TIME_LIMIT_S = 14_400
RING_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class DebuggerEntry:
    """What Twilio's debugger would show."""

    code: int
    level: str
    message: str
    call_sid: str
    at_s: float


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """Where a TwiML document comes from: a URL with its fallback, or inline text."""

    url: str = ""
    method: str = "POST"
    fallback_url: str = ""
    fallback_method: str = "POST"
    twiml: str | None = None


@dataclass(frozen=True, slots=True)
class StatusTarget:
    """Where status callbacks of a call go, and which."""

    url: str = ""
    method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})


class SimCall:
    """A call. `status` uses Twilio's words and only ever moves forward."""

    parent_call_sid = None

    def __init__(
        self,
        *,
        account_sid: str,
        direction: str,
        from_number: str,
        to_number: str,
        caller: Caller,
        now: Callable[[], datetime],
        delivery: Delivery,
        source: DocumentSource,
        status_target: StatusTarget,
        phone_number_sid: str | None = None,
        extra_params: dict[str, str] | None = None,
    ) -> None:
        self.sid = new_sid("CA")
        self.account_sid = account_sid
        self.direction = direction
        self.from_number = from_number
        self.to_number = to_number
        self.phone_number_sid = phone_number_sid
        self.caller = caller
        self.behaviour = Behaviour(caller)
        self.source = source
        self.status_target = status_target
        self.extra_params = extra_params or {}
        self.status = "ringing" if direction == "inbound" else "queued"
        self.queue_time_ms = 0
        self.ring_timeout_s: float = RING_TIMEOUT_S
        self.time_limit_s: float = TIME_LIMIT_S
        self.sip_response_code: int | None = None
        self.detection: Detection | None = None
        self.answered_by: str | None = None

        self.created_at = now()
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.answered_s: float | None = None
        """Seconds after the call's creation, like every time in `history`."""

        self.history: list[tuple[float, str, dict[str, Any]]] = []
        self.verbs: list[Element] = []
        self.heard_texts: list[str] = []
        self.dialled: list[str] = []
        self.children: list[ChildCall] = []
        """The legs that <Dial> has made."""
        self.streams: list[MediaStream] = []
        self.webhooks: list[Attempt] = []
        self.warnings: list[DebuggerEntry] = []
        self.callbacks = CallbackQueue(self.sid, delivery)
        self.callback_sequence = 0

        self.hung_up_by: str | None = None
        self.next_source: DocumentSource | None = None
        self._now = now
        self._born_s = trio.current_time()
        self._interrupts: list[Callable[[], None]] = []
        self._over = trio.Event()

    # ---- levers ------------------------------------------------------------------------------

    async def ended(self) -> None:
        """Wait until the call is over."""
        await self._over.wait()

    async def settled(self) -> None:
        """Wait until the call is over and its last status callback was delivered or given up."""
        await self._over.wait()
        await self.callbacks.delivered.wait()

    def hang_up(self, by: str = "caller") -> None:
        """End the call; by the caller, unless said otherwise. Nothing happens to an ended call."""
        if not self.is_over and self.hung_up_by is None:
            self.hung_up_by = by
            self.note("hang-up", by=by)
            self._interrupt()

    def redirect(self, source: DocumentSource) -> None:
        """Abandon what runs and go on with another document, as a REST update does."""
        self.next_source = source
        self.note("redirect", url=source.url)
        self._interrupt()

    def say(self, audio: Audio) -> None:
        """The caller speaks now."""
        self.behaviour.say(audio)

    def press(self, digits: str) -> None:
        """The caller presses keys now, on the running stream."""
        if self.stream is not None:
            self.stream.press(digits)

    # ---- what happened -----------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the status is a terminal one."""
        return self.status in TERMINAL

    @property
    def is_disturbed(self) -> bool:
        """Whether the running document is to be abandoned."""
        return self.hung_up_by is not None or self.next_source is not None

    @property
    def stream(self) -> MediaStream | None:
        """The running stream, or the last one."""
        return self.streams[-1] if self.streams else None

    @property
    def duration_s(self) -> int:
        """Whole seconds from answer to end; 0 when never answered."""
        if self.started_at is None or self.ended_at is None:
            return 0
        return round((self.ended_at - self.started_at).total_seconds())

    @property
    def heard(self) -> bytes:
        """µ-law of what the caller heard, from the first stream's start on, all streams in place."""
        return self._on_time_line(lambda stream: stream.heard)

    @property
    def said(self) -> bytes:
        """µ-law of what the caller said, on the same time line."""
        return self._on_time_line(lambda stream: bytes(stream.said))

    @property
    def underruns(self) -> list[Gap]:
        """Every gap inside an utterance, of all streams."""
        return [gap for stream in self.streams for gap in stream.playout.underruns]

    @property
    def clears(self) -> list[Clear]:
        """Every `clear`, of all streams."""
        return [clear for stream in self.streams for clear in stream.playout.clears]

    @property
    def marks_echoed(self) -> int:
        """Marks sent back, played or cleared."""
        return sum(stream.counts.marks_echoed for stream in self.streams)

    @property
    def media_messages(self) -> int:
        """Media messages that the server sent."""
        return sum(stream.counts.media_received for stream in self.streams)

    @property
    def invalid_messages(self) -> int:
        """Messages of the server that Twilio ignores, text or binary."""
        counts = [stream.counts for stream in self.streams]
        return sum(each.invalid_messages + each.binary_messages for each in counts)

    def warned(self, code: int) -> bool:
        """Whether the debugger shows `code`."""
        return any(entry.code == code for entry in self.warnings)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The data of every event of that name in `history`."""
        return [data for _, found, data in self.history if found == name]

    def write_wav(self, path: Path | str) -> None:
        """Stereo PCM16 at 8 kHz: the caller left, what the caller heard right."""
        write_stereo(path, self.said, self.heard)

    def _on_time_line(self, pick: Callable[[MediaStream], bytes]) -> bytes:
        line = bytearray()
        first_s = self.first_stream_s
        for stream in self.streams:
            if first_s is None or stream.times.t_start_sent is None:
                continue
            at = round((stream.times.t_start_sent - first_s) * RATE_HZ)
            line += bytes([ULAW_SILENCE]) * (at - len(line))
            line += pick(stream)[max(0, len(line) - at) :]
        return bytes(line)

    @property
    def first_stream_s(self) -> float | None:
        """When the first stream began, on Trio's clock; `None` before."""
        starts = (stream.times.t_start_sent for stream in self.streams)
        return next((start for start in starts if start is not None), None)

    # ---- for life, verbs and REST ------------------------------------------------------------

    def now_s(self) -> float:
        """Seconds since the call was created."""
        return trio.current_time() - self._born_s

    def note(self, name: str, **data: Any) -> None:
        """Append to the history."""
        self.history.append((self.now_s(), name, data))

    def warn(self, code: int, level: str, message: str) -> None:
        """Append to the debugger's list."""
        self.warnings.append(DebuggerEntry(code, level, message, self.sid, self.now_s()))
        self.note("debugger", code=code, level=level, message=message)

    def answer(self) -> None:
        """The call is up."""
        self.status = "in-progress"
        self.started_at = self._now()
        self.answered_s = self.now_s()
        self.note("answered")

    def finish(self, status: str) -> None:
        """The call is over; the first terminal status stays."""
        if not self.is_over:
            self.status = status
            self.ended_at = self._now()
            self.note(status)

    def release(self) -> None:
        """Wake those who wait for the end; no more callbacks follow."""
        self.callbacks.close()
        self._over.set()

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None] | None = None) -> Iterator[None]:
        """A stretch that a hang-up or a redirect cuts short: by `interrupt`, else by cancelling it."""
        with trio.CancelScope() as scope:
            lever = interrupt or scope.cancel
            self._interrupts.append(lever)
            if self.is_disturbed:
                lever()
            try:
                yield
            finally:
                self._interrupts.remove(lever)

    def _interrupt(self) -> None:
        for lever in tuple(self._interrupts):
            lever()
