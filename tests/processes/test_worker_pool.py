"""Real worker processes, real sockets: a call prepared, attached, talked through and ended."""

import base64
import contextlib
import dataclasses
import json
import os
import signal
import socket
import sys
import wave

import pytest
import trio
from trio_websocket import ConnectionClosed, wrap_client_stream

from bench.sim_elevenlabs import AgentScript, ElevenLabsSim, Faults, RestFaults, Utterance
from control.metrics import MEASURED, Metrics
from control.workers import PoolFull, WorkerGone, WorkerLost, WorkerPool
from gateway.link import CallEvent, CallPlan, CallReport, Ending, Ready
from gateway.settings import MediaSettings

CALL_SID = "CA" + "1" * 32
STREAM_SID = "MZ" + "2" * 32
SETTINGS = MediaSettings(
    workers=1,
    agent_connect_timeout_s=1.0,
    agent_handshake_timeout_s=1.0,
    agent_first_message_timeout_s=1.0,
    stream_start_timeout_s=1.0,
    close_timeout_s=1.0,
)
AGENTS = {
    "good": AgentScript(first_message=Utterance.of("agent_goodbye"), response_latency_s=0.05),
    "short": AgentScript(first_message=Utterance.of("agent_hold"), end_call_after_reply=0),
    "upgrade_401": AgentScript(faults=Faults(refuse_upgrade=401)),
    "upgrade_429": AgentScript(faults=Faults(refuse_upgrade=429)),
    "hang": AgentScript(faults=Faults(hang_upgrade=True)),
    "silent": AgentScript(faults=Faults(silent=True)),
    "garbage": AgentScript(faults=Faults(first_frame="not_json")),
    "broken": AgentScript(faults=Faults(first_frame="broken_frame")),
    "url_401": AgentScript(rest=RestFaults(signed_url_status=401)),
    "url_429": AgentScript(rest=RestFaults(signed_url_status=429)),
    "url_garbage": AgentScript(rest=RestFaults(signed_url_garbage=True)),
    "url_slow": AgentScript(rest=RestFaults(signed_url_delay_s=30.0)),
    "reset": AgentScript(
        first_message=Utterance.of("agent_goodbye"), faults=Faults(drop_after_s=0.5)
    ),
}


