"""Whole calls of the simulated Twilio against a tiny gateway, in memory, under a mock clock."""

from __future__ import annotations

import wave

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed

from bench.sim_twilio import Caller, Delivery, HangsUp, Presses, Says
from bench.sim_twilio.signing import signature
from tests.bench.tiny_gateway import (
    ACCOUNT,
    CALLER,
    GATEWAY,
    OURS,
    TOKEN,
    Session,
    TinyGateway,
    connect,
    tone,
)


async def test_inbound_call_runs_from_ring_to_hang_up(autojump_clock, tmp_path):
    """A caller is answered, hears the agent, speaks, presses a key and hangs up."""

    async def converse(session: Session) -> None:
        await session.until("start")
        await session.play(tone(500))
        await session.mark("greeting")
        await session.drain()

    gateway = TinyGateway(converse)
    gateway.twiml["/twilio/voice"] = connect(inner='<Parameter name="route" value="acme"/>')
    words = tone(200, 300)
    script = Caller(
        says=[Says(audio=words, at_s=1.0, label="hello")],
        presses=[Presses(digits="5", at_s=1.5)],
        hangs_up=HangsUp(at_s=2.0),
    )
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS, script)
        await call.settled()

    assert (call.status, call.hung_up_by) == ("completed", "caller")
    assert gateway.signatures_bad == 0
    (form,) = gateway.posted("/twilio/voice")
    assert form["CallSid"] == call.sid
    assert form["CallStatus"] == "ringing"
    assert form["FromZip"] == ""
    assert form["AccountSid"] == ACCOUNT
    (session,) = gateway.sessions
    assert session.headers["user-agent"] == "Twilio.TmeWs/1.0"
    assert "sec-websocket-extensions" not in session.headers
    assert [m["event"] for m in session.messages[:3]] == ["connected", "start", "media"]
    start = session.messages[1]["start"]
    assert start["customParameters"] == {"route": "acme"}
    assert start["callSid"] == call.sid
    assert session.messages[-1]["event"] == "stop"
    assert session.closed == (1000, None)
    numbers = [int(m["sequenceNumber"]) for m in session.messages[1:]]
    assert numbers == list(range(1, len(numbers) + 1))
    media = session.named("media")
    assert [int(m["media"]["timestamp"]) for m in media] == [20 * n for n in range(len(media))]
    assert [int(m["media"]["chunk"]) for m in media] == list(range(1, len(media) + 1))
    assert 99 <= len(media) <= 101
    assert [m["dtmf"]["digit"] for m in session.named("dtmf")] == ["5"]
    stream = call.stream
    assert stream is not None
    assert [(round(at, 3), name) for at, name in stream.echoed] == [(0.5, "greeting")]
    assert call.heard[:4000] == tone(500)
    assert set(call.heard[4000:]) == {0xFF}
    assert call.said[8000:9600] == words
    assert set(call.said[:8000] + call.said[9600:]) == {0xFF}
    assert call.behaviour.said == [(1.0, "hello")]
    assert call.underruns == []
    assert [f["StreamEvent"] for f in gateway.posted("/twilio/stream")] == [
        "stream-started",
        "stream-stopped",
    ]
    assert gateway.posted("/twilio/stream")[0]["StreamName"] == "call_1"
    (status,) = gateway.posted("/twilio/status")
    assert (status["CallStatus"], status["SequenceNumber"]) == ("completed", "0")
    path = tmp_path / "call.wav"
    call.write_wav(path)
    with wave.open(str(path)) as found:
        assert found.getnchannels() == 2
        assert abs(found.getnframes() - 16_000) <= 160


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


async def test_caller_who_hangs_up_during_say_ends_the_call(autojump_clock):
    """The verb is cut short."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = f"<Response><Say>{'x' * 1000}</Say><Say>y</Say></Response>"
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS, Caller(hangs_up_after_answer_s=3.0))
        await call.settled()
    assert [v.name for v in call.verbs] == ["Say"]
    assert call.duration_s == 3
    assert call.status == "completed"


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ('<Response><Reject reason="busy"/></Response>', "busy"),
        ("<Response><Reject/></Response>", "no-answer"),
        ("<Response/>", "completed"),
    ],
)
async def test_inbound_call_without_conversation_has_its_status(autojump_clock, document, status):
    """Rejected calls are never answered; an empty document answers and hangs up."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = document
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.settled()
    assert call.status == status
    assert (call.answered_s is None) == (status != "completed")


