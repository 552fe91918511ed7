"""One call's own task: everything that waits. A shell.

    dial the agent leg ─┐
    wait for the stream ├─ talk ─ ending: tell control, wait for its word ─ close ─ report
    deadlines ──────────┘

The media plane drives the bridge; this task only opens, waits and closes. Whatever goes wrong ends this call
with a report and no other.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

import httpcore
import orjson
import trio

from gateway import failpoints
from gateway.bridge import Bridge
from gateway.errors import LegError
from gateway.events import (
    AgentLost,
    AgentReady,
    Finished,
    Note,
    StreamStarted,
    Termination,
    ToolCall,
    Turn,
)
from gateway.legs import OpenLeg, open_agent_leg, upgrade_caller
from gateway.link import (
    CallEvent,
    CallPlan,
    CallReport,
    Ending,
    ToolRequest,
    TranscriptTurn,
    Up,
)
from gateway.mediaplane import MediaPlane
from gateway.planecall import Nobody
from gateway.recorder import CallTap, Recorder
from gateway.redial import Redialer
from gateway.settings import MediaSettings

ENDING_TIMEOUT_S = 15.0
"""How long control may take to end the telephone call before we close the socket without its word."""
RECORDING_TIMEOUT_S = 5.0
RECORDING_WAITS_MAX = 200
"""Calls that wait for the disk at once, each in a thread; the next ones wait for these."""
TOOLS_MAX = 8
"""Tool calls of one conversation that may wait for control at once."""
TOOL_UNKNOWN = "the gateway was restarted; whether this was done is not known"
TOOL_PARAMETERS_MAX_BYTES = 32 * 1024
"""Well below a packet of the link, also when every character has to be escaped once more."""


_recording_waits = trio.CapacityLimiter(RECORDING_WAITS_MAX)
"""Not Trio's own threads: in these the names of agents' hosts are resolved, and a disk that hangs would hold up new calls."""


@dataclass(frozen=True, slots=True)
class CallSurroundings:
    """What every call of a worker shares."""

    plane: MediaPlane
    settings: MediaSettings
    http: httpcore.AsyncConnectionPool
    tls: ssl.SSLContext
    recorder: Recorder
    tell: Callable[[Up], None]
    """Queue a message to control; never waits."""
    wall_ms: Callable[[float], int]
    """Trio's clock to Unix milliseconds."""


