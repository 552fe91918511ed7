"""The agent's side of a bridge: what the agent says, and what comes of it. Pure."""

from __future__ import annotations

from gateway import convai
from gateway.audio import ULAW_8000, parse_format
from gateway.bridge_core import FRAME_S, BridgeCore
from gateway.convai import ConversationError
from gateway.events import AgentLost, AgentReady, Termination, ToolCall, Turn
from gateway.websocket import BINARY, CLOSE, PING, TEXT, WebSocket

CLIENT_NAME = "tandem"
RESUME_VARIABLE = "gw_resume_context"
_GOES_ON = (
    "The connection to you was interrupted for a moment; the call goes on. What was said so far:"
)
_ENDED_EARLY = "ended the conversation before the caller was there"


class AgentSide(BridgeCore):
    """Bytes and the fate of the agent leg."""

    def agent_opened(self, now_s: float) -> None:
        """The agent leg's upgrade is done: the initiation message is the first thing to send."""
        if self.ended is not None:
            return
        if self._lost is not None:
            self._replace_agent()
        self._agent_is_open = True
        self._agent_last_s = now_s
        plan = self._plan
        self._say_agent(
            convai.encode_initiation(
                dynamic_variables=plan.dynamic_variables | self._told_so_far(),
                config_override=(
                    # What has to be said at first was said: the talk goes on where it was.
                    plan.redial_config_override
                    if self.spoken.agent_was_heard
                    else plan.conversation_config_override
                ),
                user_id=plan.user_id,
                source=CLIENT_NAME,
                version=None,
            )
        )

    def _replace_agent(self) -> None:
        """A new WebSocket with a new conversation; nothing of the old one is sent on it."""
        self.to_agent.clear()
        self._agent = WebSocket(
            client=True, max_message_bytes=self._settings.agent_message_max_bytes
        )
        self.uplink.attach(self._agent.encode_text)
        self._agent_error = ""
        self._malformed["agent"] = 0

    def _told_so_far(self) -> dict[str, str]:
        context = self.spoken.context() if self._lost is not None else ""
        return {RESUME_VARIABLE: context} if context else {}

    def agent_given_up(self, reason: str, code: int | None, now_s: float) -> None:
        """No other agent leg could be had: the end, so that Twilio asks control how to go on."""
        if self._lost is not None:
            said = (
                f"{reason} ({code})" if code is not None and f"({code})" not in reason else reason
            )
            self._agent_failed(said, now_s, is_final=True)
            self._rearm()

    def agent_bytes(self, data: bytes, now_s: float) -> None:
        """Bytes from the agent leg's socket."""
        if self._lost is not None and not self._agent_is_open:
            return  # the last words of a leg that was given up
        self._agent_last_s = now_s
        leg = self._agent
        for opcode, payload in leg.receive(data):
            if self._lost is not None and not self._agent_is_open:
                break
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
        failure = leg.failure
        if failure is not None and self.ended is None and self._agent_is_open:
            self.to_agent.append(leg.encode_close(failure.close_code))
            self._agent_failed(f"broke the WebSocket protocol: {failure.reason}", now_s)
        self._rearm()

    def agent_closed(self, now_s: float, reason: str = "connection lost") -> None:
        """The agent leg's socket is gone (no closing handshake, or the end of one)."""
        was_open = self._agent_is_open
        self._agent_is_open = False
        if was_open and self._agent.close_received is None:
            self._agent_gone(1006, reason, now_s)
        if self._lost is None:
            self.uplink.close()
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
            if not self._agent_ready:
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
        # Named whatever comes of it: it has begun, and will be charged for.
        if self.conversation_id is not None:
            self.earlier_conversations.append(self.conversation_id)
        self.conversation_id = event.conversation_id
        try:
            listens = parse_format(event.user_input_audio_format or "pcm_16000")
            speaks = parse_format(event.agent_output_audio_format or "pcm_16000")
        except ValueError as error:
            self._note("agent_unusable", now_s, conversation_id=event.conversation_id)
            self._agent_failed(f"audio format not supported: {error}", now_s, is_final=True)
            return
        self.formats = {"caller_audio": listens.name, "agent_audio": speaks.name}
        self._agent_ready = True
        self._note("agent_ready", now_s, conversation_id=event.conversation_id, **self.formats)
        if listens != ULAW_8000 or speaks != ULAW_8000:
            self._note("format_mismatch", now_s, **self.formats)
        self.downlink.open_agent(speaks)
        if self._lost is not None:
            self._agent_is_back(self._lost, now_s)
        self.uplink.open(listens)
        self.events.append(AgentReady(event.conversation_id))

    def _agent_is_back(self, lost: AgentLost, now_s: float) -> None:
        gap_ms = (now_s - lost.at_s) * 1000.0
        self._lost = None
        self.agent_gaps_ms.append(gap_ms)
        self._note("agent_back", now_s, gap_ms=round(gap_ms))
        if context := self.spoken.context():
            self._say_agent(convai.encode_contextual_update(f"{_GOES_ON}\n{context}"))
        for message in self._missed:
            self._say_agent(message)
        self._missed.clear()

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
        self._tell(Turn(self._turns, "user", text, now_s))

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
        self._agent_gone(code, reason, now_s)

    def _agent_gone(self, code: int, reason: str, now_s: float) -> None:
        self._note("agent_closed", now_s, code=code, reason=reason[:120])
        is_wanted = self.ended is None and self._draining is None
        if is_wanted and (code != 1000 or self._lost is not None):
            detail = self._agent_error or reason
            said = f"closed{f': {detail}' if detail else ''} ({code})"
            self._agent_failed(said, now_s, code)
        self._agent_ready = False
        if self._lost is not None:
            return  # another leg may still come
        self.uplink.close()
        if self.ended is not None:
            return
        if self._draining is not None:
            self._drain_step(now_s)
        elif self._started_s is None:
            self._agent_failed(_ENDED_EARLY, now_s)
        else:
            self._drain(Termination("completed", None, "agent ended the conversation", True), now_s)
