"""The compiled lane does what the bridge does: same bytes for the agent, same events, same account.

Every story is told twice, to a plane that reads in Python and to one with the lane, over real sockets and under
a clock that stands still between the lines. Where the lane was not built there is nothing to compare.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import ssl
from dataclasses import dataclass

import numpy as np
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.sim_elevenlabs.tls import throwaway_tls
from gateway import flow
from gateway.audio import PCM_RATES_HZ
from gateway.bridge import Bridge
from gateway.events import Note
from gateway.intake import new_intake, plain_intake
from gateway.mediaplane import MediaPlane
from gateway.resample import Resampler
from gateway.settings import MediaSettings
from tests.peers import ACCOUNT_SID, CALL_SID, FRAME, PLAN, STREAM_SID, Peer, b64

pytestmark = pytest.mark.skipif(not flow.IS_COMPILED, reason="the lane was not built here")

OTHER_SID = "MZ" + "f" * 32


@dataclass
class Observer:
    bridge: Bridge
    events: list
    crashes: list

    def on_events(self):
        self.events += self.bridge.events
        self.bridge.events = []

    def on_leg_gone(self):
        pass

    def on_crash(self, error):
        self.crashes.append(error)


class Scene:
    """One call on a plane that is turned by hand."""

    def __init__(self, intake, stack: contextlib.ExitStack, agent_format: str, tls=None) -> None:
        self.plane = MediaPlane(leg_write_max_bytes=1 << 20, intake=intake)
        stack.callback(self.plane._epoll.close)
        self.bridge = Bridge(PLAN, MediaSettings(), None, self.plane.pace)
        self.observer = Observer(self.bridge, [], [])
        self.call = self.plane.add(self.bridge, self.observer)
        self.caller, self.agent = Peer(is_client=True), Peer(is_client=False)
        self.caller_sock, ours = socket.socketpair()
        self.agent_sock, ours_too = socket.socketpair()
        for sock in (self.caller_sock, self.agent_sock, ours, ours_too):
            stack.callback(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.caller_sock.setblocking(False)
        self.agent_sock.setblocking(False)
        if tls is not None:
            ours_too, self.agent_sock = encrypted(ours_too, self.agent_sock, tls)
            stack.callback(self.agent_sock.close)
            stack.callback(ours_too.close)
        self.plane.adopt_agent(self.call, ours_too, b"")
        formats = {
            "agent_output_audio_format": "ulaw_8000",
            "user_input_audio_format": agent_format,
        }
        self.agent_sock.send(
            self.agent.json(
                type="conversation_initiation_metadata",
                conversation_initiation_metadata_event={"conversation_id": "conv_1", **formats},
            )
        )
        self.plane.adopt_caller(self.call, ours, b"")
        self.send(
            self.caller.json(
                event="start",
                sequenceNumber="1",
                streamSid=STREAM_SID,
                start={
                    "streamSid": STREAM_SID,
                    "accountSid": ACCOUNT_SID,
                    "callSid": CALL_SID,
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                },
            )
        )

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the call may be over
            self.caller_sock.send(data)
        self.turn()

    def turn(self) -> None:
        for _ in range(3):
            self.plane._wake(self.plane._intake.poll(0.0, 0.0, 1), trio.current_time())
        for peer, sock in ((self.agent, self.agent_sock), (self.caller, self.caller_sock)):
            with contextlib.suppress(OSError):
                while data := sock.recv(1 << 20):  # of TLS, a record each
                    peer.hear(data, trio.current_time())
                peer.hear(b"", trio.current_time())

    def outcome(self) -> dict:
        return {
            "agent": self.agent.received,
            "caller": self.caller.received,
            "closed": (self.agent.closed, self.caller.closed),
            "notes": [dataclasses.astuple(e) for e in self.observer.events if isinstance(e, Note)],
            "report": self.bridge.report(),
            "ended": self.bridge.ended,
            "crashes": self.observer.crashes,
        }


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    server, certificate = throwaway_tls(tmp_path_factory.mktemp("tls"))
    return server, ssl.create_default_context(cafile=os.fspath(certificate))


def encrypted(client: socket.socket, server: socket.socket, tls) -> tuple:
    """Both ends of a pair after the handshake, not blocking."""
    client.setblocking(False)
    ends = (
        tls[1].wrap_socket(client, server_hostname="localhost", do_handshake_on_connect=False),
        tls[0].wrap_socket(server, server_side=True, do_handshake_on_connect=False),
    )
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                waiting.remove(end)
    return ends


def message(
    k: int,
    *,
    audio: bytes = FRAME,
    timestamp: int | str | None = None,
    sid: str = STREAM_SID,
    track: str = "inbound",
    payload: str | None = None,
    sid_first: bool = False,
    spaced: bool = False,
    extra: dict | None = None,
) -> str:
    media = {
        "track": track,
        "chunk": str(k),
        "timestamp": str(k * 20 if timestamp is None else timestamp),
        "payload": b64(audio) if payload is None else payload,
    }
    body: dict = {"event": "media", "sequenceNumber": str(k + 1)}
    if sid_first:
        body |= {"streamSid": sid, "media": media}
    else:
        body |= {"media": media, "streamSid": sid}
    body |= extra or {}
    return json.dumps(body, separators=(", ", ": ") if spaced else (",", ":"))


UNUSUAL = st.one_of(
    st.just({}),
    st.just({}),
    st.just({}),
    st.just({"sid_first": True}),
    st.just({"spaced": True}),
    st.just({"sid_first": True, "spaced": True}),
    st.just({"sid": OTHER_SID}),
    st.just({"track": "outbound"}),
    st.just({"extra": {"new": 1}}),
    st.just({"timestamp": "9" * 19}),
    st.just({"timestamp": ""}),
    st.just({"timestamp": "-1"}),
    st.sampled_from(
        ["", "=", "====", "AAA", "AA==A", "A===", "AA=A", "Zm9v\n", "äöü", "AAA=AAAA"]
    ).map(lambda payload: {"payload": payload}),
    st.binary(max_size=400).map(lambda audio: {"audio": audio}),
    st.integers(0, 3000).map(lambda timestamp: {"timestamp": timestamp}),
)
LINES = st.one_of(
    UNUSUAL.map(lambda options: ("media", options)),
    UNUSUAL.map(lambda options: ("media", options)),
    st.just(("dtmf", {})),
    st.just(("ping", {})),
    st.just(("junk", {})),
    st.just(("mark", {})),
    st.just(("pause", {})),
    st.just(("interruption", {})),
)


async def tell(intake, story, cuts, agent_format: str) -> dict:
    clock = trio.lowlevel.current_clock()
    with contextlib.ExitStack() as stack:
        scene = Scene(intake, stack, agent_format)
        waiting = b""
        for k, ((kind, options), cut) in enumerate(zip(story, cuts, strict=True)):
            clock.jump(0.02)
            if kind == "media":
                waiting += scene.caller.text(message(k, **options))
            elif kind == "dtmf":
                dtmf = {"track": "inbound_track", "digit": "5"}
                waiting += scene.caller.json(event="dtmf", streamSid=STREAM_SID, dtmf=dtmf)
            elif kind == "mark":
                waiting += scene.caller.json(
                    event="mark", streamSid=STREAM_SID, mark={"name": "0:1"}
                )
            elif kind == "ping":
                waiting += scene.caller.ping()
            elif kind == "junk":
                waiting += scene.caller.text("{}")
            elif kind == "pause":
                clock.jump(1.5)
            else:
                scene.agent_sock.send(
                    scene.agent.json(type="interruption", interruption_event={"event_id": k})
                )
            # Some arrive in pieces, some with the next one.
            size = len(waiting) * cut // 4
            scene.send(waiting[:size])
            waiting = waiting[size:]
        scene.send(waiting)
        scene.turn()
        return scene.outcome()


@pytest.mark.parametrize(
    "agent_format", ["ulaw_8000", "pcm_8000", "pcm_16000", "pcm_22050", "pcm_48000"]
)
@given(
    told=st.lists(st.tuples(LINES, st.sampled_from([4, 4, 4, 3, 2, 0])), min_size=1, max_size=25)
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_story_ends_the_same_with_and_without_the_lane(agent_format, told):
    """Usual frames, odd ones, repeats, gaps, stalls, pieces: nothing that can be seen differs."""
    story, cuts = [line for line, _ in told], [cut for _, cut in told]

    def once(intake):
        clock = trio.testing.MockClock()
        return trio.run(tell, intake, story, cuts, agent_format, clock=clock)

    plain, built = once(plain_intake), once(new_intake)
    # The instants differ: each clock has its own beginning.
    assert without_times(plain) == without_times(built)


def without_times(outcome: dict) -> dict:
    return outcome | {
        "agent": [body for _, body in outcome["agent"]],
        "caller": [body for _, body in outcome["caller"]],
        "notes": [(name, data) for name, _, data in outcome["notes"]],
    }


@pytest.mark.parametrize("leg", ["plain", "TLS"])
async def test_usual_frames_take_the_lane(mock_clock, leg, contexts):
    """Not one of them is seen by the bridge's Python once the call is under way."""
    with contextlib.ExitStack() as stack:
        scene = Scene(new_intake, stack, "ulaw_8000", contexts if leg == "TLS" else None)
        scene.send(scene.caller.text(message(0)))  # the first one sets the time
        before = scene.plane._intake.relayed_frames
        for k in range(1, 101):
            mock_clock.jump(0.02)
            scene.send(scene.caller.text(message(k)))
        assert scene.plane._intake.relayed_frames - before == 100
        heard = [
            body["user_audio_chunk"]
            for _, body in scene.agent.received
            if "user_audio_chunk" in body
        ]
        assert heard == [b64(FRAME)] * 101


