"""One bidirectional media stream: Twilio's end of the WebSocket, on a 20 ms grid.

Three producers (caller audio, keys and mark echoes) and one writer share a bounded queue, so that a
server that reads slowly stalls nobody and a message is never cut in two. What the caller hears is
`playout`'s; what the caller does is `behaviour`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection

from bench.sim_twilio import messages
from bench.sim_twilio.account import new_sid
from bench.sim_twilio.callee import SPEECH_LEVEL, Behaviour
from bench.sim_twilio.connecting import (
    ConnectFailure,
    StreamOptions,
    WatchedStream,
    in_time,
    open_transport,
    rejection,
    split_stream_url,
    upgrade,
)
from bench.sim_twilio.playout import Playout
from bench.sim_twilio.sound import FRAME_BYTES, FRAME_MS, FRAME_S, RATE_HZ, level
from bench.sim_twilio.stream_record import StreamCounts, StreamHooks, StreamTimes

QUEUE_MAX_MESSAGES = 1_000
QUEUE_MAX_MEDIA = 500
"""Ten seconds of caller audio may wait for a slow server; then it is dropped with warning 31930."""
PARAMETER_MAX_CHARS = 500

_Failure = TypeVar("_Failure", bound=BaseException)


@dataclass(kw_only=True)
class MediaStream:
    """The stream; `run` lives as long as it does. Afterwards `end` says how it ended."""

    url: str
    auth_token: str
    account_sid: str
    call_sid: str
    behaviour: Behaviour
    hooks: StreamHooks
    parameters: Mapping[str, str] = field(default_factory=dict)
    options: StreamOptions = field(default_factory=StreamOptions)
    speech_offset_s: float = 0.0
    """Seconds from the start of the call's first stream to the start of this one."""

    def __post_init__(self) -> None:
        self.sid = new_sid("MZ")
        self.times = StreamTimes()
        self.counts = StreamCounts()
        self.playout = Playout(keep_audio=self.options.keep_audio)
        self.said = bytearray()
        self.echoed: list[tuple[float, str]] = []
        self.end: str | None = None
        """`stopped`, `server-closed`, `dropped`, `lost`, `protocol-error` or `not-connected`."""
        self.close_code: int | None = None
        self.close_reason = ""
        self.error_code: int | None = None
        self._sequence = 0
        self._stop = trio.Event()
        self._dropping = False
        self._marks_changed = trio.Event()
        self._all_written = trio.Event()
        self._send, self._receive = trio.open_memory_channel[str | bytes](QUEUE_MAX_MESSAGES)

    # ---- for the call and for tests ----------------------------------------------------------

    def stop(self) -> None:
        """End the stream as Twilio does when the call ends or is given other TwiML."""
        self._stop.set()

    def drop(self) -> None:
        """Lose the TCP connection: no `stop`, no close handshake."""
        self._dropping = True
        self._stop.set()

    def inject(self, message: str | bytes) -> None:
        """Send this as it is (bytes as a binary message): for showing the server nonsense."""
        self._enqueue(message)

    def press(self, digits: str) -> None:
        """The caller presses keys now."""
        self.behaviour.press(digits, self.now_s() + self.speech_offset_s)

    @property
    def heard(self) -> bytes:
        """µ-law of what the caller heard since `start`, silence where nothing was played."""
        return bytes(self.playout.heard)

    @property
    def first_sound_s(self) -> float | None:
        """When the caller first heard anything but silence (frames of 20 ms)."""
        heard = self.playout.heard
        for at in range(0, len(heard), FRAME_BYTES):
            if level(heard[at : at + FRAME_BYTES]) >= SPEECH_LEVEL:
                return at / RATE_HZ
        return None

    def now_s(self) -> float:
        """Stream time; 0.0 before `start`."""
        began = self.times.t_start_sent
        return 0.0 if began is None else trio.current_time() - began

    # ---- life --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, converse, close. Never raises for what the server does."""
        try:
            await self._connect_and_converse()
        except* ConnectionRejected as group:
            self._fail(rejection(_first(group)))
        except* ConnectFailure as group:
            self._fail(_first(group))
        except* ConnectionClosed:
            # trio-websocket's reader may raise it when the peer goes away during a protocol error.
            self._note_end("lost", 31903, "Connection broken pipe")
        self._note_end("stopped")
        if self.times.t_start_sent is not None:
            self.times.ended_s = self.now_s()
            self.playout.advance(self.now_s())
        elif self.error_code is None:
            return  # the call ended before there was a stream
        failed = self.error_code in (31903, 31924) or self.end == "not-connected"
        text = f"{self.error_code} {self.close_reason}" if failed else ""
        self.hooks.event("stream-error" if failed else "stream-stopped", text)

    def _fail(self, failure: ConnectFailure) -> None:
        self.close_reason = failure.message
        self._note_end("not-connected", failure.code, failure.message)

    def _note_end(self, end: str, code: int | None = None, message: str = "") -> None:
        if self.end is not None:
            return
        self.end = end
        if code is not None:
            self.error_code = code
            self.hooks.warn(code, "error", message)

    async def _connect_and_converse(self) -> None:
        self.times.connecting_at = trio.current_time()
        url, had_query = split_stream_url(self.url, require_wss=self.options.require_wss)
        if had_query:
            self.hooks.warn(31920, "warning", "query string of the stream URL dropped")
        for name, value in self.parameters.items():
            if len(name) + len(value) >= PARAMETER_MAX_CHARS:
                raise ConnectFailure(12200, f"Parameter {name} has 500 characters or more")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give_up_connecting, nursery.cancel_scope)
            deadline = trio.current_time() + self.options.connect_deadline_s
            with in_time(deadline):
                transport = await open_transport(url, self.options)
            try:
                with in_time(deadline):
                    socket = await upgrade(nursery, transport, url, self.auth_token, self.options)
                await self._converse(socket, transport)
            finally:
                await trio.aclose_forcefully(transport)
            nursery.cancel_scope.cancel()

    async def _give_up_connecting(self, scope: trio.CancelScope) -> None:
        await self._stop.wait()
        if self.times.t_start_sent is None:
            scope.cancel()

    async def _converse(self, socket: WebSocketConnection, transport: WatchedStream) -> None:
        self.times.open_at = self.times.t_start_sent = trio.current_time()
        self._enqueue(messages.CONNECTED)
        self._emit(messages.start, self.account_sid, self.call_sid, self.parameters)
        self.hooks.event("stream-started", "")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, socket)
            async with trio.open_nursery() as talking:
                talking.start_soon(self._read, socket, transport, talking.cancel_scope)
                talking.start_soon(self._speak)
                talking.start_soon(self._echo_marks)
                await self._stop.wait()
                talking.cancel_scope.cancel()
            await self._finish(socket, transport)
            nursery.cancel_scope.cancel()

    async def _finish(self, socket: WebSocketConnection, transport: WatchedStream) -> None:
        if self._dropping:
            self._note_end("dropped")
            await trio.aclose_forcefully(transport)
        elif self.end is None:
            self._note_end("stopped")
            self._emit(messages.stop, self.account_sid, self.call_sid)
            self._send.close()
            with trio.move_on_after(self.options.stop_deadline_s):
                # The writer must not be cancelled in the middle of a message: let it empty the queue.
                await self._all_written.wait()
                await socket.aclose(1000)
                self.close_code = 1000

    # ---- towards the server ------------------------------------------------------------------

    async def _speak(self) -> None:
        """Caller audio on an absolute grid: chunk k covers 20 ms up to 20k ms after `start`."""
        assert self.times.t_start_sent is not None
        frame = self._next_frame(0)
        chunk = 0
        while True:
            chunk += 1
            due = self.times.t_start_sent + chunk * FRAME_S
            await trio.sleep_until(due)
            late_ms = (trio.current_time() - due) * 1000
            self.times.late_max_ms = max(self.times.late_max_ms, late_ms)
            self._send_media(chunk, frame)
            frame = self._next_frame(chunk)

    def _next_frame(self, chunk: int) -> bytes:
        at_s = chunk * FRAME_S
        self._echo(self.playout.advance(at_s))
        now_s = at_s + self.speech_offset_s
        if chunk:
            heard = self.playout.heard_between((chunk - 1) * FRAME_BYTES, chunk * FRAME_BYTES)
            self.behaviour.ear.hear(heard, now_s)
        for digit in self.behaviour.keys_due(now_s):
            self.counts.digits_sent += 1
            self._emit(messages.dtmf, digit)
        if self.behaviour.hangs_up(now_s):
            self.hooks.hang_up()
        return self.behaviour.speak(now_s)

    def _send_media(self, chunk: int, frame: bytes) -> None:
        if self.options.keep_audio:
            self.said += frame
        if self._receive.statistics().current_buffer_used >= QUEUE_MAX_MEDIA:
            if not self.counts.media_dropped:
                self.hooks.warn(31930, "warning", "Media buffer overflow: the server reads slowly")
            self.counts.media_dropped += 1
            return
        self.counts.media_sent += 1
        self._sequence += 1
        self._enqueue(
            messages.media(
                self.sid,
                self._sequence,
                chunk,
                (chunk - 1) * FRAME_MS,
                frame,
                sid_first=self.options.sid_first,
            )
        )

    async def _echo_marks(self) -> None:
        assert self.times.t_start_sent is not None
        while True:
            self._marks_changed = trio.Event()
            with trio.move_on_at(self.times.t_start_sent + self.playout.next_echo_s()):
                await self._marks_changed.wait()
            self._echo(self.playout.advance(self.now_s()))

    def _echo(self, names: list[str]) -> None:
        for name in names:
            self.counts.marks_echoed += 1
            self.echoed.append((self.now_s(), name))
            self._emit(messages.mark, name)

    def _emit(self, build: Callable[..., str], *values: object) -> None:
        self._sequence += 1
        self._enqueue(build(self.sid, self._sequence, *values))

    def _enqueue(self, message: str | bytes) -> None:
        try:
            self._send.send_nowait(message)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.counts.media_dropped += 1

    async def _write(self, socket: WebSocketConnection) -> None:
        try:
            async for message in self._receive:
                await socket.send_message(message)
        except ConnectionClosed:
            pass  # the reader tells why
        self._all_written.set()

    # ---- from the server ---------------------------------------------------------------------

    async def _read(
        self, socket: WebSocketConnection, transport: WatchedStream, talking: trio.CancelScope
    ) -> None:
        try:
            while True:
                self._take(await socket.get_message())
        except ConnectionClosed as closed:
            self._note_close(closed, transport)
        talking.cancel()

    def _take(self, message: str | bytes) -> None:
        now_s = self.now_s()
        if isinstance(message, bytes):
            self.counts.binary_messages += 1
            self.hooks.warn(31950, "warning", "Malformed message: binary frame")
            return
        try:
            parsed = messages.parse(message, self.sid)
        except messages.InvalidMessage as error:
            self.counts.invalid_messages += 1
            if self.counts.invalid_messages == 1:
                self.hooks.warn(31951, "warning", f"Invalid message: {error}")
            return
        match parsed:
            case messages.ServerMedia(payload):
                self._take_media(payload, now_s)
            case messages.ServerMark(name):
                self.counts.marks_received += 1
                self.playout.mark(name, now_s)
            case messages.ServerClear():
                self.counts.clears_received += 1
                self.playout.clear(now_s)
                self.behaviour.ear.cut()
        self._echo(self.playout.advance(now_s))
        self._marks_changed.set()

    def _take_media(self, payload: bytes, now_s: float) -> None:
        self.counts.media_received += 1
        if self.times.t_first_media_received_s is None:
            self.times.t_first_media_received_s = now_s
        already = self.playout.dropped_bytes
        if self.playout.push(payload, now_s) and not already:
            self.hooks.warn(31931, "warning", "Media discarded: more than 10 minutes queued")

    def _note_close(self, closed: ConnectionClosed, transport: WatchedStream) -> None:
        reason = closed.reason
        self.close_code = reason.code if reason else 1006
        self.close_reason = (reason.reason if reason else None) or ""
        if self.close_code == 1006:
            if transport.peer_is_gone:
                self._note_end("lost", 31903, "Connection broken pipe")
            else:
                self._note_end("protocol-error", 31924, "Protocol error")
        elif self.close_code in (1000, 1005):
            self._note_end("server-closed")
        else:
            self._note_end("server-closed", 31921, f"Close error: remote sent {self.close_code}")


def _first(group: BaseExceptionGroup[_Failure]) -> _Failure:
    found: BaseExceptionGroup[_Failure] | _Failure = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
