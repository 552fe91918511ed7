"""One call: two legs joined. Bytes and time go in, bytes for each leg and events come out.

The bridge owns everything that has to happen in the same instant: framing, formats, playout, barge-in, marks,
the end. It has no socket, clock, task or log. The media plane drives it in production, a test by hand:

    bridge.agent_opened(now)        the agent leg's WebSocket is up      → the initiation message
    bridge.caller_opened(now)       Twilio's WebSocket is up
    bridge.caller_bytes(data, now)  bridge.agent_bytes(data, now)
    bridge.tick(now)                whenever now >= bridge.due_s
    bridge.take_caller()            bridge.take_agent()                  bytes to send, in order
    bridge.events                   what the surroundings have to know; emptied by the reader

Once `ended` is set nothing more is said to either side but the closing handshakes.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from gateway import convai, twilio_media
from gateway.audio import FRAME_MS, ULAW_8000, parse_format
from gateway.convai import ConversationError
from gateway.downlink import AgentTap, Downlink
from gateway.events import (
    AgentReady,
    BridgeEvent,
    Finished,
    Note,
    StreamStarted,
    Termination,
    ToolCall,
    Turn,
)
from gateway.flow import PlainCallerFlow
from gateway.heard import AgentTurn
from gateway.link import CallPlan
from gateway.playout import Pace
from gateway.settings import MediaSettings
from gateway.twilio_media import MediaStreamError
from gateway.uplink import CallerTap, Uplink
from gateway.websocket import BINARY, CLOSE, PING, TEXT, WebSocket

MALFORMED_MAX = 50
"""Malformed messages of one leg that are counted and skipped; one more ends the leg."""
END_CALL_GRACE_S = 2.0
"""After the agent's `end_call`: how long its closing handshake may take before we end without it."""
FRAME_S = FRAME_MS / 1000
CLIENT_NAME = "tandem"
CALLER_IDLE_TIMEOUT_S = 60.0
"""Twilio sends audio all the time, speech or silence: a stream that says nothing for so long is dead."""
REASON_MAX_CHARS = 300
"""Of what a peer says about its own end; the reason travels in every record of the call."""
_ENDED_EARLY = "ended the conversation before the caller was there"


def _take(frames: list[bytes]) -> bytes:
    if not frames:
        return b""
    data = frames[0] if len(frames) == 1 else b"".join(frames)
    frames.clear()
    return data


class Tap(CallerTap, AgentTap, Protocol):
    """The recorder's ear."""

    def start(self, now_s: float) -> None: ...