@pytest.mark.parametrize("leg", ["plain", "TLS"])
async def test_lane_whose_agent_takes_nothing_keeps_the_order(mock_clock, leg, contexts):
    """A full socket: what was not sent waits in the bounded buffer, and nothing overtakes it."""
    with contextlib.ExitStack() as stack:
        scene = Scene(new_intake, stack, "ulaw_8000", contexts if leg == "TLS" else None)
        scene.call.agent.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        frames = [bytes((k + n) % 256 for n in range(160)) for k in range(300)]
        for k, audio in enumerate(frames):
            mock_clock.jump(0.02)
            with contextlib.suppress(BlockingIOError):
                scene.caller_sock.send(scene.caller.text(message(k, audio=audio)))
            for _ in range(2):
                scene.plane._wake(scene.plane._intake.poll(0.0, 0.0, 1), trio.current_time())
        assert scene.call.agent_peak_bytes > 0
        for _ in range(300):
            scene.turn()
        heard = [
            body["user_audio_chunk"]
            for _, body in scene.agent.received
            if "user_audio_chunk" in body
        ]
        assert heard == [b64(audio) for audio in frames]
        before = scene.plane._intake.relayed_frames
        mock_clock.jump(0.02)
        scene.send(scene.caller.text(message(len(frames))))
        assert scene.plane._intake.relayed_frames == before + 1  # the lane is open again


