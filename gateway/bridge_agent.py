"""The agent's side of a bridge: what the agent says, and what comes of it. Pure."""

from __future__ import annotations

from gateway import convai
from gateway.audio import ULAW_8000, parse_format
from gateway.bridge_core import FRAME_S, BridgeCore
from gateway.convai import ConversationError
from gateway.events import AgentReady, Termination, ToolCall, Turn
from gateway.websocket import BINARY, CLOSE, PING, TEXT

CLIENT_NAME = "tandem"
_ENDED_EARLY = "ended the conversation before the caller was there"


class AgentSide(BridgeCore):
    """Bytes and the fate of the agent leg."""

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
