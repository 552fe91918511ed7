"""The compiled outlet does what the bridge does: same bytes for the caller, same pace, same account.

Told twice, like the stories of `test_express.py`: to Python and to what was compiled. Both clocks stand at the same
instants, so the times have to be the same as well.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import socket

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway import flow
from gateway.events import Note
from gateway.intake import new_intake, plain_intake
from gateway.playout import Pace, PlainPace, PlainPlayout, Playout
from gateway.settings import MediaSettings
from tests.gateway.test_express import Scene, message
from tests.peers import FRAME, STREAM_SID, b64

pytestmark = pytest.mark.skipif(not flow.IS_COMPILED, reason="the outlet was not built here")

SPEECH = bytes((3 * n) % 251 for n in range(8_000))
COUNTED = [name for name in PlainPlayout.__slots__ if not name.startswith("_")]


class PlayoutTwins(RuleBasedStateMachine):
    """Whatever is asked of both, they answer and count alike, to the last bit."""

    def __init__(self) -> None:
        super().__init__()
        media = MediaSettings(playout_max_ms=2_000)
        self.paces = (PlainPace(), Pace())
        self.twins = (PlainPlayout(media, self.paces[0]), Playout(media, self.paces[1]))
        self.now_s = 1_000.0

    def both(self, name: str, *arguments: object) -> None:
        plain, built = (getattr(twin, name)(*arguments) for twin in self.twins)
        assert plain == built

    @rule(size=st.integers(0, 6_000))
    def push(self, size):
        self.both("push", (SPEECH * 2)[:size], self.now_s)

    @rule(size=st.integers(0, 400))
    def fill(self, size):
        self.both("fill", SPEECH[:size], self.now_s)

    @rule(ms=st.one_of(st.just(20.0), st.floats(0.0, 400.0), st.just(2_500.0)))
    def take(self, ms):
        self.now_s += ms / 1000.0
        self.both("take", self.now_s)

    @rule(frames=st.integers(1, 3))
    def load(self, frames):
        for pace in self.paces:
            pace.frames = frames

    @rule()
    def flush(self):
        self.both("flush", self.now_s)

    @rule()
    def end_turn(self):
        self.both("end_turn")

    @invariant()
    def counts_are_the_same(self):
        self.both("remaining_s", self.now_s)
        self.both("unheard_bytes", self.now_s)
        plain, built = ({name: getattr(twin, name) for name in COUNTED} for twin in self.twins)
        assert plain == built


TestPlayoutTwins = PlayoutTwins.TestCase
TestPlayoutTwins.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)


class Talk(Scene):
    """One call that is ticked by hand."""

    def said(self, size: int, event_id: int) -> None:
        body = {"audio_base_64": b64(SPEECH[:size]), "event_id": event_id}
        self.told(type="audio", audio_event=body)

    def told(self, **event: object) -> None:
        self.agent_sock.send(self.agent.json(**event))
        self.turn()

    def step(self, seconds: float = 0.02) -> None:
        trio.lowlevel.current_clock().jump(seconds)
        self.plane._tick(self.call.phase, trio.current_time())
        self.turn()

    def echo(self, count: int) -> None:
        """The oldest marks that were not echoed yet, as Twilio does when they were played."""
        marks = [body["mark"]["name"] for _, body in self.caller.received if "mark" in body]
        for name in marks[self.echoed : self.echoed + count]:
            self.echoed += 1
            self.send(self.caller.json(event="mark", streamSid=STREAM_SID, mark={"name": name}))

    echoed = 0

    def told_all(self) -> dict:
        return self.outcome() | {
            "notes": [dataclasses.astuple(e) for e in self.observer.events if isinstance(e, Note)],
            "events": [e for e in self.observer.events if not isinstance(e, Note)],
        }


LINES = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 30)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
    st.tuples(st.just("audio"), st.integers(1, 8_000)),
    st.tuples(st.just("audio"), st.integers(1, 8_000)),
    st.tuples(st.just("stall"), st.integers(1, 2_500)),
    st.tuples(st.just("caller"), st.integers(1, 5)),
    st.tuples(st.just("echo"), st.integers(1, 5)),
    st.tuples(st.just("load"), st.integers(1, 3)),
    st.tuples(st.just("interruption"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["text", "complete", "ping", "dtmf", "junk", "end"]), st.just(0)),
)


async def tell(intake, story, agent_format: str) -> dict:
    with contextlib.ExitStack() as stack:
        scene = Talk(intake, stack, agent_format)
        event_id = frames = 0
        for kind, count in story:
            event_id += kind in ("interruption", "text")
            if kind == "wait":
                for _ in range(count):
                    scene.step()
            elif kind == "audio":
                scene.said(count, event_id)
            elif kind == "stall":
                scene.step(count / 1000.0)
            elif kind == "caller":
                for _ in range(count):
                    scene.send(scene.caller.text(message(frames)))
                    scene.step()
                    frames += 1
            elif kind == "echo":
                scene.echo(count)
            elif kind == "load":
                scene.plane.pace.frames = count
            elif kind == "interruption":
                late = {"event_id": event_id - count}
                scene.told(type="interruption", interruption_event=late)
            elif kind == "text":
                text = {"agent_response": f"Sentence {event_id}.", "event_id": event_id}
                scene.told(type="agent_response", agent_response_event=text)
            elif kind == "complete":
                done = {"event_id": event_id}
                scene.told(type="agent_response_complete", agent_response_complete_event=done)
            elif kind == "ping":
                scene.told(type="ping", ping_event={"event_id": event_id})
            elif kind == "dtmf":
                digit = {"track": "inbound_track", "digit": "5"}
                scene.send(scene.caller.json(event="dtmf", streamSid=STREAM_SID, dtmf=digit))
            elif kind == "end":
                ending = {"tool_name": "end_call", "tool_call_id": "t", "is_error": False}
                scene.told(type="agent_tool_response", agent_tool_response=ending)
            else:
                scene.told(type="new_thing")
        for _ in range(10):
            scene.step()
        return scene.told_all()


@pytest.mark.parametrize("agent_format", ["ulaw_8000", "pcm_16000"])
@given(story=st.lists(LINES, min_size=1, max_size=40))
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_talk_is_heard_the_same_with_and_without_the_outlet(agent_format, story):
    """Turns, stalls, interruptions, a busy core, the end: each message at the same instant, each count equal."""

    def once(intake):
        return trio.run(tell, intake, story, agent_format, clock=trio.testing.MockClock())

    assert once(plain_intake) == once(new_intake)


async def test_usual_audio_takes_the_outlet(mock_clock):
    """Once its first words are out, no frame of a turn costs the bridge a tick; every mark is there."""
    with contextlib.ExitStack() as stack:
        scene = Talk(new_intake, stack, "ulaw_8000")
        scene.send(scene.caller.text(message(0, audio=FRAME)))
        scene.said(8_000, 1)
        scene.step()
        ticks: list[float] = []
        tick = scene.bridge.tick
        scene.bridge.tick = lambda now_s: (ticks.append(now_s), tick(now_s))
        for _ in range(60):
            scene.step()
        assert ticks == []
        heard = [body["media"]["payload"] for _, body in scene.caller.received if "media" in body]
        assert b"".join(map(base64.b64decode, heard)) == SPEECH
        marks = [body["mark"]["name"] for _, body in scene.caller.received if "mark" in body]
        assert marks[-1] == "0:8000"
        assert len(marks) == scene.bridge.report()["agent_audio"]["marks_sent"]


async def test_caller_that_takes_nothing_keeps_the_order(mock_clock):
    """A full socket: the rest of a message waits in the bounded buffer, and nothing overtakes it."""
    with contextlib.ExitStack() as stack:
        scene = Talk(new_intake, stack, "ulaw_8000")
        scene.call.caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        scene.said(8_000, 1)
        scene.said(8_000, 1)
        for _ in range(100):
            mock_clock.jump(0.02)
            scene.plane._tick(scene.call.phase, trio.current_time())
        assert scene.call.caller_peak_bytes > 0
        assert not scene.call.is_express
        for _ in range(50):
            scene.step()
        heard = [body["media"]["payload"] for _, body in scene.caller.received if "media" in body]
        assert b"".join(map(base64.b64decode, heard)) == SPEECH * 2
        assert scene.call.is_express  # the lane is open again


async def test_caller_that_is_gone_ends_the_leg(mock_clock):
    """What the socket raises in the outlet is found out by the plane, and told to the bridge."""
    with contextlib.ExitStack() as stack:
        scene = Talk(new_intake, stack, "ulaw_8000")
        scene.said(8_000, 1)
        scene.step()
        scene.caller_sock.shutdown(socket.SHUT_RDWR)
        scene.plane._intake.forget(scene.call.caller.fd)  # nobody reads that it was closed
        scene.plane._epoll.modify(scene.call.caller.fd, 0)
        for _ in range(3):
            mock_clock.jump(0.02)
            scene.plane._tick(scene.call.phase, trio.current_time())
        assert scene.call.caller is None
        assert scene.bridge.ended is not None
        assert not scene.observer.crashes
