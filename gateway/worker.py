"""The media worker: a process that holds the audio of its calls and nothing else. A shell.

    worker
    ├─ link reader, link writer     messages from and to control, one packet each
    ├─ heartbeat                    load and counters, every second
    ├─ media plane                  all sockets of all calls; the playout grid
    └─ calls                        one task each, behind one boundary

Started by control as `python -m gateway.worker --link-fd N`, N being one end of a `SOCK_SEQPACKET` pair.
When that link ends control is gone: calls go on, and what is to be told waits, until a new control process has
found this one (`gateway.lifeline`). If none comes in time, the calls are ended in order, what was to be told is
left in a file for the next one, and the process exits.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import os
import signal
import socket
import statistics
from collections import deque

import trio

from gateway import failpoints, link, scheduling
from gateway.call import Call, CallSurroundings
from gateway.collector import Collector
from gateway.errors import LinkError
from gateway.events import Termination
from gateway.grid import WINDOW_BEATS
from gateway.legs import agent_tls_context, http_client
from gateway.lifeline import Lifeline, is_of_a_call
from gateway.link import (
    AgentSay,
    Attach,
    CallReport,
    Cancel,
    CloseCall,
    Configure,
    Down,
    Drain,
    Drained,
    HangUp,
    Heartbeat,
    HeldCall,
    Prepare,
    Ready,
    Returned,
    ToolResult,
    Up,
)
from gateway.link_writer import LinkWriter
from gateway.mediaplane import MediaPlane
from gateway.realtime import Realtime
from gateway.recorder import Recorder
from gateway.voice import CLOCK_RESYNC_S, Voice, WallClock

PACKETS_PER_PASS = 32
"""Of control's packets, before the rest of the process has its turn."""
HEARTBEAT_S = 1.0
FINAL_WORDS_S = 5.0
"""After the drain deadline: how long what is being said may still take."""


_complain = Voice()