class Rig:
    """A pool, a simulated ElevenLabs, and a caller's side of the media socket."""

    def __init__(self, pool: WorkerPool, sim: ElevenLabsSim) -> None:
        self.pool = pool
        self.sim = sim
        self.nursery: trio.Nursery
        self.seen: list[object] = []
        self.streams: list = []
        self.tcp: list[trio.SocketStream] = []

    def plan(self, call_id: str, agent: str = "good", **changes: object) -> CallPlan:
        plan = CallPlan(
            call_id=call_id,
            direction="inbound",
            elevenlabs_base_url=self.sim.base_url,
            elevenlabs_api_key="key",
            elevenlabs_agent_id=agent,
            twilio_call_sid=CALL_SID,
            attach_timeout_s=5.0,
        )
        return dataclasses.replace(plan, **changes)

    async def until(self, kind: type, call_id: str = "", name: str = ""):
        """The next event of a kind (and name) of a call."""
        while True:
            event = await self.pool.events.receive()
            self.seen.append(event)
            if not isinstance(event, kind) or (call_id and event.call_id != call_id):
                continue
            if not name or event.name == name:
                return event

    async def open_stream(self, call_id: str):
        """Connect like Twilio does; the accepted socket goes to the worker as a descriptor."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        tcp = await trio.open_tcp_stream("127.0.0.1", port)
        self.tcp.append(tcp)
        opened: list = []

        async def connect() -> None:
            opened.append(
                await wrap_client_stream(
                    self.nursery, tcp, f"127.0.0.1:{port}", "/media/t", message_queue_size=100
                )
            )

        async with trio.open_nursery() as connecting:
            connecting.start_soon(connect)
            accepted, _ = await trio.to_thread.run_sync(listener.accept)
            listener.close()
            head = b""
            accepted.setblocking(False)
            while b"\r\n\r\n" not in head:
                await trio.lowlevel.wait_readable(accepted)
                head += accepted.recv(4096)
            await self.pool.attach(call_id, accepted, head, CALL_SID)
        self.streams.append(opened[0])
        return opened[0]


@contextlib.asynccontextmanager
async def open_rig(settings: MediaSettings = SETTINGS):
    sim = ElevenLabsSim("key", AGENTS)
    pool = WorkerPool(settings)
    with trio.fail_after(40):
        async with trio.open_nursery() as nursery:
            await nursery.start(sim.run)
            await nursery.start(pool.run)
            rig = Rig(pool, sim)
            try:
                async with trio.open_nursery() as streams:
                    rig.nursery = streams
                    yield rig
                    for stream in rig.streams:
                        with trio.move_on_after(1.0):
                            await stream.aclose()
                    streams.cancel_scope.cancel()
                # trio-websocket's client leaves the socket open when the server said goodbye first.
                for tcp in rig.tcp:
                    await trio.aclose_forcefully(tcp)
            finally:
                nursery.cancel_scope.cancel()


def start_message() -> str:
    start = {
        "streamSid": STREAM_SID,
        "accountSid": "AC" + "3" * 32,
        "callSid": CALL_SID,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {},
    }
    return json.dumps(
        {"event": "start", "sequenceNumber": "1", "streamSid": STREAM_SID, "start": start}
    )


def media_message(n: int, ulaw: bytes) -> str:
    media = {
        "track": "inbound",
        "chunk": str(n + 1),
        "timestamp": str(20 * n),
        "payload": base64.b64encode(ulaw).decode(),
    }
    return json.dumps(
        {"event": "media", "sequenceNumber": str(n + 2), "media": media, "streamSid": STREAM_SID}
    )


async def test_call_is_prepared_attached_and_talked_through():
    """Warm before the stream comes; first words at once; bytes exact; ended in order by the caller."""
    async with open_rig() as rig:
        assert rig.pool.prepare(rig.plan("call_1")) == "w1"
        await rig.until(CallEvent, "call_1", "agent_first_audio")
        stream = await rig.open_stream("call_1")
        await stream.send_message(start_message())
        await rig.until(CallEvent, "call_1", "first_audio_sent")
        heard = b""
        frames = [bytes(0xF0 + (n + k) % 16 for k in range(160)) for n in range(25)]  # no speech
        for n, frame in enumerate(frames):
            await stream.send_message(media_message(n, frame))
        while len(heard) < 4_000:
            message = json.loads(await stream.get_message())
            if message["event"] == "media":
                heard += base64.b64decode(message["media"]["payload"])
        assert AGENTS["good"].first_message.encoded("ulaw_8000").startswith(heard)
        await stream.send_message(
            json.dumps(
                {
                    "event": "stop",
                    "streamSid": STREAM_SID,
                    "sequenceNumber": "99",
                    "stop": {"accountSid": "AC" + "3" * 32, "callSid": CALL_SID},
                }
            )
        )
        ending = await rig.until(Ending, "call_1")
        assert (ending.result, ending.hang_up) == ("completed", False)
        await stream.aclose()
        report = await rig.until(CallReport, "call_1")
        assert report.attached
        assert report.stream_sid == STREAM_SID
        assert report.media["caller_audio"]["frames"] == 25
        (conversation,) = rig.sim.conversations.values()
        assert bytes(conversation.received) == b"".join(frames)
        assert report.conversation_id == conversation.conversation_id
        assert not rig.pool.holds("call_1")
        assert rig.sim.violations == []


async def test_agent_that_hangs_up_is_heard_out_and_control_ends_the_call_first():
    """`Ending` with `hang_up` comes while our socket is open; it closes after control's word."""
    async with open_rig() as rig:
        rig.pool.prepare(rig.plan("call_1", "short"))
        await rig.until(CallEvent, "call_1", "agent_ready")
        stream = await rig.open_stream("call_1")
        await stream.send_message(start_message())
        heard = b""
        ending = None
        while ending is None or not ending.hang_up:
            with trio.move_on_after(0.05):
                ending = await rig.until(Ending, "call_1")
            with contextlib.suppress(trio.TooSlowError):
                with trio.fail_after(0.05):
                    while True:
                        message = json.loads(await stream.get_message())
                        if message["event"] == "media":
                            heard += base64.b64decode(message["media"]["payload"])
                        elif message["event"] == "mark":
                            await stream.send_message(json.dumps(message | {"sequenceNumber": "5"}))
        assert heard == AGENTS["short"].first_message.encoded("ulaw_8000")
        assert not stream.closed
        rig.pool.close_call("call_1")
        with pytest.raises(ConnectionClosed):
            while True:
                await stream.get_message()
        report = await rig.until(CallReport, "call_1")
        assert report.result == "completed"


