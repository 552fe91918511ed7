"""Servers that let a stream of the simulated Twilio down: the error's code, and what the call does then."""

from __future__ import annotations

import pytest
import trio

from tests.bench.tiny_gateway import CALLER, OURS, Session, TinyGateway, connect, tone


async def test_server_close_with_odd_code_is_reported(autojump_clock):
    """A close code that is not normal is error 31921, and the call goes on all the same."""

    async def converse(session: Session) -> None:
        await session.until("start")
        await session.socket.aclose(1011, "oops")

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect(after="<Say>Sorry.</Say>")
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.ended()

    assert call.warned(31921)
    assert call.heard_texts == ["Sorry."]
    stream = call.stream
    assert stream is not None
    assert stream.close_code == 1011


async def test_refused_handshake_is_31920_and_the_next_verb(autojump_clock):
    """A 403 on the upgrade ends the verb with a stream error."""
    gateway = TinyGateway()
    gateway.refuse_media_with = 403
    gateway.twiml["/twilio/voice"] = connect(after="<Say>Sorry.</Say>")
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.settled()

    assert call.warned(31920)
    assert call.heard_texts == ["Sorry."]
    (event,) = gateway.posted("/twilio/stream")
    assert event["StreamEvent"] == "stream-error"
    assert "31920" in event["StreamError"]


@pytest.mark.parametrize(
    ("url", "code"),
    [("https://gw.test/x", 31922), ("ws://", 31923), ("ftp://gw.test/x", 31922)],
)
async def test_stream_url_of_wrong_kind_has_twilios_code(autojump_clock, url, code):
    """With `wss` required, other schemes are refused; nonsense is malformed."""
    gateway = TinyGateway()
    twiml = f'<Response><Connect><Stream url="{url}"/></Connect></Response>'
    gateway.twiml["/twilio/voice"] = twiml.replace("https:", "ws:")
    async with gateway.running(gateway.sim(stream_options={"require_wss": True})) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.ended()

    assert [entry.code for entry in call.warnings] == [code]
    assert gateway.sessions == []


async def test_silent_server_is_a_connection_timeout(autojump_clock):
    """A server that never answers the handshake costs ten seconds and is 31901."""

    async def deaf(host: str, port: int) -> trio.abc.Stream:
        kept.append(trio.testing.memory_stream_pair())
        return kept[0][0]

    kept: list[tuple[trio.abc.Stream, trio.abc.Stream]] = []
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = connect(after="<Say>Sorry.</Say>")
    sim = gateway.sim()
    sim.stream_options = type(sim.stream_options)(open_stream=deaf)
    async with gateway.running(sim):
        call = await sim.call_in(CALLER, OURS)
        began = trio.current_time()
        await call.ended()
    assert call.warned(31901)
    assert 10 <= trio.current_time() - began < 11


async def test_refused_connection_is_31902(autojump_clock):
    """A port where nobody listens has its own code."""

    async def refuse(host: str, port: int) -> trio.abc.Stream:
        raise ConnectionRefusedError

    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = connect()
    sim = gateway.sim()
    sim.stream_options = type(sim.stream_options)(open_stream=refuse)
    async with gateway.running(sim):
        call = await sim.call_in(CALLER, OURS)
        await call.ended()
    assert call.warned(31902)


async def test_lost_connection_is_31903_and_the_next_verb(autojump_clock):
    """A TCP connection that goes away without a close frame ends the stream."""

    async def converse(session: Session) -> None:
        await session.until("start")
        await session.socket._stream.aclose()
        await trio.sleep(0.1)

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect(after="<Say>Sorry.</Say>")
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.settled()
    assert call.warned(31903)
    assert call.heard_texts == ["Sorry."]
    assert gateway.posted("/twilio/stream")[-1]["StreamEvent"] == "stream-error"


async def test_nonsense_from_the_server_is_counted_and_warned_once(autojump_clock):
    """Bad messages are ignored: one warning 31951 for text, 31950 for binary, and the stream lives."""

    async def converse(session: Session) -> None:
        await session.until("start")
        await session.say({"event": "media", "stream_sid": session.sid})
        await session.socket.send_message("{")
        await session.socket.send_message(b"\x00\x01")
        await session.play(tone(100))
        await session.mark("m")
        await session.until("mark")

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect()
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.ended()

    assert call.invalid_messages == 3
    assert sorted(entry.code for entry in sim.debugger) == [31950, 31951]
    assert call.marks_echoed == 1


async def test_server_that_reads_nothing_costs_media_but_no_memory(autojump_clock):
    """Ten seconds of caller audio wait for a slow server; then Twilio drops and warns once."""

    async def converse(session: Session) -> None:
        await trio.sleep(30)
        await session.drain()

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect()

    async def narrow(host: str, port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.lockstep_stream_pair()
        assert gateway.nursery is not None
        gateway.nursery.start_soon(gateway._serve_media, ours)
        return theirs

    sim = gateway.sim()
    sim.stream_options = type(sim.stream_options)(open_stream=narrow)
    async with gateway.running(sim):
        call = await sim.call_in(CALLER, OURS)
        await trio.sleep(20)
        call.hang_up()
        await call.ended()
    assert [entry.code for entry in call.warnings] == [31930]
    assert call.stream is not None
    assert 400 < call.stream.counts.media_dropped < 600
