"""One conversation socket: the first messages, the listening, the turns and the end.

Four kinds of task per conversation: one reads the socket and hears the caller, one writes to it
(alone, because a cancelled send leaves a WebSocket unusable), one speaks the turn, and the timers.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from bench.sim_elevenlabs import shapes, speech, trouble
from bench.sim_elevenlabs.record import ConversationRecord, SentEvent
from bench.sim_elevenlabs.scenario import AgentScript, leaves
from bench.sim_elevenlabs.turns import Turns

Handler: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]

CLOSE_DEADLINE_S = 5.0
BEFORE_SPEECH_S = 0.5
"""An utterance begins earlier than the ear hears that it does."""
_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
#: Events that arrive whether or not the agent's `client_events` lists them.
ALWAYS_SENT = frozenset({"conversation_initiation_metadata", "queue_status", "error"})


@dataclasses.dataclass(frozen=True, slots=True)
class _Close:
    code: int
    reason: str


_Item: TypeAlias = tuple[str, SentEvent] | _Close


class Conversation:
    """Runs one accepted socket to its end and fills its record."""

    def __init__(
        self,
        socket: WebSocketConnection,
        stream: trio.abc.Stream,
        script: AgentScript,
        record: ConversationRecord,
    ) -> None:
        self.script, self.record = script, record
        self.stream = stream
        self._socket = socket
        self._to_writer, self._from_turns = trio.open_memory_channel[_Item](0)
        self._ear = speech.Ear(
            script.input_format,
            threshold_dbfs=script.speech_threshold_dbfs,
            speech_ms=script.speech_ms,
            silence_ms=script.silence_ms,
        )
        self.turns = Turns(script, record, self)
        self._pings: dict[int, float] = {}
        self._ready = False
        self._speech_began_bytes = 0
        self._last_input_s = self._started_s = trio.current_time()
        self._greeting: str | None = script.first_message.text if script.first_message else None
        self.nursery: trio.Nursery
        self._handlers: dict[str, Handler] = {
            "user_audio_chunk": self._on_audio,
            "conversation_initiation_client_data": self._on_initiation,
            "pong": self._on_pong,
            "client_tool_result": self._on_tool_result,
            "contextual_update": self._on_contextual_update,
            "feedback": self._on_feedback,
            "user_message": self._on_user_message,
        }

    async def run(self) -> None:
        """Returns when the socket is closed, whoever closed it."""
        self.record.note("accepted", self._started_s)
        try:
            async with trio.open_nursery() as self.nursery:
                self.nursery.start_soon(self._write)
                self.nursery.start_soon(trouble.run, self)
                await self._begin()
                await self._listen()
        except* (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._finish()

    # -- the first messages ---------------------------------------------------------------------

    async def _begin(self) -> None:
        if self.script.faults.silent:
            return
        await self._receive_initiation()
        await trio.sleep(self.script.faults.metadata_delay_s)
        if not await trouble.first_frame(self):
            return
        await self._send_metadata()
        await trouble.after_metadata(self)
        for timer in (self._ping, self._watch_input, self._watch_duration):
            self.nursery.start_soon(timer)
        self.nursery.start_soon(self._open)

    async def _open(self) -> None:
        """The greeting, after whatever is set to come before it."""
        await trouble.before_greeting(self)
        burst = trouble.burst(self.script)
        if burst is not None:
            await self.turns.take(burst, 0, speed=trouble.burst_speed(self.script))
        elif self.script.first_message and self._greeting and not self.script.faults.only_pings:
            await self.turns.take(self.script.first_message, 0, text=self._greeting)

    async def _receive_initiation(self) -> None:
        patience_s = self.script.start_without_initiation_s
        with trio.move_on_after(float("inf") if patience_s is None else patience_s):
            while self.record.initiation is None:
                message = await self._socket.get_message()
                kind = await self._handle(message)
                if kind != "conversation_initiation_client_data" and not self.record.initiation:
                    self.violate(f"{kind} before conversation_initiation_client_data")
        await self._apply_overrides(self.record.initiation or {})

    async def _apply_overrides(self, initiation: dict[str, Any]) -> None:
        """The first message is the one override that a listener can notice."""
        override = initiation.get("conversation_config_override")
        refused = [
            path
            for path, value in leaves(override or {})
            if value is not None  # a violation of its own, as is an audio format
            and not path.endswith("audio_format")
            and path not in self.script.overrides
        ]
        if refused:
            reason = f"Override of {refused[0]} is not enabled"
            await self.fail(1008, "override_error", reason)
            return
        agent = override.get("agent") if isinstance(override, dict) else None
        if isinstance(agent, dict) and isinstance(agent.get("first_message"), str):
            self._greeting = agent["first_message"]
        variables = initiation.get("dynamic_variables")
        known = dict(self.script.placeholders) | (variables if isinstance(variables, dict) else {})
        wanted = set(_VARIABLE.findall(self._greeting or ""))
        missing = (wanted | set(_VARIABLE.findall(self.script.prompt))) - set(known)
        missing = {name for name in missing if not name.startswith("system__")}
        if missing:
            names = ", ".join(sorted(missing))
            reason = f"Missing required dynamic variables: {names}"
            await self.fail(1008, "missing_dynamic_variable", reason)
        if wanted:
            self._greeting = _VARIABLE.sub(lambda m: str(known[m[1]]), self._greeting or "")

    async def _send_metadata(self) -> None:
        faults, script = self.script.faults, self.script
        body = {
            "conversation_id": self.record.conversation_id,
            "agent_output_audio_format": faults.claimed_output_format or script.output_format,
            "user_input_audio_format": faults.claimed_input_format or script.input_format,
        }
        self.record.note("metadata_sent", trio.current_time())
        kind = "conversation_initiation_metadata"
        self._ready = True
        await self.send(kind, f"{kind}_event", body, None, b"")

    # -- listening --------------------------------------------------------------------------------

    async def _listen(self) -> None:
        stop_s = self.script.faults.stop_reading_after_s
        while True:
            await self._handle(await self._socket.get_message())
            if stop_s is not None and trio.current_time() >= self._started_s + stop_s:
                await trio.sleep_forever()

    async def _handle(self, message: str | bytes) -> str:
        try:
            kind, body = shapes.read(message)
        except shapes.BadMessage as error:
            self.violate(str(error), repr(message))
            await self.fail(1008, "invalid_message", str(error))
            return "invalid"
        self.record.add_message(kind, trio.current_time())
        if kind != "user_audio_chunk":
            for problem in shapes.problems(kind, body):
                self.violate(problem, json.dumps(body))
        handler = self._handlers.get(kind)
        if handler is not None:
            await handler(body)
        return kind

    async def _on_audio(self, body: dict[str, Any]) -> None:
        width = 1 if self.script.input_format == "ulaw_8000" else 2
        audio, problems = shapes.read_audio(body, width)
        for problem in problems:
            self.violate(problem, str(body)[:80])
        self._last_input_s = trio.current_time()
        if not self._ready:
            self.record.audio_before_metadata_bytes += len(audio)
        self.record.add_audio(audio)
        for event in self._ear.hear(audio):
            self.record.note(f"caller_{event}", trio.current_time())
            if event == "began":
                self._speech_began_bytes = self.record.received_bytes
            await (self.turns.began() if event == "began" else self.turns.ended())

    def last_speech(self) -> bytes:
        """From a little before the caller began to speak until now, as 16 bit at 8 kHz. Needs `keep_audio`."""
        coding, rate_hz = speech.split_format(self.script.input_format)
        before = int(speech.bytes_per_second(self.script.input_format) * BEFORE_SPEECH_S) // 2 * 2
        sound = self.record.received[max(self._speech_began_bytes - before, 0) :]
        pcm16 = speech.ulaw_to_pcm16(sound) if coding == "ulaw" else sound
        return speech.resample(pcm16, rate_hz, speech.SOURCE_HZ)

    async def _on_initiation(self, body: dict[str, Any]) -> None:
        if self.record.initiation is not None:
            self.violate("a second conversation_initiation_client_data")
            return
        self.record.initiation = body
        self.record.note("initiation_received", trio.current_time())

    async def _on_pong(self, body: dict[str, Any]) -> None:
        sent_s = self._pings.pop(body.get("event_id", -1), None)
        if sent_s is None:
            self.violate(f"pong for ping {body.get('event_id')!r}, which is not waiting")
            return
        latency_s = trio.current_time() - sent_s
        self.record.pong_latencies_s.append(latency_s)
        if latency_s > self.script.pong_deadline_s:
            self.violate(f"pong after {latency_s:.2f} s")

    async def _on_tool_result(self, body: dict[str, Any]) -> None:
        self.record.tool_results.append(body)
        if not self.turns.tool_answered(str(body.get("tool_call_id"))):
            self.violate(f"result for tool call {body.get('tool_call_id')!r}, which is not waiting")

    async def _on_contextual_update(self, body: dict[str, Any]) -> None:
        self.record.contextual_updates.append(body)

    async def _on_feedback(self, body: dict[str, Any]) -> None:
        self.record.feedback.append(body)

    async def _on_user_message(self, body: dict[str, Any]) -> None:
        text = str(body.get("text") or "")
        self.record.user_messages.append(text)
        await self.turns.user_said(text)

    # -- timers -----------------------------------------------------------------------------------

    async def _ping(self) -> None:
        number = 0
        while True:
            await trio.sleep(self.script.ping_interval_s)
            number += 1
            self._pings[number] = trio.current_time()
            body = {"event_id": number, "ping_ms": None}
            await self.send("ping", "ping_event", body, number, b"")

    async def _watch_input(self) -> None:
        while True:
            deadline_s = self._last_input_s + self.script.receive_timeout_s
            await trio.sleep_until(deadline_s)
            if trio.current_time() >= self._last_input_s + self.script.receive_timeout_s:
                await self.fail(1002, "transport_receive_timeout", "No user input received")

    async def _watch_duration(self) -> None:
        await trio.sleep(self.script.max_duration_s)
        await self.fail(1000, "max_duration_exceeded", "Conversation exceeded its maximum duration")

    # -- writing and ending ---------------------------------------------------------------------

    async def send(
        self, kind: str, envelope: str, body: dict[str, Any], event_id: int | None, audio: bytes
    ) -> None:
        """Hand one event to the writer, unless the agent's `client_events` leaves it out."""
        enabled = self.script.client_events
        if enabled is not None and kind not in ALWAYS_SENT and kind not in enabled:
            return
        wire = body
        if self.script.faults.string_event_ids and "event_id" in body:
            wire = body | {"event_id": str(body["event_id"])}
        text = json.dumps({"type": kind, envelope: wire}, separators=(",", ":"))
        kept = {name: value for name, value in body.items() if name != "audio_base_64"}
        event = SentEvent(trio.current_time(), kind, event_id, kept, audio)
        await self._to_writer.send((text, event))

    async def send_raw(self, message: str | bytes) -> None:
        """Something that is no event (faults only, before the turns begin)."""
        await self._socket.send_message(message)

    async def _write(self) -> None:
        async for item in self._from_turns:
            if isinstance(item, _Close):
                await self._socket.aclose(item.code, item.reason)
                self.nursery.cancel_scope.cancel()
                return
            text, event = item
            moment = dataclasses.replace(event, at_s=trio.current_time())
            if not self.record.keep_audio:
                moment = dataclasses.replace(moment, audio=b"")
            self.record.add_sent(moment)
            await self._socket.send_message(text)

    def violate(self, what: str, sample: str = "") -> None:
        self.record.violate(trio.current_time(), what, sample)

    async def fail(self, code: int, error_type: str, message: str) -> None:
        """An `error` event, then the close."""
        body = {"code": code, "error_type": error_type, "message": message, "reason": message}
        await self.send("error", "error_event", body, None, b"")
        await self.close(code, message)

    async def close(self, code: int, reason: str) -> None:
        """Close from our side, after everything handed to the writer, and end every task."""
        self._note_end("server", code, reason)
        with trio.move_on_after(CLOSE_DEADLINE_S):
            await self._to_writer.send(_Close(code, reason))
            await trio.sleep_forever()
        self.nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint()

    def note_drop(self) -> None:
        """The end of TCP that comes next is our doing, not the client's."""
        self._note_end("network", 1006, "dropped by the simulator")

    def _note_end(
        self, by: Literal["client", "server", "network"], code: int | None, reason: str | None
    ) -> None:
        if self.record.closed_by is None:
            self.record.closed_by, self.record.close_code = by, code
            self.record.close_reason = reason
            self.record.ended_at_s = trio.current_time()
            self.record.note("closed", trio.current_time())

    def _finish(self) -> None:
        closed = self._socket.closed
        code = closed.code if closed is not None else 1006
        reason = closed.reason if closed is not None else None
        self._note_end("network" if code == 1006 else "client", code, reason)
        overdue_s = trio.current_time() - self.script.pong_deadline_s
        late = [number for number, sent_s in self._pings.items() if sent_s < overdue_s]
        if late and self.record.closed_by != "network":
            self.violate(f"{len(late)} pings never answered")
