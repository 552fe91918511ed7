"""Streams of the simulated Twilio: barge-in, addresses, and which verb follows the end."""

from __future__ import annotations

import pytest
import trio
from trio_websocket import ConnectionClosed

from bench.sim_twilio import Caller, HangsUp, Says
from bench.sim_twilio.signing import signature
from tests.bench.tiny_gateway import (
    CALLER,
    GATEWAY,
    OURS,
    TOKEN,
    Session,
    TinyGateway,
    connect,
    tone,
)


async def test_barge_in_is_heard_as_a_clear(autojump_clock):
    """The caller interrupts after a second of speech; the clear cuts the rest and returns the marks."""

    async def converse(session: Session) -> None:
        await session.until("start")
        await session.play(tone(3000))
        await session.mark("t1:3000")
        while True:
            message = await session.until("media")
            if message["media"]["payload"] != "/" * 213 + "w==":
                break
        await session.clear()
        await session.play(tone(400, 600))
        await session.mark("t2:400")
        await session.drain()

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect()
    script = Caller(
        says=[Says(audio=tone(300, 300), after_agent_speaking_s=1.0)],
        hangs_up=HangsUp(after_agent_silence_s=1.0),
    )
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS, script)
        await call.ended()

    (clear,) = call.clears
    ((said_s, _),) = call.behaviour.said
    assert 1.0 <= said_s <= 1.04
    assert clear.at_s == pytest.approx(said_s + 0.02, abs=0.001)
    assert clear.discarded_ms == pytest.approx(3000 - clear.at_s * 1000, abs=1)
    assert clear.marks == 1
    cut = round(clear.at_s * 8000)
    assert call.heard[:cut] == tone(3000)[:cut]
    assert call.heard[cut : cut + 3200] == tone(400, 600)
    assert call.marks_echoed == 2
    assert call.behaviour.ear.utterance == 2
    stream = call.stream
    assert stream is not None
    assert [name for _, name in stream.echoed] == ["t1:3000", "t2:400"]


async def test_server_close_leads_to_the_next_verb(autojump_clock):
    """When the server closes the stream, the call goes on with what follows."""

    async def converse(session: Session) -> None:
        await session.until("start")
        await trio.sleep(1)

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect(
        after=f"<Say>Sorry.</Say><Redirect>{GATEWAY}/twilio/continue</Redirect><Say>never</Say>"
    )
    gateway.twiml["/twilio/continue"] = "<Response><Say>Goodbye.</Say><Hangup/></Response>"
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.ended()

    assert call.status == "completed"
    assert call.heard_texts == ["Sorry.", "Goodbye."]
    assert [v.name for v in call.verbs] == ["Connect", "Say", "Redirect", "Say", "Hangup"]
    assert gateway.posted("/twilio/continue")[0]["CallStatus"] == "in-progress"
    stream = call.stream
    assert stream is not None
    assert (stream.end, stream.close_code) == ("server-closed", 1000)


async def test_connect_with_action_asks_there_instead_of_the_next_verb(autojump_clock):
    """With `action`, the verbs that follow are unreachable."""

    async def converse(session: Session) -> None:
        await session.until("start")

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect(after="<Say>never</Say>").replace(
        "<Connect>", '<Connect action="/twilio/after">'
    )
    gateway.twiml["/twilio/after"] = "<Response><Say>after</Say></Response>"
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.ended()

    assert call.heard_texts == ["after"]


async def test_query_of_stream_url_is_dropped(autojump_clock):
    """A query string never reaches the server, and the debugger says so."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = connect("/media/abc?token=1")
    script = Caller(hangs_up=HangsUp(at_s=0.2))
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS, script)
        await call.ended()
    assert gateway.signatures_bad == 0
    assert gateway.sessions[0].socket.path == "/media/abc"
    assert call.warned(31920)


async def test_handshake_with_slash_option_signs_the_longer_url(autojump_clock):
    """The signature covers the URL with a slash; the path that is asked for does not change."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = connect()
    script = Caller(hangs_up=HangsUp(at_s=0.2))
    async with gateway.running(gateway.sim(stream_options={"trailing_slash": True})) as sim:
        call = await sim.call_in(CALLER, OURS, script)
        await call.ended()
    (session,) = gateway.sessions
    assert session.headers["x-twilio-signature"] == signature(TOKEN, "ws://gw.test/media/abc/")
    assert session.socket.path == "/media/abc"


async def test_two_streams_of_a_call_share_one_time_line(autojump_clock):
    """After a redirect to a second stream, heard and said keep their places."""

    async def converse(session: Session) -> None:
        await session.until("start")
        await session.play(tone(100))
        await trio.sleep(1)

    gateway = TinyGateway(converse)
    second = connect("/media/b")
    gateway.twiml["/twilio/voice"] = connect(
        after=f'<Pause length="2"/><Redirect>{GATEWAY}/twilio/continue</Redirect>'
    )
    gateway.twiml["/twilio/continue"] = second
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS, Caller(says=[Says(audio=tone(40), at_s=3.5)]))
        await call.ended()
    assert len(call.streams) == 2
    assert call.heard[:800] == call.heard[24_000:24_800] == tone(100)
    assert set(call.heard[800:24_000]) == {0xFF}
    assert call.said[28_000:28_320] == tone(40)


async def test_dropped_stream_has_no_stop(autojump_clock):
    """A lost Twilio looks like an abrupt end of the socket to the server."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = connect(after="<Say>Sorry.</Say>")
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await trio.sleep(1)
        assert call.stream is not None
        call.stream.inject('{"event":"novelty"}')
        await trio.sleep(0.1)
        call.stream.drop()
        await call.settled()
    (session,) = gateway.sessions
    assert session.named("novelty")
    assert session.named("stop") == []
    assert session.closed == (1006, None)
    assert call.heard_texts == ["Sorry."]


async def test_converse_that_is_cut_by_hang_up_sees_the_close(autojump_clock):
    """The server's send fails with the close reason once the caller is gone."""

    async def converse(session: Session) -> None:
        await session.until("start")
        with pytest.raises(ConnectionClosed):
            while True:
                await session.play(tone(20))
                await trio.sleep(0.02)
        await session.drain()

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect()
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS, Caller(hangs_up=HangsUp(at_s=1.0)))
        await call.ended()
    assert call.media_messages >= 49