class Bridge:
    """The state of one call. See the module's docstring for the way to drive it."""

    def __init__(
        self,
        plan: CallPlan,
        settings: MediaSettings,
        tap: Tap | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._tap = tap
        self._caller = WebSocket(client=False, max_message_bytes=settings.caller_message_max_bytes)
        self._agent = WebSocket(client=True, max_message_bytes=settings.agent_message_max_bytes)
        self.to_caller: list[bytes] = []
        self.to_agent: list[bytes] = []
        """WebSocket frames that wait to be sent, in order."""
        self.uplink = Uplink(settings, tap, self.to_agent, self._agent.encode_text)
        self._flow = self.uplink.timeline
        self.downlink = Downlink(settings, tap, self.to_caller, self._caller.encode_text, pace)
        self.events: list[BridgeEvent] = []
        self.ended: Termination | None = None
        self.due_s = math.inf
        self.conversation_id: str | None = None
        self.stream_sid: str | None = None
        self.call_sid: str | None = plan.twilio_call_sid
        self._stream_sid = b""
        self._agent_is_open = False
        self._caller_is_open = False
        self._agent_ready = False
        self._said_first_audio = False
        self._sent_first_audio = False
        self._draining: Termination | None = None
        self._end_mark_sent = False
        self._ends_at_s = math.inf
        self._agent_last_s = 0.0
        self._started_s: float | None = None
        self._turns = 0
        self._problems: dict[str, int] = {}
        self._malformed = {"caller": 0, "agent": 0}
        self._agent_error = ""
        self.barge_ins = 0
        self.dtmf_digits = 0
        self._opt_out_digit = plan.opt_out_digit
        self.first_audio_ms: float | None = None
        self.formats: dict[str, str] = {}

    @property
    def caller_frames(self) -> int:
        return self._flow.frames

    @property
    def flow(self) -> PlainCallerFlow:
        """What the express lane keeps up to date."""
        return self._flow

    @property
    def express_sid(self) -> bytes | None:
        """The stream whose usual frames may go to the agent past this bridge; None: not at the moment."""
        usual = (
            self.ended is None
            and self.uplink.is_usual
            and self._agent_ready
            and self._caller.is_between_frames
            and not self._agent.close_sent
        )
        return self._stream_sid if usual and self._stream_sid else None

    @property
    def agent_hears_pcm(self) -> bool:
        return self.formats["caller_audio"] != ULAW_8000.name

    # ---- what goes out -------------------------------------------------------------------------

    def take_caller(self) -> bytes:
        """Bytes for the caller leg since the last call; empty when there are none."""
        return _take(self.to_caller)

    def take_agent(self) -> bytes:
        """Bytes for the agent leg since the last call; empty when there are none."""
        return _take(self.to_agent)

    def _say_agent(self, message: bytes) -> None:
        """A control message to the agent, behind the audio that was due before it."""
        if self._agent_is_open and self.ended is None:
            self.to_agent.append(self._agent.encode_text(message))

    # ---- the agent leg -------------------------------------------------------------------------

    def agent_opened(self, now_s: float) -> None:
        """The agent leg's upgrade is done: the initiation message is the first thing to send."""
        if self.ended is not None:
            return
        self._agent_is_open = True
        self._agent_last_s = now_s
        plan = self._plan
        self._say_agent(
            convai.encode_initiation(
                dynamic_variables=plan.dynamic_variables,
                config_override=plan.conversation_config_override,
                user_id=plan.user_id,
                source=CLIENT_NAME,
                version=None,
            )
        )

    def agent_bytes(self, data: bytes, now_s: float) -> None:
        """Bytes from the agent leg's socket."""
        self._agent_last_s = now_s
        for opcode, payload in self._agent.receive(data):
            if opcode == TEXT:
                # After the end the agent may go on talking until it has read our goodbye.
                if self.ended is None:
                    self._agent_message(payload, now_s)
            elif opcode == PING:
                self.to_agent.append(self._agent.encode_pong(payload))
            elif opcode == CLOSE:
                self._agent_said_close(now_s)
            elif opcode == BINARY:
                self._problem("agent", "binary_message", now_s)
        failure = self._agent.failure
        if failure is not None and self.ended is None:
            self.to_agent.append(self._agent.encode_close(failure.close_code))
            self._agent_failed(f"broke the WebSocket protocol: {failure.reason}", now_s)
        self._rearm()

    def agent_closed(self, now_s: float, reason: str = "connection lost") -> None:
        """The agent leg's socket is gone (no closing handshake, or the end of one)."""
        was_open = self._agent_is_open
        self._agent_is_open = False
        self.uplink.close()
        if was_open and self._agent.close_received is None:
            self._agent_gone(1006, reason, now_s)
        self._rearm()

    def agent_failed(self, reason: str, now_s: float) -> None:
        """The agent leg could not be opened, or stalled."""
        self._agent_failed(reason, now_s)
        self._rearm()

    def _agent_message(self, payload: bytes, now_s: float) -> None:
        quick = convai.split_audio(payload)
        if quick is not None:
            self._agent_audio(quick[1], quick[0], None, now_s)
            return
        try:
            event = convai.decode(payload)
        except ConversationError as error:
            if self.conversation_id is None:
                self._agent_failed(f"first message is not a conversation event: {error}", now_s)
            else:
                self._problem("agent", "malformed_event", now_s, str(error))
            return
        self._on_agent(event, now_s)

    def _on_agent(self, event: convai.ServerEvent | None, now_s: float) -> None:  # noqa: C901
        match event:
            case convai.AgentAudio():
                timing = event.alignment
                self._agent_audio(
                    event.payload,
                    event.event_id,
                    (timing.chars, timing.start_ms) if timing is not None else None,
                    now_s,
                )
                if event.is_final:
                    self.downlink.end_turn()
            case convai.Ping():
                self._say_agent(convai.encode_pong(event.event_id))
            case convai.UserTranscript():
                if not event.tentative:
                    self._user_said(event.text, now_s)
            case convai.AgentResponse():
                self._agent_said(event.text, event.event_id, now_s)
            case convai.Interruption():
                self._interrupted(event.event_id, now_s)
            case convai.AgentResponseComplete():
                self.downlink.end_turn()
            case convai.AgentResponseCorrection():
                self._note("agent_response_corrected", now_s, corrected_chars=len(event.corrected))
            case convai.Metadata():
                self._agent_metadata(event, now_s)
            case convai.ClientToolCall():
                self._note("agent_tool", now_s, tool=event.tool_name)
                self.events.append(
                    ToolCall(
                        event.tool_name,
                        event.tool_call_id,
                        event.parameters,
                        event.expects_response,
                    )
                )
            case convai.AgentToolResponse():
                self._tool_response(event, now_s)
            case convai.QueueStatus():
                self._note("agent_queue", now_s, status=event.status)
            case convai.AgentError():
                self._agent_error = (
                    f"{event.error_type or event.code}: {event.message or event.reason or ''}"
                )
                self._note("agent_error", now_s, code=event.code, type=event.error_type)
            case convai.GuardrailTriggered():
                self._note("agent_guardrail", now_s)
            case None:
                self._count("agent_unknown_event")
            case _:
                self._count("agent_other_event")

    def _agent_metadata(self, event: convai.Metadata, now_s: float) -> None:
        """Formats are verified against what the agent says of itself; a mismatch means transcoding."""
        if self._agent_ready:
            self._problem("agent", "second_metadata", now_s)
            return
        try:
            listens = parse_format(event.user_input_audio_format or "pcm_16000")
            speaks = parse_format(event.agent_output_audio_format or "pcm_16000")
        except ValueError as error:
            self._agent_failed(f"audio format not supported: {error}", now_s)
            return
        self.conversation_id = event.conversation_id
        self.formats = {"caller_audio": listens.name, "agent_audio": speaks.name}
        self._agent_ready = True
        self._note("agent_ready", now_s, conversation_id=event.conversation_id, **self.formats)
        if listens != ULAW_8000 or speaks != ULAW_8000:
            self._note("format_mismatch", now_s, **self.formats)
        self.downlink.open_agent(speaks)
        self.uplink.open(listens)
        self.events.append(AgentReady(event.conversation_id))

    def _agent_audio(
        self,
        payload: bytes,
        event_id: int,
        alignment: tuple[tuple[str, ...], tuple[int, ...]] | None,
        now_s: float,
    ) -> None:
        if not self._agent_ready:
            self._problem("agent", "audio_before_metadata", now_s)
            return
        if not self._said_first_audio:
            self._said_first_audio = True
            self._note("agent_first_audio", now_s)
        pushed = self.downlink.playout.pushed_bytes
        try:
            opened = self.downlink.push(payload, event_id, now_s, self._turns + 1, alignment)
        except ValueError:
            self._problem("agent", "bad_base64", now_s)
            return
        if opened is not None:
            self._turns += 1
            self._tell_turn(opened)
        if self._started_s is not None and self.downlink.playout.horizon_s < now_s + FRAME_S:
            self._play(now_s)  # the caller is about to hear nothing: do not wait for the grid
        if self.downlink.playout.pushed_bytes != pushed:
            self._end_mark_sent = False  # this comes behind it: that mark's echo is not the end

    def _agent_said(self, text: str, event_id: int, now_s: float) -> None:
        turn = self.downlink.heard.text(text, event_id)
        if turn is not None:
            self._tell_turn(turn)
        else:
            self.downlink.playout.end_turn()

    def _user_said(self, text: str, now_s: float) -> None:
        self._turns += 1
        self.downlink.end_turn()
        self.events.append(Turn(self._turns, "user", text, now_s))

    def _tool_response(self, event: convai.AgentToolResponse, now_s: float) -> None:
        if event.tool_name == "end_call" and not event.is_error and self._draining is None:
            self._note("agent_end_call", now_s)
            if self._started_s is None:
                self._agent_failed(_ENDED_EARLY, now_s)
                return
            self._drain(Termination("completed", None, "agent ended the call", True), now_s)

    def _interrupted(self, event_id: int, now_s: float) -> None:
        playout = self.downlink.playout
        was_playing = playout.queued_bytes > 0 or playout.horizon_s > now_s
        lost_bytes, cut = self.downlink.interrupt(event_id, now_s)
        for turn, heard in cut:
            self._tell_turn(turn, heard)
        if was_playing:
            self.barge_ins += 1
            self._note("barge_in", now_s, event_id=event_id, unheard_ms=lost_bytes // 8)
        if self._draining is not None:
            self._end_mark_sent = False  # the mark we waited for was cleared with the rest
            self._ends_at_s = now_s + self._settings.drain_margin_s

    def _agent_said_close(self, now_s: float) -> None:
        code, reason = self._agent.close_received or (1005, "")
        self.to_agent.append(self._agent.encode_close(1000 if code == 1005 else code))
        self.uplink.close()
        self._agent_gone(code, reason, now_s)

    def _agent_gone(self, code: int, reason: str, now_s: float) -> None:
        self._note("agent_closed", now_s, code=code, reason=reason[:120])
        self._agent_ready = False
        if self.ended is not None:
            return
        if self._draining is not None:
            self._drain_step(now_s)
        elif code != 1000:
            detail = self._agent_error or reason
            self._agent_failed(f"closed{f': {detail}' if detail else ''} ({code})", now_s)
        elif self._started_s is None:
            self._agent_failed(_ENDED_EARLY, now_s)
        else:
            self._drain(Termination("completed", None, "agent ended the conversation", True), now_s)

    def _agent_failed(self, reason: str, now_s: float) -> None:
        self._note("error", now_s, leg="agent", reason=reason[:200])
        said = f"agent leg {reason}"[:REASON_MAX_CHARS]
        self._finish(Termination("agent_fault", "agent", said, False), now_s)

    # ---- the caller leg ------------------------------------------------------------------------

    def caller_opened(self, now_s: float) -> None:
        """Twilio's WebSocket is up; `start` will follow."""
        self._caller_is_open = True
        self._flow.heard_s = now_s
        self._note("stream_attached", now_s)

    def caller_bytes(self, data: bytes, now_s: float) -> None:
        """Bytes from the caller leg's socket."""
        self._flow.heard_s = now_s
        sole = self._caller.sole_text(data)
        if sole is not None:
            media = twilio_media.split_media(sole)  # which matches ASCII only
            if media is not None:
                self._caller_audio(media[0], media[1], media[2], now_s)
                return
        for opcode, payload in self._caller.receive(data):
            if opcode == TEXT:
                media = twilio_media.split_media(payload)
                if media is not None:
                    self._caller_audio(media[0], media[1], media[2], now_s)
                else:
                    self._caller_message(payload, now_s)
            elif opcode == PING:
                self.to_caller.append(self._caller.encode_pong(payload))
            elif opcode == CLOSE:
                self._caller_said_close(now_s)
            elif opcode == BINARY:
                self._problem("caller", "binary_message", now_s)
        failure = self._caller.failure
        if failure is not None and self._caller_is_open and not self._caller.close_sent:
            self.to_caller.append(self._caller.encode_close(failure.close_code))
            self._caller_failed(f"broke the WebSocket protocol: {failure.reason}", now_s)

    def caller_closed(self, now_s: float, reason: str = "connection lost") -> None:
        """The caller leg's socket is gone."""
        if not self._caller_is_open:
            return
        self._caller_is_open = False
        if self._caller.close_received is None:
            self._note("caller_closed", now_s, code=1006, reason=reason[:120])
        if self.ended is None:
            self._finish(
                Termination(
                    "carrier_fault", "twilio", f"caller leg lost without `stop`: {reason}", False
                ),
                now_s,
            )
        self._rearm()

    def caller_failed(self, reason: str, now_s: float) -> None:
        """The caller leg did not do what it had to (no `start` in time, stalled)."""
        self._caller_failed(reason, now_s)
        self._rearm()

    def _caller_audio(
        self, stream_sid: bytes, timestamp_ms: int, payload: bytes, now_s: float
    ) -> None:
        self._flow.frames += 1
        if stream_sid != self._stream_sid:
            self.uplink.rejected_frames += 1
            kind = "wrong_stream_sid" if self._stream_sid else "media_before_start"
            self._problem("caller", kind, now_s)
        elif not self.uplink.frame(timestamp_ms, payload, now_s):
            self._problem("caller", "bad_base64", now_s)

    def _caller_message(self, payload: bytes, now_s: float) -> None:
        try:
            event = twilio_media.decode(payload)
        except MediaStreamError as error:
            self._problem("caller", "malformed_message", now_s, str(error))
            return
        match event:
            case twilio_media.CallerMedia():
                if event.track == "inbound":
                    self._caller_audio(
                        event.stream_sid.encode(), event.timestamp_ms, event.payload, now_s
                    )
                else:
                    self._count("caller_other_track")
            case twilio_media.MarkEcho():
                self._mark_echo(event.name, now_s)
            case twilio_media.Dtmf():
                self._dtmf(event.digit, now_s)
            case twilio_media.Started():
                self._stream_started(event, now_s)
            case twilio_media.Stopped():
                self._note("caller_stopped", now_s)
                self._finish(Termination("completed", None, "caller hung up", False), now_s)
            case twilio_media.Connected():
                pass
            case None:
                self._count("caller_unknown_event")

    def _stream_started(self, event: twilio_media.Started, now_s: float) -> None:
        if self._started_s is not None:
            self._problem("caller", "second_start", now_s)
            return
        if self.call_sid is not None and event.call_sid != self.call_sid:
            self._caller_failed("`start` names another call than the ticket", now_s)
            return
        if (event.encoding, event.rate_hz, event.channels) != ("audio/x-mulaw", 8000, 1):
            self._caller_failed(f"audio format not supported: {event.encoding[:40]}", now_s)
            return
        self._started_s = now_s
        self.call_sid = event.call_sid
        self.stream_sid = event.stream_sid
        self._stream_sid = event.stream_sid.encode()
        self.downlink.open_caller(self._stream_sid)
        if self._tap is not None:
            self._tap.start(now_s)
        self._note("stream_started", now_s, stream_sid=event.stream_sid)
        self.events.append(StreamStarted(event.stream_sid, event.call_sid))
        self._play(now_s)  # the first words are here already when the agent leg was warmed
        self._rearm()

    def _dtmf(self, digit: str, now_s: float) -> None:
        self.dtmf_digits += 1
        self._note("dtmf", now_s)  # the digit itself may be part of a card number or a PIN
        if digit == self._opt_out_digit:
            self._note("opt_out_key", now_s)
        self._say_agent(
            convai.encode_contextual_update(f"The caller pressed {digit} on the keypad.")
        )

    def _mark_echo(self, name: str, now_s: float) -> None:
        is_end, done = self.downlink.mark_echo(name)
        for turn in done:
            self._tell_turn(turn, turn.heard_text(turn.end_byte))
        if is_end and self._draining is not None and self._end_mark_sent:
            self._note("drained", now_s)
            self._finish(self._draining, now_s)

    def _caller_said_close(self, now_s: float) -> None:
        code, reason = self._caller.close_received or (1005, "")
        self._note("caller_closed", now_s, code=code, reason=reason[:120])
        reply = self._caller.encode_close(1000 if code == 1005 else code)
        if reply:
            self.to_caller.append(reply)
        if self.ended is None:
            self._finish(
                Termination(
                    "carrier_fault",
                    "twilio",
                    f"caller leg closed with {code} without `stop`",
                    False,
                ),
                now_s,
            )

    def _caller_failed(self, reason: str, now_s: float) -> None:
        self._note("error", now_s, leg="caller", reason=reason[:200])
        self._finish(Termination("carrier_fault", "twilio", f"caller leg {reason}", False), now_s)

    # ---- time ----------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Do what is due: playout, the end of draining, the watch over a silent agent."""
        if self.ended is not None:
            self.due_s = math.inf
            return
        if self._started_s is not None:
            self._play(now_s)
            if now_s - self._flow.heard_s >= CALLER_IDLE_TIMEOUT_S:
                self._caller_failed(f"silent for {CALLER_IDLE_TIMEOUT_S:g} s", now_s)
        if self._draining is not None:
            self._drain_step(now_s)
        elif (
            self._agent_is_open
            and now_s - self._agent_last_s >= self._settings.agent_idle_timeout_s
        ):
            self._agent_failed(f"silent for {self._settings.agent_idle_timeout_s:g} s", now_s)
        self._rearm()

    def _play(self, now_s: float) -> None:
        if self.ended is not None:
            return
        if self.downlink.play(now_s) and not self._sent_first_audio:
            self._sent_first_audio = True
            self.first_audio_ms = (now_s - (self._started_s or now_s)) * 1000.0
            self._note("first_audio_sent", now_s, since_start_ms=round(self.first_audio_ms, 2))

    def _rearm(self) -> None:
        """Work out when `tick` is next needed."""
        if self.ended is not None:
            self.due_s = math.inf
            return
        due_s = self._ends_at_s
        if self._started_s is not None:
            due_s = min(
                due_s, self.downlink.playout.due_s, self._flow.heard_s + CALLER_IDLE_TIMEOUT_S
            )
        if self._agent_is_open:
            due_s = min(due_s, self._agent_last_s + self._settings.agent_idle_timeout_s)
        self.due_s = due_s

    # ---- the end -------------------------------------------------------------------------------

    def hang_up(self, termination: Termination, now_s: float) -> None:
        """End now, whatever is still to be said."""
        self._finish(termination, now_s)
        self._rearm()

    def drain(self, termination: Termination, now_s: float) -> None:
        """End when the caller has heard what was said so far."""
        self._drain(termination, now_s)
        self._rearm()

    def close(self, now_s: float) -> None:
        """Say goodbye on whatever is still open (after `ended`)."""
        fault = self.ended is not None and self.ended.blame is not None
        if self._caller_is_open and not self._caller.close_sent:
            self.to_caller.append(self._caller.encode_close(1011 if fault else 1000, "call ended"))
        self._close_agent()

    @property
    def caller_is_done(self) -> bool:
        """Both sides said goodbye; as the server it is for us to close the connection (RFC 6455, 7.1.1)."""
        return self._caller.close_sent and self._caller.close_received is not None

    def _close_agent(self) -> None:
        if self._agent_is_open and not self._agent.close_sent:
            self.to_agent.append(self._agent.encode_close(1000, "call ended"))

    def _drain(self, termination: Termination, now_s: float) -> None:
        if self.ended is not None or self._draining is not None:
            return
        if self._started_s is None:
            self._finish(termination, now_s)  # nobody is there to hear the rest
            return
        self._note("draining", now_s, remaining_ms=self._remaining_ms(now_s))
        self._draining = termination
        self._ends_at_s = now_s + END_CALL_GRACE_S
        self._drain_step(now_s)

    def _drain_step(self, now_s: float) -> None:
        """Behind the last audio goes a mark; its echo, or a deadline, is the end."""
        if self.downlink.playout.queued_bytes:
            self._ends_at_s = self._drain_deadline_s(now_s)
            self._end_mark_sent = False
            return
        # Audio may still be on its way while the agent leg is open; give its goodbye a moment.
        if not self._end_mark_sent and (not self._agent_ready or now_s >= self._ends_at_s):
            self._end_mark_sent = True
            self.downlink.mark_end()
            self._ends_at_s = self._drain_deadline_s(now_s)
        elif self._end_mark_sent and now_s >= self._ends_at_s and self._draining is not None:
            self._note("drain_timeout", now_s)
            self._finish(self._draining, now_s)

    def _drain_deadline_s(self, now_s: float) -> float:
        return now_s + self.downlink.playout.remaining_s(now_s) + self._settings.drain_margin_s

    def _remaining_ms(self, now_s: float) -> int:
        return round(self.downlink.playout.remaining_s(now_s) * 1000)

    def _finish(self, termination: Termination, now_s: float) -> None:
        if self.ended is not None:
            return
        playout = self.downlink.playout
        played = playout.sent_bytes - playout.unheard_bytes(now_s)
        for turn in self.downlink.heard.played(played):
            self._tell_turn(turn, turn.heard_text(turn.end_byte))
        for turn, heard in self.downlink.heard.rest():
            turn.interrupted = heard != (turn.text or "".join(turn.chars))
            self._tell_turn(turn, heard)
        self.ended = termination
        self.uplink.close()
        self._close_agent()
        self.due_s = math.inf
        self.events.append(Finished(termination, now_s))

    # ---- what the call's task asks for ---------------------------------------------------------

    def tool_result(self, tool_call_id: str, result: str, *, is_error: bool) -> None:
        self._say_agent(convai.encode_tool_result(tool_call_id, result, is_error))

    def say_to_agent(self, kind: str, text: str) -> None:
        """`contextual_update` (silent) or `user_message` (answered like speech)."""
        if kind == "user_message":
            self._say_agent(convai.encode_user_message(text))
        else:
            self._say_agent(convai.encode_contextual_update(text))

    # ---- bookkeeping ---------------------------------------------------------------------------

    def _note(self, name: str, now_s: float, **data: Any) -> None:
        self.events.append(Note(name, now_s, data))

    def _tell_turn(self, turn: AgentTurn, heard: str | None = None) -> None:
        text = turn.text or "".join(turn.chars)
        self.events.append(Turn(turn.number, "agent", text, turn.at_s, heard, turn.interrupted))

    def _count(self, kind: str) -> int:
        count = self._problems.get(kind, 0) + 1
        self._problems[kind] = count
        return count

    def _problem(self, leg: str, kind: str, now_s: float, detail: str = "") -> None:
        """Something malformed: counted, told once per kind, and too much of it ends the leg."""
        if self._count(f"{leg}_{kind}") == 1:
            self._note("error", now_s, leg=leg, kind=kind, detail=detail[:200])
        self._malformed[leg] += 1
        if self._malformed[leg] <= MALFORMED_MAX or self.ended is not None:
            return
        reason = f"sent more than {MALFORMED_MAX} malformed messages, last: {kind}"
        if leg == "agent":
            self._agent_failed(reason, now_s)
        else:
            self._caller_failed(reason, now_s)

    def report(self) -> dict[str, Any]:
        """The media part of the call's record."""
        return {
            "caller_audio": {"frames": self._flow.frames, **self.uplink.report()},
            "agent_audio": self.downlink.report(),
            "barge_ins": self.barge_ins,
            "dtmf_digits": self.dtmf_digits,
            "first_audio_ms": self.first_audio_ms,
            "problems": dict(self._problems),
        }