class Call:
    """A call from `Prepare` to `CallReport`. `run` is its task; the other methods are commands."""

    def __init__(self, plan: CallPlan, around: CallSurroundings) -> None:
        self.plan = plan
        self._around = around
        self._tap = CallTap(around.recorder, plan.recording_path) if plan.recording_path else None
        self.bridge = Bridge(plan, around.settings, self._tap, around.plane.pace)
        self._plane_call = around.plane.add(self.bridge, self)
        self._attached = trio.Event()
        self._started = trio.Event()
        self._agent_ready = trio.Event()
        self._leg_gone = trio.Event()
        self._finished = trio.Event()
        self._may_close = trio.Event()
        self._was_attached = False
        self._ended_s = 0.0
        self._marks: dict[str, float] = {}
        self._tools: set[str] = set()
        self._redialer = Redialer(
            around.settings, self.bridge, self._open_agent, self._redial_note, self._command
        )
        self._termination: Termination | None = None
        self._nameless_legs = 0
        """Agent legs that were begun, less those of which ElevenLabs has named the conversation."""

    # ---- commands (synchronous) ----------------------------------------------------------------

    def attach(self, sock: socket.socket, head: bytes) -> None:
        """The media stream has come: answer its upgrade and join it to the bridge."""
        if self._was_attached or self._finished.is_set():
            sock.close()
            return
        try:
            leg = upgrade_caller(sock, head)
        except LegError as error:
            sock.close()
            reason = error.reason
            self._command(lambda now_s: self.bridge.caller_failed(reason, now_s))
            return
        self._was_attached = True
        self._attached.set()
        self._around.plane.adopt_caller(self._plane_call, leg.sock, leg.rest)

    def hang_up(self, termination: Termination) -> None:
        """End now. Nothing happens when the call is over already."""
        self._command(lambda now_s: self.bridge.hang_up(termination, now_s))

    def drain(self, termination: Termination) -> None:
        """End as soon as the caller has heard what was said so far."""
        self._command(lambda now_s: self.bridge.drain(termination, now_s))

    def say_to_agent(self, kind: str, text: str) -> None:
        self._command(lambda _now_s: self.bridge.say_to_agent(kind, text))

    def close(self) -> None:
        """Control's word that Twilio knows: the sockets may go."""
        self._may_close.set()

    def _command(self, step: Callable[[float], None]) -> None:
        """A step of the bridge from outside of the media plane; what it raises ends this call only."""
        self._around.plane.command(self._plane_call, step)

    # ---- what the media plane tells ------------------------------------------------------------

    def on_events(self) -> None:
        """Called by the media plane, synchronously; everything in here only queues."""
        events = self.bridge.events
        self.bridge.events = []
        for event in events:
            match event:
                case Note():
                    self._note(event.name, event.at_s, event.data)
                case Turn():
                    self._around.tell(
                        TranscriptTurn(
                            self.plan.call_id,
                            event.number,
                            event.role,
                            event.text,
                            self._around.wall_ms(event.at_s),
                            event.heard,
                            event.interrupted,
                            None
                            if event.heard_from_s is None
                            else self._around.wall_ms(event.heard_from_s),
                            list(event.word_ms),
                        )
                    )
                case StreamStarted():
                    self._started.set()
                case ToolCall():
                    self._ask_tool(event)
                case Finished():
                    self._ended_s = event.at_s
                    self._termination = event.termination
                    self._finished.set()
                case AgentReady():
                    self._nameless_legs -= 1
                    self._agent_ready.set()
                    self._redialer.on_ready()
                case AgentLost():
                    self._tools.clear()  # of a conversation that is over
                    self._around.plane.drop_agent(self._plane_call)
                    self._redialer.on_lost(event)

    def _ask_tool(self, call: ToolCall) -> None:
        """Control runs the tool. What cannot be asked is answered here, or the agent waits in dead air."""
        why = self._why_not(call)
        if why:
            self._note(
                "tool_refused", trio.current_time(), {"tool": call.tool_name[:100], "why": why}
            )
            if call.expects_response:
                self._answer_tool(
                    call.tool_call_id, f"{call.tool_name[:100]}: {why}", is_error=True
                )
            return
        if call.expects_response:
            self._tools.add(call.tool_call_id)
        self._around.tell(
            ToolRequest(
                self.plan.call_id,
                call.tool_call_id,
                call.tool_name,
                call.parameters,
                call.expects_response,
                self._around.wall_ms(trio.current_time()),
            )
        )

    def _why_not(self, call: ToolCall) -> str:
        if call.tool_call_id in self._tools or len(self._tools) >= TOOLS_MAX:
            return "too many tools are running"
        names = len(call.tool_name) + len(call.tool_call_id)
        if names + len(orjson.dumps(call.parameters)) > TOOL_PARAMETERS_MAX_BYTES:
            return "the parameters are too long"
        return ""

    def tool_result(self, tool_call_id: str, result: str, is_error: bool) -> None:
        """Control's answer; one that nobody waits for is dropped."""
        if tool_call_id in self._tools:
            self._tools.discard(tool_call_id)
            self._answer_tool(tool_call_id, result, is_error=is_error)

    def forget_tools(self) -> None:
        """Control is gone with them: the agent shall not wait for answers that nobody will give."""
        for tool_call_id in list(self._tools):
            self.tool_result(tool_call_id, TOOL_UNKNOWN, is_error=True)

    def _answer_tool(self, tool_call_id: str, result: str, *, is_error: bool) -> None:
        self._command(
            lambda _now_s: self.bridge.tool_result(tool_call_id, result, is_error=is_error)
        )

    def on_leg_gone(self) -> None:
        """A socket of this call was closed."""
        self._leg_gone.set()

    def on_crash(self, error: Exception) -> None:
        """A bug of ours in this call's bridge: its sockets are closed already."""
        now_s = trio.current_time()
        self._note("error", now_s, {"leg": "gateway", "reason": _describe(error)})
        if self._termination is None:
            self._ended_s = now_s
            self._termination = Termination(
                "gateway_fault", "gateway", f"internal error: {_describe(error)}", False
            )
        self._finished.set()

    def _note(self, name: str, at_s: float, data: dict[str, Any]) -> None:
        self._marks.setdefault(name, at_s)
        self._around.tell(CallEvent(self.plan.call_id, name, self._around.wall_ms(at_s), data))

    # ---- the story -----------------------------------------------------------------------------

    async def run(self) -> None:
        """From warming the agent leg to the report. Raises nothing but what a bug raises."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._dial_agent)
                nursery.start_soon(self._expect_stream)
                nursery.start_soon(self._redialer.run)
                with trio.move_on_after(self.plan.max_call_s) as lifetime:
                    await self._finished.wait()
                if lifetime.cancelled_caught:
                    self.hang_up(Termination("completed", None, "maximum duration reached", True))
                nursery.cancel_scope.cancel()
            await self._end()
        finally:
            self._around.plane.remove(self._plane_call)
            if self._tap is not None:
                self._tap.finish(
                    self._ended_s or trio.current_time()
                )  # does nothing the second time

    def let_go(self) -> None:
        """After `run`, when nothing more is asked of this call: it takes itself out of the rings that it is in.

        What goes round in a ring is left to the garbage collector, and that stops all other calls while it looks.
        """
        self._plane_call.observer = Nobody()
        del self._redialer

    async def _dial_agent(self) -> None:
        self._note("agent_dialing", trio.current_time(), {})
        try:
            await self._open_agent()
        except LegError as error:
            self._agent_failed(str(error).removeprefix("agent leg: "))
            return
        with trio.move_on_after(self._around.settings.agent_first_message_timeout_s):
            await self._agent_ready.wait()
            return
        self._agent_failed("sent no conversation metadata in time")

    async def _open_agent(self) -> None:
        """Dial an agent leg and join it to the bridge. Raises LegError."""
        around = self._around
        leg = await open_agent_leg(
            self.plan, around.settings, around.http, around.tls, self._dialing_note
        )
        is_first = self.bridge.conversation_id is None
        if self._finished.is_set() or not (is_first or self.bridge.is_without_agent):
            leg.sock.close()  # the call ended in the instant in which its agent was there
        else:
            self._join_agent(leg)

    def _redial_note(self, name: str, data: dict[str, Any]) -> None:
        self._note(name, trio.current_time(), data)

    def _dialing_note(self, name: str) -> None:
        self._note(name, trio.current_time(), {})

    def _join_agent(self, leg: OpenLeg) -> None:
        self._note("agent_connected", trio.current_time(), {})
        self._nameless_legs += 1
        self._around.plane.adopt_agent(self._plane_call, leg.sock, leg.rest)

    def _agent_failed(self, reason: str) -> None:
        self._command(lambda now_s: self.bridge.agent_failed(reason, now_s))

    async def _expect_stream(self) -> None:
        """The stream has to come, and to start, in time; the agent costs money while it waits."""
        with trio.move_on_after(self.plan.attach_timeout_s):
            await self._attached.wait()
        if not self._attached.is_set():
            self.hang_up(
                Termination("cancelled", "twilio", "no media stream came for the call", False)
            )
            return
        with trio.move_on_after(self._around.settings.stream_start_timeout_s):
            await self._started.wait()
            return
        self._command(lambda now_s: self.bridge.caller_failed("sent no `start` in time", now_s))

    async def _end(self) -> None:
        """Two steps: the telephone call is ended first (by control), then our socket is closed.

        In the other order Twilio would go on with the verbs behind the stream and apologise after a
        perfectly good call.
        """
        termination = self._termination or Termination(
            "gateway_fault", "gateway", "ended without a reason", False
        )
        hang_up = termination.hang_up and self._was_attached and self._plane_call.caller is not None
        self._around.tell(
            Ending(
                self.plan.call_id,
                termination.result,
                termination.blame,
                termination.reason,
                self._around.wall_ms(self._ended_s),
                hang_up,
            )
        )
        failpoints.reach("worker.ending")
        if hang_up:
            with trio.move_on_after(ENDING_TIMEOUT_S):
                await self._may_close.wait()
        await self._close_legs()
        if self._tap is not None:
            await self._finish_recording(self._tap)
        failpoints.reach("worker.report")
        self._around.tell(self._report(termination))

    async def _close_legs(self) -> None:
        if self._plane_call.is_gone:
            return
        self._command(self.bridge.close)
        # The peers answer the closing handshake and hang up; whoever does not is cut off.
        with trio.move_on_after(self._around.settings.close_timeout_s):
            while self._plane_call.caller is not None or self._plane_call.agent is not None:
                self._leg_gone = trio.Event()
                await self._leg_gone.wait()

    async def _finish_recording(self, tap: CallTap) -> None:
        tap.finish(self._ended_s)
        # A thread waits here, never the event loop: the disk may be slow, and the file must be whole
        # before anybody is told of it.
        wait = partial(tap.finished.wait, RECORDING_TIMEOUT_S)
        await trio.to_thread.run_sync(wait, limiter=_recording_waits)

    def _report(self, termination: Termination) -> CallReport:
        bridge = self.bridge
        media = bridge.report()
        media["agent_redials"] = self._redialer.count
        media["uplink_latency_ms"] = self._plane_call.uplink_latency.report()
        media["clear_latency_ms"] = self._plane_call.clear_latency.report()
        media["caller_write_peak_bytes"] = self._plane_call.caller_peak_bytes
        media["agent_write_peak_bytes"] = self._plane_call.agent_peak_bytes
        return CallReport(
            call_id=self.plan.call_id,
            result=termination.result,
            blame=termination.blame,
            reason=termination.reason,
            at_ms=self._around.wall_ms(self._ended_s),
            attached=self._was_attached,
            conversation_id=bridge.conversation_id,
            stream_sid=bridge.stream_sid,
            twilio_call_sid=bridge.call_sid,
            media=media,
            legs=self._legs_report(),
            recording=self._recording_report(),
        )

    def _legs_report(self) -> dict[str, Any]:
        marks = {name: self._around.wall_ms(at_s) for name, at_s in self._marks.items()}
        return {
            "caller": {
                "stream_sid": self.bridge.stream_sid,
                "attached_at_ms": marks.get("stream_attached"),
                "started_at_ms": marks.get("stream_started"),
                "closed_at_ms": marks.get("caller_closed") or marks.get("caller_stopped"),
            },
            "agent": {
                "conversation_id": self.bridge.conversation_id,
                "earlier_conversation_ids": self.bridge.earlier_conversations,
                "is_unnamed": self._nameless_legs > 0,
                "formats": self.bridge.formats,
                "dialed_at_ms": marks.get("agent_dialing"),
                "connected_at_ms": marks.get("agent_connected"),
                "ready_at_ms": marks.get("agent_ready"),
                "first_audio_at_ms": marks.get("agent_first_audio"),
                "closed_at_ms": marks.get("agent_closed"),
            },
        }

    def _recording_report(self) -> dict[str, Any] | None:
        if self._tap is None or not self._tap.has_started:
            return None
        report: dict[str, Any] = dict(self._tap.report())
        report["name"] = PurePath(self._tap.path).name
        return report


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
