"""The worker in this process, with a link whose other end is ours."""

import contextlib
import dataclasses
import gc
import socket
import threading
import weakref

import pytest
import trio
import trio.testing

from gateway import link, link_writer
from gateway import worker as worker_module
from gateway.bridge import Bridge
from gateway.call import TOOL_PARAMETERS_MAX_BYTES, TOOLS_MAX, Call
from gateway.events import ToolCall
from gateway.link import (
    AgentSay,
    CallEvent,
    CallPlan,
    CallReport,
    Configure,
    Drain,
    Drained,
    Ending,
    HangUp,
    Heartbeat,
    Prepare,
    Ready,
    ToolRequest,
    ToolResult,
    TranscriptTurn,
)
from gateway.link_writer import LinkWriter
from gateway.settings import MediaSettings
from gateway.voice import Voice
from gateway.worker import Worker


def seqpacket_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def receive(sock: socket.socket):
    while True:
        await trio.lowlevel.wait_readable(sock)
        with contextlib.suppress(BlockingIOError):
            return link.decode(sock.recv(link.PACKET_MAX_BYTES))


async def until(sock: socket.socket, kind: type):
    with trio.fail_after(30):
        while True:
            message = await receive(sock)
            if isinstance(message, kind):
                return message


def event(n: int, **data: object) -> CallEvent:
    return CallEvent("call_1", str(n), n, data)


REPORT = CallReport("call_1", "completed", None, "ok", 1, True, None, None, None, {}, {})

# ---- the writer of the link ----------------------------------------------------------------------


@pytest.fixture
def ends():
    worker_end, control_end = seqpacket_pair()
    worker_end.setblocking(False)
    with worker_end, control_end:
        yield worker_end, control_end


async def test_link_writer_flushed_by_two_tasks_sends_each_message_once_in_order(ends):
    """The last flush before the exit meets the writer's own."""
    worker_end, control_end = ends
    writer = LinkWriter(worker_end, Voice())
    messages = [event(n) for n in range(50)] + [REPORT, Drained("w1")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        for message in messages:
            writer.tell(message)
        await writer.flush()
        nursery.cancel_scope.cancel()
    with trio.fail_after(30):
        assert [await receive(control_end) for _ in messages] == messages
    with pytest.raises(BlockingIOError):
        control_end.recv(1)


async def test_link_writer_forgets_what_control_has_surely_written_down(ends, autojump_clock):
    """Only the newest seconds are told again after a kill: the rest would be kept for a day's calls."""
    worker_end, control_end = ends
    writer = LinkWriter(worker_end, Voice())
    for n in range(6):
        writer.tell(event(n))
        await writer.flush()
        await trio.sleep(link_writer.RETOLD_S / 4)
    writer.tell(Heartbeat("w1", 0, {}))
    await writer.flush()
    assert len(writer._sent) == 4
    writer.lose()
    assert writer.untold() == [event(n) for n in range(2, 6)]
    control_end.close()


@pytest.mark.parametrize(
    "details",
    [
        {"reason": "x" * 500_000},
        {"conversation_id": "\0" * 60_000, "stream_sid": "\0" * 60_000},
        {"media": {"count": 2**80}},
        {"reason": "\ud800"},
    ],
    ids=["long", "escaped", "huge_number", "no_utf8"],
)
async def test_report_that_does_not_fit_is_sent_without_its_details(ends, details, capfd):
    """Control must hear of the end of every call, whatever a peer made of it."""
    worker_end, control_end = ends
    writer = LinkWriter(worker_end, Voice())
    report = dataclasses.replace(REPORT, **details)
    writer.tell(report)
    writer.tell(Drained("w1"))
    await writer.flush()
    came = await until(control_end, CallReport)
    assert (came.call_id, came.result, came.media) == ("call_1", "completed", {})
    assert report.reason.startswith(came.reason[:5].rstrip("?"))
    await until(control_end, Drained)
    assert "link_message_shortened" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("agent", "kept"),
    [
        ({"is_unnamed": True, "formats": ["x"]}, {"agent": {"is_unnamed": True}}),
        (
            {"is_unnamed": False, "earlier_conversation_ids": ["conv_1"]},
            {"agent": {"is_unnamed": True}},
        ),
        ({"is_unnamed": False, "earlier_conversation_ids": []}, {}),
        (None, {}),
    ],
    ids=["unnamed", "cut", "all_named", "no_agent"],
)
async def test_report_that_does_not_fit_still_tells_that_a_conversation_is_missing(
    ends, agent, kept
):
    """Or else the record would pass for complete and nobody would look for what was charged."""
    worker_end, control_end = ends
    writer = LinkWriter(worker_end, Voice())
    legs = {"caller": {}} if agent is None else {"agent": agent}
    writer.tell(dataclasses.replace(REPORT, reason="x" * 500_000, legs=legs))
    await writer.flush()
    assert (await until(control_end, CallReport)).legs == kept


