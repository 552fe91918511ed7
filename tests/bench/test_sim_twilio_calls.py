"""Whole calls of the simulated Twilio against a tiny gateway, in memory, under a mock clock."""

from __future__ import annotations

import wave

import httpx
import pytest

from bench.sim_twilio import Caller, Delivery, HangsUp, Presses, Says
from tests.bench.tiny_gateway import (
    ACCOUNT,
    CALLER,
    GATEWAY,
    OURS,
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