@pytest.mark.parametrize("leg", ["plain", "TLS"])
async def test_lane_whose_agent_is_gone_ends_the_leg(mock_clock, leg, contexts):
    """What the socket raises in the lane is found out by the plane, and told to the bridge."""
    with contextlib.ExitStack() as stack:
        scene = Scene(new_intake, stack, "ulaw_8000", contexts if leg == "TLS" else None)
        scene.send(scene.caller.text(message(0)))
        scene.agent_sock.shutdown(socket.SHUT_RDWR)
        scene.plane._intake.forget(scene.call.agent.fd)  # nobody reads that it was closed
        scene.plane._epoll.modify(scene.call.agent.fd, 0)
        for k in range(1, 4):
            mock_clock.jump(0.02)
            scene.send(scene.caller.text(message(k)))
        assert scene.call.agent is None
        assert not scene.observer.crashes


@pytest.mark.parametrize("to_hz", PCM_RATES_HZ)
@pytest.mark.parametrize("from_hz", PCM_RATES_HZ)
def test_compiled_filter_gives_the_same_bits(from_hz, to_hz, monkeypatch):
    """Any pair of rates, any cut into chunks, with saturation."""
    built = Resampler(from_hz, to_hz)
    monkeypatch.setattr(flow, "IS_COMPILED", False)
    plain = Resampler(from_hz, to_hz)
    noise = np.random.default_rng(from_hz + to_hz)
    samples = noise.integers(-32768, 32768, 12_000).astype("<i2").tobytes()
    position, one, other = 0, b"", b""
    while position < len(samples):
        size = 2 * int(noise.integers(0, 3000))
        one += built.push(samples[position : position + size])
        other += plain.push(samples[position : position + size])
        position += size
    assert one + built.flush() == other + plain.flush()
    assert built.flush() == plain.flush() == b""