def test_link_queue_drops_timeline_first_and_the_end_of_a_call_never(ends, monkeypatch):
    """Every queue has a bound and an order in which things go."""
    monkeypatch.setattr(link_writer, "LINK_QUEUE_MAX", 10)
    writer = LinkWriter(ends[0], Voice())
    for n in range(12):
        writer.tell(event(n))
    assert writer.dropped_events == 2
    for n in range(12):
        writer.tell(TranscriptTurn("call_1", n, "user", "hello", n))
    assert writer.dropped_events == 4
    writer.tell(REPORT)
    assert writer.dropped_events == 4
    assert len(writer._queue) == 21


# ---- whole workers -------------------------------------------------------------------------------


class Rig:
    def __init__(self, sock: socket.socket) -> None:
        self.link = sock
        self.agent = socket.create_server(("127.0.0.1", 0))  # takes connections and says nothing

    def send(self, message: link.Down) -> None:
        self.link.send(link.encode(message))

    def plan(self, call_id: str, **changes: object) -> CallPlan:
        plan = CallPlan(
            call_id,
            "inbound",
            f"http://127.0.0.1:{self.agent.getsockname()[1]}",
            "key",
            "agent_1",
        )
        return dataclasses.replace(plan, **changes)

    async def prepare(self, call_id: str, **changes: object) -> None:
        self.send(Prepare(self.plan(call_id, **changes)))
        while (await until(self.link, CallEvent)).call_id != call_id:
            pass


@pytest.fixture
async def rig(nursery):
    """A running worker whose calls hang in the dialling of their agent."""
    worker_end, control_end = seqpacket_pair()
    worker_end.setblocking(False)
    settings = MediaSettings(agent_handshake_timeout_s=60.0, close_timeout_s=0.1)
    stage = Rig(control_end)
    thresholds = gc.get_threshold()
    with worker_end, control_end, stage.agent:
        async with trio.open_nursery() as own:
            own.start_soon(Worker(worker_end, Configure("w1", settings)).run)
            await until(control_end, Ready)
            yield stage
            own.cancel_scope.cancel()
    gc.unfreeze()  # the worker freezes what it finds, and that was the test's
    gc.set_threshold(*thresholds)


@pytest.mark.parametrize(
    ("method", "command"),
    [
        ("hang_up", HangUp("call_1", "asked to")),
        ("say_to_agent", AgentSay("call_1", "user_message", "hello")),
    ],
)
async def test_command_that_raises_ends_its_own_call_only(rig, monkeypatch, method, command):
    """A bug in one bridge, met by the link's reader, must not take the worker's other calls with it."""
    await rig.prepare("call_1")
    await rig.prepare("call_2")

    def bug(self, *_: object) -> None:
        raise RuntimeError("bug")

    with monkeypatch.context() as patch:
        patch.setattr(Bridge, method, bug)
        rig.send(command)
        report = await until(rig.link, CallReport)
    assert (report.call_id, report.result) == ("call_1", "gateway_fault")
    assert "RuntimeError" in report.reason
    rig.send(HangUp("call_2", "done"))
    report = await until(rig.link, CallReport)
    assert (report.call_id, report.result) == ("call_2", "completed")


async def test_call_whose_report_raises_is_still_reported(rig, monkeypatch):
    """The last message of a call comes from whoever is left to send it."""

    def bug(self) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Bridge, "report", bug)
    await rig.prepare("call_1")
    rig.send(HangUp("call_1", "done"))
    report = await until(rig.link, CallReport)
    assert (report.call_id, report.result) == ("call_1", "gateway_fault")
    assert report.reason == "internal error: ZeroDivisionError"


async def test_call_that_does_not_end_in_time_is_reported_before_drained(rig, monkeypatch):
    """A worker that is told to go tells of every call first."""
    monkeypatch.setattr(worker_module, "FINAL_WORDS_S", 0.05)

    async def never(self) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("gateway.call.Call._end", never)
    await rig.prepare("call_1")
    rig.send(Drain(0.0))
    report = await until(rig.link, CallReport)
    assert report.call_id == "call_1"
    assert "stopped" in report.reason
    await until(rig.link, Drained)


async def test_call_that_has_ended_leaves_nothing_to_the_collector(rig, monkeypatch):
    """A full collection stops all calls: it must not have to be made because of those that come and go."""
    calls = []
    real_run = Call.run

    async def run(call: Call) -> None:
        calls.append(weakref.ref(call))
        await real_run(call)

    monkeypatch.setattr(Call, "run", run)
    gc.disable()
    try:
        await rig.prepare("call_1")
        rig.send(HangUp("call_1", "asked to"))
        await until(rig.link, CallReport)
        await trio.testing.wait_all_tasks_blocked()
        assert [call() for call in calls] == [None]
    finally:
        gc.enable()


