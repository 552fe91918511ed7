"""Who speaks when: the caller's utterances, the replies to them, tools before a reply, hanging up."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import trio

from bench.sim_elevenlabs import trouble, words
from bench.sim_elevenlabs.mouth import Mouth
from bench.sim_elevenlabs.record import ConversationRecord, Turn
from bench.sim_elevenlabs.scenario import AgentScript, ToolCall, Utterance

if TYPE_CHECKING:
    from bench.sim_elevenlabs.conversation import Conversation


class Turns:
    """One turn at a time. The caller beginning to speak cancels the turn under way."""

    def __init__(self, script: AgentScript, record: ConversationRecord, talk: Conversation) -> None:
        self._script, self._record, self._talk = script, record, talk
        self.mouth = Mouth(script, record, talk.send)
        self._turn: trio.CancelScope | None = None
        self._replies = self._utterances = self._calls = 0
        self._ignoring = False
        self._waiting_tools: dict[str, trio.Event] = {}

    async def began(self) -> None:
        """The caller began to speak."""
        self._ignoring = self.mouth.audible and not self._can_be_interrupted()
        if not self._ignoring:
            await self._interrupt()

    async def ended(self) -> None:
        """The caller stopped: what was understood, then the reply."""
        if self._ignoring:
            return
        self._utterances += 1
        text, event_id = self._understood(), self.mouth.next_id()
        self._record.turns.append(Turn("user", text, trio.current_time(), event_id))
        body = {"user_transcript": text, "event_id": event_id}
        if self._script.tentative_transcripts:
            kind = "tentative_user_transcript"
            await self._send(kind, "tentative_user_transcription_event", body)
        await self._send("user_transcript", "user_transcription_event", body)
        self._start_reply()

    def _understood(self) -> str:
        if not self._script.understands:
            return self._script.transcript(self._utterances)
        return words.understood(self._talk.last_speech(), self._script.understands)

    async def user_said(self, text: str) -> None:
        """Text as if spoken (`user_message`)."""
        await self._interrupt()
        turn = Turn("user", text, trio.current_time(), self.mouth.next_id())
        self._record.turns.append(turn)
        self._start_reply()

    def tool_answered(self, call_id: str) -> bool:
        """A tool result came; whether anybody waits for it."""
        waiting = self._waiting_tools.pop(call_id, None)
        if waiting is not None:
            waiting.set()
        return waiting is not None

    async def take(
        self,
        utterance: Utterance,
        number: int,
        *,
        text: str | None = None,
        speed: float = 0,
        scope: trio.CancelScope | None = None,
    ) -> None:
        """Turn `number` (0 is the greeting): think, call tools, speak, perhaps hang up."""
        scope = self._turn = scope or trio.CancelScope()
        with scope:
            if number:
                await trio.sleep(self._script.response_latency_s)
            for tool in self._script.tool_calls:
                if tool.before_reply == number:
                    await self._call_tool(tool)
            await trouble.before_turn(self._talk)
            await self.mouth.say(utterance, text=text, speed=speed)
        if self._turn is scope:
            self._turn = None
        if number == self._script.end_call_after_reply and not scope.cancelled_caught:
            await self._end_call()

    def _can_be_interrupted(self) -> bool:
        enabled = self._script.client_events
        return self.mouth.interruptible and (enabled is None or "interruption" in enabled)

    async def _interrupt(self) -> None:
        """Stop the turn under way. An agent that was still thinking just goes on listening, and
        says the same later."""
        audible = self.mouth.audible
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            self._replies -= 1 if self._replies and not audible else 0
        if audible:
            await self.mouth.cut_off()

    def _start_reply(self) -> None:
        utterance = self._script.reply(self._replies + 1)
        if utterance is None or self._script.faults.only_pings:
            return
        self._replies += 1
        scope = self._turn = trio.CancelScope()  # now, so that it can be cancelled before it runs
        take = functools.partial(self.take, utterance, self._replies, scope=scope)
        self._talk.nursery.start_soon(take)

    async def _call_tool(self, tool: ToolCall) -> None:
        call_id, event_id = self._next_call(), self.mouth.next_id()
        body = {
            "tool_name": tool.name,
            "tool_call_id": call_id,
            "parameters": dict(tool.parameters),
            "event_id": event_id,
            "expects_response": tool.expects_response,
        }
        self._note_tool(tool.name, call_id, "client", dict(tool.parameters))
        waiting = self._waiting_tools[call_id] = trio.Event()
        await self._send("client_tool_call", "client_tool_call", body)
        failed = False
        if tool.expects_response:
            with trio.move_on_after(tool.timeout_s) as patience:
                await waiting.wait()
            failed = patience.cancelled_caught
        await self._send_tool_response(tool.name, call_id, "client", event_id, is_error=failed)

    async def _end_call(self) -> None:
        call_id, event_id = self._next_call(), self.mouth.next_id()
        request = {"tool_name": "end_call", "tool_call_id": call_id, "tool_type": "system"}
        await self._send(
            "agent_tool_request", "agent_tool_request", request | {"event_id": event_id}
        )
        self._note_tool("end_call", call_id, "system", {})
        self._record.note("end_call_sent", trio.current_time())
        await self._send_tool_response("end_call", call_id, "system", event_id)
        await trio.sleep(self._script.end_call_close_s)
        await self._talk.close(1000, "Call ended by agent")

    async def _send_tool_response(
        self, name: str, call_id: str, tool_type: str, event_id: int, *, is_error: bool = False
    ) -> None:
        body: dict[str, Any] = {"tool_name": name, "tool_call_id": call_id, "tool_type": tool_type}
        body |= {"is_error": is_error, "is_called": True, "event_id": event_id}
        kind = "agent_tool_response"
        if name == "end_call" and self._script.end_call_full_payload:
            kind = "agent_tool_response_full_payload"
            body |= {"full_tool_result": "{}", "truncated": False, "is_blocked": False}
        await self._send(kind, kind, body)

    def _note_tool(self, name: str, call_id: str, kind: str, parameters: dict[str, Any]) -> None:
        """A tool call is a turn without words in the transcript."""
        call: dict[str, Any] = {"type": kind, "request_id": call_id, "tool_name": name}
        call |= {"params_as_json": json.dumps(parameters), "tool_has_been_called": True}
        turn = Turn("agent", None, trio.current_time(), tool_calls=[call])
        self._record.turns.append(turn)

    def _next_call(self) -> str:
        self._calls += 1
        return f"call_{self._calls}"

    async def _send(self, kind: str, envelope: str, body: dict[str, Any]) -> None:
        await self._talk.send(kind, envelope, body, body.get("event_id"), b"")