CANNOT_BE_OPENED = {
    "upgrade_401": "401",
    "upgrade_429": "429",
    "hang": "WebSocket upgrade took longer",
    "silent": "no conversation metadata",
    "garbage": "not a conversation event",
    "broken": "WebSocket protocol",
    "url_401": "401",
    "url_429": "429",
    "url_garbage": "signed-URL",
    "url_slow": "signed URL took longer",
    "unknown": "404",
}


async def test_agent_legs_that_cannot_be_opened_are_each_reported_with_their_reason():
    """Every way to fail has its own words, and the agent is blamed; all at once, in one worker."""
    async with open_rig() as rig:
        for agent in CANNOT_BE_OPENED:
            rig.pool.prepare(rig.plan(f"call_{agent}", agent))
        reports = {}
        while len(reports) < len(CANNOT_BE_OPENED):
            report = await rig.until(CallReport)
            reports[report.call_id.removeprefix("call_")] = report
        said = {agent: reports[agent].reason for agent in CANNOT_BE_OPENED}
        assert {agent for agent, words in CANNOT_BE_OPENED.items() if words not in said[agent]} == (
            set()
        ), said
        assert {(r.result, r.blame, r.attached) for r in reports.values()} == {
            ("agent_fault", "agent", False)
        }
        unnamed = {agent for agent, r in reports.items() if r.legs["agent"]["is_unnamed"]}
        assert unnamed == {"silent", "garbage", "broken"}  # begun, and nobody here knows its name


async def test_call_cancelled_before_its_conversation_has_a_name_says_so():
    """ElevenLabs has begun one by then, and it is charged for: control has to ask for its name."""
    async with open_rig() as rig:
        for call_id, agent, name in (
            ("call_1", "silent", "agent_connected"),
            ("call_2", "good", "agent_ready"),
        ):
            rig.pool.prepare(rig.plan(call_id, agent))
            await rig.until(CallEvent, call_id, name)
            rig.pool.cancel(call_id, "busy")
            report = await rig.until(CallReport, call_id)
            assert report.result == "cancelled"
            assert report.legs["agent"]["is_unnamed"] is (agent == "silent")
            assert (report.conversation_id is None) is (agent == "silent")


async def test_agent_lost_in_mid_call_closes_the_stream_without_hanging_up():
    """Twilio is to go on with the verbs behind the stream."""
    async with open_rig() as rig:
        rig.pool.prepare(rig.plan("call_1", "reset"))
        await rig.until(CallEvent, "call_1", "agent_ready")
        stream = await rig.open_stream("call_1")
        await stream.send_message(start_message())
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await stream.get_message()
        assert closed.value.reason.code == 1011
        report = await rig.until(CallReport, "call_1")
        assert (report.result, report.blame) == ("agent_fault", "agent")
        ending = next(e for e in rig.seen if isinstance(e, Ending))
        assert not ending.hang_up


async def test_stream_that_never_comes_frees_the_agent():
    """A warm agent costs money; the wait is bounded."""
    async with open_rig() as rig:
        rig.pool.prepare(rig.plan("call_1", attach_timeout_s=0.3))
        report = await rig.until(CallReport, "call_1")
        assert report.result == "cancelled"
        (conversation,) = rig.sim.conversations.values()
        assert conversation.close_code == 1000


async def test_stream_without_a_start_is_given_up():
    """An open socket is no call yet."""
    async with open_rig() as rig:
        rig.pool.prepare(rig.plan("call_1"))
        await rig.until(CallEvent, "call_1", "agent_ready")
        await rig.open_stream("call_1")
        report = await rig.until(CallReport, "call_1")
        assert "`start`" in report.reason
        assert report.blame == "twilio"


async def test_cancel_closes_the_warm_agent():
    """Nobody answered: the prepared leg goes."""
    async with open_rig() as rig:
        rig.pool.prepare(rig.plan("call_1"))
        await rig.until(CallEvent, "call_1", "agent_ready")
        rig.pool.cancel("call_1", "no answer")
        report = await rig.until(CallReport, "call_1")
        assert (report.result, report.reason) == ("cancelled", "no answer")


async def test_full_pool_refuses():
    """Admission is by the configured count."""
    async with open_rig(dataclasses.replace(SETTINGS, max_calls_per_worker=1)) as rig:
        rig.pool.prepare(rig.plan("call_1"))
        with pytest.raises(PoolFull):
            rig.pool.prepare(rig.plan("call_2"))


