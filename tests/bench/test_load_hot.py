"""What the generator counts for every frame, compiled and plain: the same, however the bytes are cut."""

import base64
import json
import random
import socket

import pytest

from bench.load import agents, callers, wire
from bench.load.agents import Agent, AgentManners
from bench.load.callers import Caller, Callers, Door, Stream
from bench.load.hot import Times, seconds_of, swift
from bench.load.loop import READ, Loop, now
from bench.load.tally import Tally

FRAMES = 120
RELAYED_SID = "MZ" + "0" * 32


class OneSocket:
    """A loop that does nothing by itself."""

    def __init__(self) -> None:
        self.handler = None

    def hand(self, sock, handler):
        self.handler = handler

    def at(self, due_s, run, argument=None):
        pass

    def close(self, sock):
        sock.close()

    def ready(self) -> None:
        getattr(self.handler, "ready", self.handler)(READ)


@pytest.fixture(params=["plain", "compiled"])
def is_compiled(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(agents, "swift", None)
        monkeypatch.setattr(callers, "swift", None)
    elif swift is None:
        pytest.skip("bench.load._swift is not built here")
    return request.param == "compiled"


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def in_pieces(loop, theirs, data: bytes, seed: int) -> None:
    """Send `data` cut anywhere, each piece followed by a look at the socket."""
    cut = random.Random(seed)
    while data:
        size = cut.choice((1, 7, 100, 400, 900, 4000))
        theirs.send(data[:size])
        data = data[size:]
        loop.ready()


def agent_on(loop, sock, *, is_relay: bool) -> tuple[Agent, Tally]:
    manners = AgentManners(
        voice=wire.AgentVoice("ulaw_8000", 250, 8, alignment=False),
        chunk_gap_s=0.1,
        period_s=4.0,
        caller_format="ulaw_8000",
        barge_share=0.0,
        frames_relayed=is_relay,
    )
    tally = Tally()

    class Found:
        index = 1

        def agent_lost(self, reason):
            raise AssertionError(reason)

    return Agent(loop, sock, b"", "/media/1", manners, tally, lambda name: Found()), tally


def twilio_frames() -> bytes:
    heads = wire.Heads()
    heads.grow(FRAMES)
    tails = wire.tails(RELAYED_SID)
    return b"".join(head + tails[phase] for head, phase in heads.made[:FRAMES])


@pytest.mark.parametrize("seed", range(5))
def test_relayed_frames_are_all_counted_and_marks_are_none(is_compiled, pair, seed):
    """Behind a relay an agent hears Twilio's own messages, of several lengths, and other events between them."""
    ours, theirs = pair
    loop = OneSocket()
    agent, _ = agent_on(loop, ours, is_relay=True)
    begin = wire.CONNECTED + wire.start(RELAYED_SID, "CA" + "1" * 32, "AC" + "1" * 32, {})
    mark = wire.mark_echo(RELAYED_SID, 7, "m")
    in_pieces(loop, theirs, begin + twilio_frames() + mark + twilio_frames() + mark, seed)
    assert agent.audio_bytes == 2 * FRAMES * wire.FRAME_BYTES
    assert len(agent.arrived_at) == 2 * FRAMES


@pytest.mark.parametrize("seed", range(5))
def test_usual_frames_of_a_gateway_are_all_counted_and_checked(is_compiled, pair, seed):
    """In the agent's own envelope; one in `CHECK_EVERY` is compared with what the caller says."""
    ours, theirs = pair
    loop = OneSocket()
    agent, tally = agent_on(loop, ours, is_relay=False)
    begin = wire.client_text(b'{"type":"conversation_initiation_client_data"}')
    frames = [
        wire.client_text(wire.compact({"user_audio_chunk": wire.payload_64(k)}))
        for k in range(FRAMES)
    ]
    wrong = wire.client_text(wire.compact({"user_audio_chunk": wire.payload_64(3)}))
    in_pieces(loop, theirs, begin + b"".join(frames), seed)
    assert agent.audio_bytes == FRAMES * wire.FRAME_BYTES
    assert len(agent.arrived_at) == FRAMES
    assert not tally.errors
    in_pieces(loop, theirs, wrong * agents.CHECK_EVERY, seed)
    assert tally.errors["caller_audio_changed"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_agent_audio_that_a_caller_hears_is_all_counted(is_compiled, pair, seed):
    """The caller's side: audio by its length, marks and clears between."""
    ours, theirs = pair
    loop = OneSocket()
    shared = Callers(
        loop=loop,
        door=Door(("127.0.0.1", 1), "http://127.0.0.1:1"),
        tally=Tally(),
        heads=wire.Heads(),
        turn_bytes=16_000,
        ended=lambda caller: None,
    )
    stream = Stream(Caller(0, shared), ours, b"")
    said = 0
    data = b""
    for k in range(FRAMES):
        size = (160, 320, 161, 2000)[k % 4]
        said += size
        audio = base64.b64encode(bytes(size)).decode()
        media = {"event": "media", "streamSid": "MZ", "media": {"payload": audio}}
        data += wire.server_text(wire.compact(media))
        if not k % 10:
            mark = {"event": "mark", "streamSid": "MZ", "mark": {"name": str(k)}}
            data += wire.server_text(json.dumps(mark).encode())
    in_pieces(loop, theirs, data, seed)
    assert stream.clock.received_bytes == said
    assert len(stream.clock.marks) == FRAMES // 10
    assert len(shared.tally.lead_s) <= FRAMES
    assert isinstance(shared.tally.lead_s, Times)


def test_frame_has_arrived_when_the_kernel_had_it(is_compiled):
    """However late the generator looks: its own lateness is not the target's."""
    if not is_compiled:
        pytest.skip("only the compiled path reads the kernel's stamps")
    loop = Loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, theirs:
        ours.setblocking(False)
        loop.add(ours, lambda mask: None)
        agent, _ = agent_on(loop, ours, is_relay=True)
        heads = wire.Heads()
        heads.grow(1)
        head, phase = heads.made[0]
        frame = head + wire.tails(RELAYED_SID)[phase]
        # The kernel begins to stamp a moment after it was asked to.
        assert any(_arrives_in_time(loop, agent, theirs, frame) for _ in range(200))


def _arrives_in_time(loop, agent, theirs, frame: bytes) -> bool:
    begin_s = now()
    theirs.send(frame)
    end_s = now()
    while now() < end_s + 0.002:
        pass
    count = len(agent.arrived_at)
    loop._look.turn(0.0, 8)
    assert len(agent.arrived_at) == count + 1
    arrived_s = float(seconds_of(agent.arrived_at)[-1])
    return begin_s - 0.0005 <= arrived_s <= end_s + 0.0005