async def test_drain_ends_calls_in_order(rig):
    """Ending, report, drained; what comes afterwards is refused."""
    await rig.prepare("call_1")
    rig.send(Drain(0.0))
    ending = await until(rig.link, Ending)
    assert (ending.result, ending.hang_up) == ("drained", False)
    assert (await until(rig.link, CallReport)).result == "drained"
    await until(rig.link, Drained)


async def test_handed_over_call_says_so_to_control(rig):
    """Its result tells control to let the telephone call go on, however the talk is ended."""
    for call_id, drain in (("call_1", True), ("call_2", False)):
        await rig.prepare(call_id)
        rig.send(HangUp(call_id, "handed over", drain=drain, hand_over=True))
        ending = await until(rig.link, Ending)
        assert (ending.call_id, ending.result, ending.blame) == (call_id, "handed_over", None)
        assert (await until(rig.link, CallReport)).result == "handed_over"


async def test_crashed_call_closes_its_recording(rig, monkeypatch, tmp_path):
    """No file stays open behind a bug."""
    taps = []
    finish = worker_module.Call._finish_recording

    async def bug(self, tap) -> None:
        taps.append(tap)
        tap.start(trio.current_time())
        raise RuntimeError("bug")

    assert finish is not None
    monkeypatch.setattr("gateway.call.Call._finish_recording", bug)
    await rig.prepare("call_1", recording_path=str(tmp_path / "a.wav"))
    rig.send(HangUp("call_1", "done"))
    await until(rig.link, CallReport)
    assert await trio.to_thread.run_sync(taps[0].finished.wait, 30)
    assert taps[0].file is None


async def test_calls_that_wait_for_a_hanging_disk_keep_no_thread_from_others():
    """Trio's own threads resolve the names of agents' hosts: new calls must not wait behind recordings."""

    class Tap:
        finished = threading.Event()

        def finish(self, _at_s: float) -> None:
            """The disk hangs: nothing is ever finished."""

    call = object.__new__(Call)
    call._ended_s = 0.0
    threads = int(trio.to_thread.current_default_thread_limiter().total_tokens)
    async with trio.open_nursery() as ending:
        for _ in range(threads):
            ending.start_soon(call._finish_recording, Tap())
        await trio.testing.wait_all_tasks_blocked()
        assert not Tap.finished.is_set()
        borrowed = trio.to_thread.current_default_thread_limiter().borrowed_tokens
        Tap.finished.set()
    assert borrowed == 0


# ---- tools of the agent --------------------------------------------------------------------------


@pytest.fixture
async def tools(rig, monkeypatch):
    """A call whose agent asks for tools by `ask(...)`; `answers` are what goes back to it."""
    made: list[Call] = []
    answers: list[tuple[str, str, bool]] = []

    class Watched(Call):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    def note(self, tool_call_id, result, *, is_error):
        answers.append((tool_call_id, result, is_error))

    monkeypatch.setattr(worker_module, "Call", Watched)
    monkeypatch.setattr(Bridge, "tool_result", note)
    await rig.prepare("call_1")

    def ask(tool_call_id, parameters=None, *, expects_response=True):
        asked = ToolCall("opt_out", tool_call_id, parameters or {}, expects_response)
        made[0].bridge.events.append(asked)
        made[0].on_events()

    return rig, ask, answers


async def test_tool_call_goes_to_control_and_its_answer_back_once(tools):
    """Control is asked; its answer reaches the agent; a second answer, or a stray one, does not."""
    rig, ask, answers = tools
    ask("tool_1", {"reason": "enough"})
    asked = await until(rig.link, ToolRequest)
    assert (asked.call_id, asked.name, asked.parameters) == (
        "call_1",
        "opt_out",
        {"reason": "enough"},
    )
    for name in ("tool_0", "tool_1", "tool_1"):
        rig.send(ToolResult("call_1", name, "done", False))
    rig.send(HangUp("call_1", "done"))
    await until(rig.link, CallReport)
    assert answers == [("tool_1", "done", False)]


async def test_tool_calls_beyond_the_bound_are_answered_with_an_error_at_once(tools):
    """An agent that asks without end gets no queue, and no dead air either."""
    _, ask, answers = tools
    ask("long", {"text": "x" * TOOL_PARAMETERS_MAX_BYTES})
    ask("unheard", {"text": "x" * TOOL_PARAMETERS_MAX_BYTES}, expects_response=False)
    assert answers == [("long", "opt_out: the parameters are too long", True)]
    for number in range(TOOLS_MAX + 1):
        ask(f"tool_{number}")
    assert answers[1:] == [(f"tool_{TOOLS_MAX}", "opt_out: too many tools are running", True)]