async def test_heartbeat_tells_what_headroom_and_metrics_ask_for():
    """Names on both sides of the link: a figure under another name would read as zero, which is "all is well"."""
    async with open_rig() as rig:
        rig.pool.prepare(rig.plan("call_1"))
        while not rig.pool.stats()[0].counters:
            await trio.sleep(0.01)
        (stats,) = rig.pool.stats()
        asked = {"load_percent", "tick_lateness_p95_ms", "loop_lag_ms"}
        assert asked <= stats.counters.keys()
        assert stats.counters.keys() >= MEASURED
        page = Metrics().render([stats]).decode()
        for name in ("tick_lateness", "uplink_latency", "clear_latency"):
            assert f'tandem_media_{name}_seconds_bucket{{le="+Inf",worker="w1"}}' in page


async def test_worker_runs_under_the_realtime_policy_where_that_is_asked_for_and_allowed():
    """Asked of the kernel; elsewhere it works as any other does."""
    program = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    probe = await trio.run_process(
        [sys.executable, "-c", program], check=False, capture_stderr=True
    )
    for wanted in (True, False):
        async with open_rig(dataclasses.replace(SETTINGS, realtime=wanted)) as rig:
            ready = await rig.until(Ready)
            policy = os.sched_getscheduler(ready.pid) & ~os.SCHED_RESET_ON_FORK
            is_taken = wanted and probe.returncode == 0
            assert policy == (os.SCHED_RR if is_taken else os.SCHED_OTHER)
            rig.pool.prepare(rig.plan("call_1"))
            await rig.until(CallEvent, "call_1", "agent_first_audio")


async def test_attach_of_an_unknown_call_closes_the_socket():
    """The descriptor is not leaked."""
    async with open_rig() as rig:
        ours, theirs = socket.socketpair()
        with pytest.raises(WorkerGone):
            await rig.pool.attach("call_unknown", ours, b"GET / HTTP/1.1\r\n\r\n", None)
        assert ours.fileno() == -1
        theirs.close()


async def test_killed_worker_names_its_calls_and_is_replaced():
    """SIGKILL: control hears which calls are lost, and a new worker takes calls."""
    async with open_rig() as rig:
        rig.pool.prepare(rig.plan("call_1"))
        await rig.until(CallEvent, "call_1", "agent_ready")
        (stats,) = rig.pool.stats()
        os.kill(stats.pid, signal.SIGKILL)
        lost = await rig.until(WorkerLost)
        assert lost.call_ids == ("call_1",)
        await rig.until(Ready)
        rig.pool.prepare(rig.plan("call_2"))
        await rig.until(CallEvent, "call_2", "agent_ready")


async def test_drain_lets_the_call_end_and_the_worker_exit():
    """No new calls, those in progress end politely, then the process goes."""
    async with open_rig() as rig:
        rig.pool.prepare(rig.plan("call_1"))
        await rig.until(CallEvent, "call_1", "agent_ready")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.pool.drain, 0.2)
            report = await rig.until(CallReport, "call_1")
            assert report.result == "drained"
        with pytest.raises(PoolFull):
            rig.pool.prepare(rig.plan("call_2"))


async def test_recording_is_written_aligned_and_whole(tmp_path):
    """Stereo: the caller left, the agent as heard right."""

    path = tmp_path / "call_1.wav"
    async with open_rig() as rig:
        rig.pool.prepare(rig.plan("call_1", recording_path=str(path)))
        await rig.until(CallEvent, "call_1", "agent_first_audio")
        stream = await rig.open_stream("call_1")
        await stream.send_message(start_message())
        start_s = trio.current_time()
        for n in range(60):
            await trio.sleep_until(start_s + 0.02 * n)
            await stream.send_message(media_message(n, bytes([0xEF if n % 2 else 0x6F]) * 160))
        await stream.aclose()
        report = await rig.until(CallReport, "call_1")
        assert report.recording["error"] is None
        with wave.open(str(path)) as recording:
            assert (recording.getnchannels(), recording.getframerate()) == (2, 8000)
            frames = recording.readframes(recording.getnframes())
        left = memoryview(frames).cast("h")[0::2].tolist()
        right = memoryview(frames).cast("h")[1::2].tolist()
        assert [left[n * 160] for n in range(59)] == [
            -132 if n % 2 == 0 else 132 for n in range(59)
        ]
        assert any(abs(sample) > 1_000 for sample in right)
        assert 59 * 160 <= len(left) <= 62 * 160