async def test_number_without_voice_url_fails_in_silence(autojump_clock):
    """No webhook, no debugger entry: just a failed call."""
    gateway = TinyGateway()
    async with gateway.running(gateway.sim()) as sim:
        sim.numbers[OURS].voice_url = ""
        call = await sim.call_in(CALLER, OURS)
        await call.settled()
    assert (call.status, call.warnings) == ("failed", [])


async def test_broken_voice_url_leads_to_the_fallback(autojump_clock):
    """A 500 from the voice URL is not retried; the fallback is told the error and takes over."""
    gateway = TinyGateway()
    gateway.status["/twilio/voice"] = 500
    gateway.twiml["/twilio/voice/fallback"] = "<Response><Say>fallback</Say></Response>"
    async with gateway.running(gateway.sim()) as sim:
        sim.numbers[OURS].voice_fallback_url = GATEWAY + "/twilio/voice/fallback"
        call = await sim.call_in(CALLER, OURS)
        await call.settled()
    assert len(gateway.posted("/twilio/voice")) == 1
    (form,) = gateway.posted("/twilio/voice/fallback")
    assert (form["ErrorCode"], form["ErrorUrl"]) == ("11200", sim.numbers[OURS].voice_url)
    assert call.heard_texts == ["fallback"]


async def test_bad_twiml_without_fallback_plays_the_application_error(autojump_clock):
    """The caller hears that something is wrong, and the debugger says what."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = "<Respond/>"
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.settled()
    assert call.warned(12102)
    assert "application error" in call.heard_texts[0]


async def test_documents_in_a_circle_end(autojump_clock):
    """A redirect to itself does not run for ever."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = "<Response><Redirect>/twilio/voice</Redirect></Response>"
    async with gateway.running(gateway.sim()) as sim:
        call = await sim.call_in(CALLER, OURS)
        await call.settled()
    assert len(gateway.posted("/twilio/voice")) == 101
    assert call.status == "completed"


async def test_dial_records_who_was_dialled_and_asks_the_action(autojump_clock):
    """A transfer is recorded and reported."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = (
        '<Response><Dial action="/twilio/dialled"><Number>+14155550123</Number></Dial></Response>'
    )
    gateway.twiml["/twilio/dialled"] = "<Response><Hangup/></Response>"
    async with gateway.running(gateway.sim()) as sim:
        sim.destinations["+14155550123"] = Caller(result="busy")
        call = await sim.call_in(CALLER, OURS)
        await call.settled()
    assert call.dialled == ["+14155550123"]
    assert gateway.posted("/twilio/dialled")[0]["DialCallStatus"] == "busy"


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


async def test_status_callbacks_shuffled_and_doubled_all_arrive(autojump_clock):
    """Disorder and duplicates by option: nothing is lost, duplicates share their token."""
    gateway = TinyGateway()
    gateway.twiml["/twilio/voice"] = connect()
    delivery = Delivery(shuffled=True, spread_s=60, duplicates=1, late_s=1.0, seed=3)
    async with gateway.running(gateway.sim(delivery=delivery)) as sim:
        calls = [
            await sim.call_in(CALLER, OURS, Caller(hangs_up=HangsUp(at_s=1.0))) for _ in range(12)
        ]
        for call in calls:
            await call.settled()
    events = gateway.posted("/twilio/stream") + gateway.posted("/twilio/status")
    assert len(events) == 12 * 3 * 2
    for call in calls:
        mine = [
            f.get("StreamEvent", "completed")
            for _, f in gateway.forms[12:]
            if f["CallSid"] == call.sid
        ]
        assert sorted(mine) == sorted(["stream-started", "stream-stopped", "completed"] * 2)
    orders = {
        tuple(f.get("StreamEvent") for _, f in gateway.forms if f["CallSid"] == call.sid)
        for call in calls
    }
    assert len(orders) > 1
    assert len(set(gateway.idempotency_tokens)) == 12 + 12 * 3


async def test_dead_status_callback_delays_nobody(autojump_clock):
    """Callbacks that fail are kept as refused, and the call ends as it should."""

    def fail(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/twilio/status":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, text="<Response/>", headers={"content-type": "text/xml"})

    gateway = TinyGateway()
    sim = gateway.sim()
    sim._transport = httpx.MockTransport(fail)
    async with gateway.running(sim):
        call = await sim.call_in(CALLER, OURS)
        await call.settled()
    assert [reply.outcome for reply in call.callbacks.refused] == ["ct"]
    assert [a.number for a in call.webhooks if a.outcome == "ct"] == [0, 1]


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