class Worker:
    """The state of the process. `run` is its life."""

    def __init__(self, sock: socket.socket, configure: Configure) -> None:
        self._id = configure.worker_id
        self._settings = configure.settings
        self._raw = sock
        sock.setblocking(False)
        self._writer = LinkWriter(sock, _complain)
        self._calls: dict[str, Call] = {}
        self._plane = MediaPlane(leg_write_max_bytes=configure.settings.leg_write_max_bytes)
        self._recorder = Recorder()
        self._collector = Collector()
        self._realtime = Realtime(_complain)
        self._clock = WallClock()
        self._drain: Drain | None = None
        self._drain_asked = trio.Event()
        self._call_gone = trio.Event()
        self._refused = 0
        self._version = configure.version
        self._lifeline = _lifeline(configure.settings.runtime_dir)

    async def run(self) -> None:
        tls = agent_tls_context()
        self._recorder.start()
        try:
            async with http_client(tls) as http:
                around = CallSurroundings(
                    plane=self._plane,
                    settings=self._settings,
                    http=http,
                    tls=tls,
                    recorder=self._recorder,
                    tell=self._writer.tell,
                    wall_ms=self._clock.ms,
                )
                await self._run_tasks(around)
        finally:
            self._recorder.stop()

    async def _run_tasks(self, around: CallSurroundings) -> None:
        async with trio.open_nursery() as plane_nursery:
            plane_nursery.start_soon(self._plane.run)
            plane_nursery.start_soon(self._writer.run)
            plane_nursery.start_soon(self._beat)
            self._collector.start()
            if self._settings.realtime:
                self._realtime.take()
            self._writer.tell(Ready(self._id, os.getpid()))
            async with trio.open_nursery() as calls:
                calls.start_soon(self._read_link, calls, around)
                await self._drain_asked.wait()
                await self._finish_calls()
                calls.cancel_scope.cancel()
            self._writer.tell(Drained(self._id))
            with trio.move_on_after(2.0):
                await self._writer.flush()
            self._leave()
            plane_nursery.cancel_scope.cancel()

    def _leave(self) -> None:
        """What nobody could be told stays in the runtime directory."""
        if self._lifeline is None:
            return
        self._lifeline.close()
        untold = [message for message in self._writer.untold() if is_of_a_call(message)]
        try:
            failpoints.reach("worker.before_spool")
            left_out = self._lifeline.spool(untold)
            failpoints.reach("worker.spooled")
        except OSError as error:
            _complain("spool_failed", messages=len(untold), error=str(error))
        else:
            if untold:
                _complain("spooled", messages=len(untold) - left_out, left_out=left_out)

    # ---- the link ------------------------------------------------------------------------------

    async def _read_link(self, calls: trio.Nursery, around: CallSurroundings) -> None:
        packets = 0
        while True:
            packets += 1
            if not packets % PACKETS_PER_PASS:
                await trio.lowlevel.checkpoint()
            try:
                packet, fds, _, _ = socket.recv_fds(self._raw, link.PACKET_MAX_BYTES, 4)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._raw)
                continue
            except OSError:
                packet, fds = b"", []
            if not packet:
                if await self._found_again():
                    continue
                # Nobody can prepare, attach or end calls any more.
                self._ask_drain(Drain(timeout_s=0.0))
                return
            try:
                message = link.decode(packet)
            except LinkError as error:
                _complain("link_message_malformed", error=str(error))
                _close_fds(fds)
                continue
            self._handle(message, fds, calls, around)

    async def _found_again(self) -> bool:
        """Control is gone: keep the calls talking until another one is there. False when none came."""
        if self._lifeline is None or self._drain is not None:
            return False
        _complain("control_lost", calls=len(self._calls))
        trio.lowlevel.notify_closing(self._raw)
        self._raw.close()
        self._writer.lose()
        for call in self._calls.values():
            call.forget_tools()
        self._lifeline.turn_away()
        found = await self._lifeline.control(self._settings.control_return_timeout_s)
        if found is None:
            _complain("control_did_not_return", calls=len(self._calls))
            return False
        self._raw, hello = found
        first: list[Up] = [
            HeldCall(call_id, call.bridge.stream_sid is not None, call.plan.turn_offset)
            for call_id, call in self._calls.items()
        ]
        self._writer.find(self._raw, [*first, Returned(self._id, self._version)])
        failpoints.reach("worker.returned")
        _complain("control_returned", level="info", calls=len(first), version=hello.version)
        return True

    def _handle(
        self, message: Down | Up, fds: list[int], calls: trio.Nursery, around: CallSurroundings
    ) -> None:
        match message:
            case Prepare():
                self._prepare(message, calls, around)
            case Attach():
                self._attach(message, fds)
                return
            case Cancel():
                self._end(
                    message.call_id,
                    Termination("cancelled", None, message.reason, hang_up=False),
                )
            case HangUp():
                self._end(
                    message.call_id,
                    Termination(_result_of(message), message.blame, message.reason, True),
                    drain=message.drain,
                )
            case CloseCall():
                if (call := self._calls.get(message.call_id)) is not None:
                    call.close()
            case AgentSay():
                if (call := self._calls.get(message.call_id)) is not None:
                    call.say_to_agent(message.type, message.text)
            case ToolResult():
                if (call := self._calls.get(message.call_id)) is not None:
                    call.tool_result(message.tool_call_id, message.result, message.is_error)
            case Drain():
                self._ask_drain(message)
            case _:
                _complain("link_message_unexpected", kind=type(message).__name__)
        _close_fds(fds)

    def _prepare(self, message: Prepare, calls: trio.Nursery, around: CallSurroundings) -> None:
        plan = message.plan
        if plan.call_id in self._calls:
            _complain("prepare_repeated", call_id=plan.call_id)
            return
        if self._drain is not None or len(self._calls) >= self._settings.max_calls_per_worker:
            self._refused += 1
            self._writer.tell(self._refusal(plan.call_id, plan.twilio_call_sid))
            return
        call = Call(plan, around)
        self._calls[plan.call_id] = call
        failpoints.reach("worker.prepare")
        calls.start_soon(self._supervise, call, name=f"call {plan.call_id}")

    def _refusal(self, call_id: str, call_sid: str | None) -> CallReport:
        return CallReport(
            call_id=call_id,
            result="gateway_fault",
            blame="gateway",
            reason="worker is draining" if self._drain is not None else "worker is full",
            at_ms=self._clock.ms(trio.current_time()),
            attached=False,
            conversation_id=None,
            stream_sid=None,
            twilio_call_sid=call_sid,
            media={},
            legs={},
        )

    def _attach(self, message: Attach, fds: list[int]) -> None:
        call = self._calls.get(message.call_id)
        if call is None or len(fds) != 1:
            # The call ended a moment ago; a closed socket sends Twilio to the verbs behind the stream.
            _close_fds(fds)
            return
        failpoints.reach("worker.attach")
        call.attach(socket.socket(fileno=fds[0]), base64.b64decode(message.head))

    def _end(self, call_id: str, termination: Termination, *, drain: bool = False) -> None:
        if (call := self._calls.get(call_id)) is not None:
            (call.drain if drain else call.hang_up)(termination)

    # ---- the boundary around a call ------------------------------------------------------------

    async def _supervise(self, call: Call) -> None:
        """The other broad `except` of this package: a bug in one call's task costs that call only."""
        call_id = call.plan.call_id
        try:
            await call.run()
        except Exception as error:  # noqa: BLE001
            bug = _innermost(error)
            _complain("call_crashed", level="error", call_id=call_id, error=repr(bug))
            self._writer.tell(self._last_word(call, f"internal error: {type(bug).__name__}"))
        except trio.Cancelled:
            # The worker goes although this call has not ended in time; control is told all the same.
            self._writer.tell(self._last_word(call, "worker stopped before the call had ended"))
            raise
        finally:
            self._calls.pop(call_id, None)
            call.let_go()
            self._collector.ended()
            self._call_gone.set()

    def _last_word(self, call: Call, reason: str) -> CallReport:
        """The report of a call that cannot make its own; it asks nothing that may raise."""
        refusal = self._refusal(call.plan.call_id, call.bridge.call_sid)
        return dataclasses.replace(
            refusal,
            reason=reason,
            attached=call.bridge.stream_sid is not None,
            conversation_id=call.bridge.conversation_id,
            stream_sid=call.bridge.stream_sid,
        )

    # ---- heartbeat and drain -------------------------------------------------------------------

    async def _beat(self) -> None:
        due_s = trio.current_time()
        late_ms: deque[float] = deque(maxlen=WINDOW_BEATS)
        while True:
            now_s = trio.current_time()
            late_ms.append((now_s - due_s) * 1000.0)
            if now_s - due_s >= HEARTBEAT_S:
                due_s = now_s  # the process was stopped: nothing is to be caught up with
            if now_s % CLOCK_RESYNC_S < HEARTBEAT_S:
                self._clock.sync()
            counters: dict[str, int | float] = self._plane.report()
            # The loop's own lateness, which is there without calls, too. One hiccup is no state: the median.
            counters["loop_lag_ms"] = round(statistics.median_low(late_ms), 3)
            counters["link_dropped_events"] = self._writer.dropped_events
            counters["refused"] = self._refused
            timings = self._plane.timings()
            self._writer.tell(Heartbeat(self._id, len(self._calls), counters, timings))
            due_s += HEARTBEAT_S
            self._collector.beat(len(self._calls))
            self._realtime.beat(now_s)
            await trio.sleep_until(due_s)

    def _ask_drain(self, drain: Drain) -> None:
        self._drain = drain
        self._drain_asked.set()

    async def _finish_calls(self) -> None:
        """Let calls end by themselves, then let each finish its sentence, then end what is left."""
        assert self._drain is not None
        await self._all_gone_within(self._drain.timeout_s)
        leaving = Termination("drained", "gateway", "gateway is shutting down", hang_up=True)
        for call in list(self._calls.values()):
            call.drain(leaving)
        await self._all_gone_within(FINAL_WORDS_S if self._drain.timeout_s else 0.0)
        for call in list(self._calls.values()):
            call.hang_up(leaving)
            call.close()
        await self._all_gone_within(FINAL_WORDS_S)

    async def _all_gone_within(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while self._calls:
                self._call_gone = trio.Event()
                await self._call_gone.wait()


def _result_of(order: HangUp) -> str:
    if order.hand_over:
        return "handed_over"
    if order.blame is None:
        return "completed"
    return "policy" if order.blame == "policy" else f"{order.blame}_fault"


def _innermost(error: Exception) -> Exception:
    """The one exception that a nursery has wrapped, or the group when there are several."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _close_fds(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _lifeline(folder: str) -> Lifeline | None:
    if not folder:
        return None
    try:
        return Lifeline(folder)
    except OSError as error:
        _complain("runtime_dir_unusable", error=str(error))
        return None


def main(argv: list[str] | None = None) -> None:
    """Entry of the process: wait for `Configure`, then run until drained."""
    parser = argparse.ArgumentParser(prog="gateway.worker")
    parser.add_argument("--link-fd", type=int, required=True)
    arguments = parser.parse_args(argv)
    # Control decides when a worker ends; a Ctrl-C in the terminal reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Control gives way to audio; a worker started later inherits that.
    scheduling.prefer_audio()
    sock = socket.socket(fileno=arguments.link_fd)
    sock.setblocking(True)
    packet = sock.recv(link.PACKET_MAX_BYTES)
    if not packet:
        return
    configure = link.decode(packet)
    if not isinstance(configure, Configure):
        raise LinkError("the first message must be Configure")
    sock.setblocking(False)
    _complain.configure(configure.log_format)
    trio.run(_run, sock, configure)


async def _run(sock: socket.socket, configure: Configure) -> None:
    await Worker(sock, configure).run()


if __name__ == "__main__":
    main()
