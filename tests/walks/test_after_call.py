"""After the call, through the real daemon: results, messages and pushes, with targets that fail and kills between."""

from __future__ import annotations

import contextlib
import secrets

import httpx
import pytest
import trio

from bench.rig import open_rig
from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_elevenlabs.post_call import PostCall, envelope, signature
from bench.sim_twilio import Caller, HangsUp
from control.clock import Clock
from tests.receiver import Receiver

OURS = "+14155550199"
THEM = "+14155550100"
CALLEE = "+14155550123"
HOLD = Utterance.of("agent_hold")
SHORT = Utterance("Hello.", HOLD.pcm16[: 2 * 8_000])
PATIENCE_S = 300.0
LEAVES_SOON = Caller(hangs_up=HangsUp(at_s=1.5))
EXTRACTIONS = {
    "name": {"type": "string", "required": True},
    "party_size": {"type": "integer"},
    "seat": {"type": "string", "enum": ["inside", "outside"]},
    "budget": {"type": "number", "required": True},
}
COLLECTED = {"name": "Ada", "party_size": "4", "seat": "Outside", "budget": "not much"}
SMS = {
    "template": "{business_name}: {party_size} people, {seat}. Thank you {name}! Reply STOP to end.",
    "when": {"extracted": ["name"]},
    "sender": "a2p_10dlc",
}
TEXT = "agent_1: 4 people, outside. Thank you Ada! Reply STOP to end."
GREETER = AgentScript(first_message=SHORT, response_latency_s=0.05, data_collection=COLLECTED)


@contextlib.asynccontextmanager
async def rig_for(tmp_path, monkeypatch, **environment):
    secret = secrets.token_hex(8)
    given = {
        "TANDEM_CONTROL_WEBHOOK_ALLOW_PRIVATE": "true",
        "TANDEM_CONTROL_WEBHOOK_RETRY_S": "0.1",
        "TANDEM_ELEVENLABS_WEBHOOK_SECRET": f"former-secret,{secret}",
    } | environment
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents={"agent_1": GREETER}) as rig:
            await rig.create_agent(OURS, "agent_1", extractions=EXTRACTIONS, sms=SMS)
            rig.twilio.numbers[OURS].sms_url = rig.public_url + "/twilio/sms"
            rig.webhook_secret = secret
            yield rig


async def until(rig, call_id, wanted):
    """The call's record, once `wanted(record)` holds."""
    while True:
        record = await rig.get(f"/v2/calls/{call_id}")
        if wanted(record):
            return record
        await trio.sleep(0.1)


def names(record):
    return [line["name"] for line in record["timeline"]]


async def status_of_large_body(url, size):
    """What is answered to the head alone of such a body; None: the body is waited for."""
    address = httpx.URL(url)
    stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        head = f"POST {address.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        await stream.send_all(head.encode())
        with trio.move_on_after(1.0):
            return int((await stream.receive_some(4096)).split()[1])
    return None


async def test_both_calls_come_back_as_data_and_as_messages(tmp_path, monkeypatch):
    """Inbound by the webhook (sent twice), outbound by polling as well; each one message, one result."""
    async with rig_for(tmp_path, monkeypatch) as rig, trio.open_nursery() as nursery:
        receiver = Receiver([500, 500, 500, 200])
        await nursery.start(receiver.run)
        webhook = await rig.post(
            "/v2/webhooks", {"url": receiver.url, "events": ["call.result", "message.received"]}
        )
        hook = PostCall(
            rig.elevenlabs, rig.public_url + "/elevenlabs/post-call", rig.webhook_secret, copies=2
        )
        await nursery.start(hook.run)
        rig.twilio.destinations[CALLEE] = Caller(answer_after_s=0.2, hangs_up=HangsUp(at_s=1.5))
        inbound = await rig.twilio.call_in(THEM, OURS, LEAVES_SOON)
        body = {"agent_id": rig.agents["agent_1"], "to": CALLEE}
        made = await rig.post("/v2/calls/initiate", body)
        outbound = rig.twilio.calls[made["metadata"]["twilio_call_sid"]]
        for call, customer in ((inbound, THEM), (outbound, CALLEE)):
            await call.settled()
            brief = await rig.record_of(call.sid)
            record = await until(rig, brief["id"], lambda it: "sms_delivered" in names(it))
            assert record["metadata"]["twilio_call_sid"] == call.sid
            assert record["transcript"][0]["text"] == "Hello."
            assert record["analysis"]["status"] == "done"
            assert record["summary"] == GREETER.summary
            assert record["extractions"] == {
                "name": "Ada",
                "party_size": 4,
                "seat": "outside",
                "budget": None,
            }
            assert record["extraction_problems"] == {
                "budget": {"error": "expected a number, got another text", "raw": "not much"}
            }
            assert record["cost"]["elevenlabs"]["credits"] >= 0
            (text,) = rig.twilio.post.sent_to(customer)
            assert (text.body, text.from_number, text.status) == (TEXT, OURS, "delivered")
            (shown,) = (await rig.get("/v2/messages", call_id=record["id"]))["items"]
            assert (shown["status"], shown["twilio_sid"]) == ("delivered", text.sid)
        listed = (await rig.get("/v2/calls"))["items"]
        assert {item["metadata"]["twilio_call_sid"] for item in listed} == {
            inbound.sid,
            outbound.sid,
        }
        while True:
            deliveries = (await rig.get(f"/v2/webhooks/{webhook['id']}/deliveries"))["items"]
            if [one["status"] for one in deliveries] == ["delivered"] * 2:
                break
            await trio.sleep(0.1)
        assert sum(one["attempts"] for one in deliveries) == 5
        results = receiver.verified(webhook["secret"])
        assert {one["type"] for one in results} == {"call.result"}
        assert {one["data"]["extractions"]["name"] for one in results} == {"Ada"}
        assert len({one["data"]["id"] for one in results}) == 2
        assert {status for _, status in hook.answers} == {200}
        nursery.cancel_scope.cancel()


async def test_keywords_change_the_list_before_they_are_answered(tmp_path, monkeypatch):
    """STOP, then no message after a call (policy), then START; a forged request changes nothing."""
    async with rig_for(tmp_path, monkeypatch) as rig:
        forged = await rig.api.post(
            rig.public_url + "/twilio/sms", data={"From": THEM, "To": OURS, "Body": "STOP"}
        )
        assert forged.status_code == 403
        assert (await rig.get("/v2/opt-outs"))["items"] == []
        _, reply = await rig.twilio.text_in(THEM, OURS, " stop. ")
        assert (reply.status, b"<Message" in reply.body) == (200, False)
        assert [one["e164"] for one in (await rig.get("/v2/opt-outs"))["items"]] == [THEM]
        call = await rig.twilio.call_in(THEM, OURS, LEAVES_SOON)
        await call.settled()
        brief = await rig.record_of(call.sid)
        record = await until(
            rig, brief["id"], lambda it: {"sms_blocked", "sms_not_due"} & set(names(it))
        )
        assert rig.twilio.post.sent_to(THEM) == []
        assert record["id"] == brief["id"]
        _, reply = await rig.twilio.text_in(THEM, OURS, "Start")
        assert reply.status == 200
        assert [one["scope"] for one in (await rig.get("/v2/opt-outs"))["items"]] == ["voice"]
        _, reply = await rig.twilio.text_in(THEM, OURS, "Do you open at nine?")
        assert reply.status == 200
        texts = (await rig.get("/v2/messages", direction="inbound"))["items"]
        assert [one["body"] for one in texts] == ["Do you open at nine?", "Start", " stop. "]


@pytest.mark.parametrize(
    "point", ["after_call.begun", "analysis.applied", "sms.meant", "sms.sent", "sms.created"]
)
async def test_killed_between_two_steps_sends_one_message(tmp_path, monkeypatch, point):
    """SIGKILL at each step of what comes after the call; the next daemon goes on, and nothing is sent twice."""
    async with rig_for(
        tmp_path, monkeypatch, TANDEM_FAIL_POINT=point, TANDEM_TWILIO_MESSAGE_SETTLE_S="1"
    ) as rig:
        call = await rig.twilio.call_in(THEM, OURS, LEAVES_SOON)
        await call.settled()
        while rig.daemon.process.poll() is None:
            await trio.sleep(0.05)
        assert rig.daemon.process.returncode == -9
        del rig.environment["TANDEM_FAIL_POINT"]
        await rig.restart_daemon()
        brief = await rig.record_of(call.sid)
        await until(rig, brief["id"], lambda it: "sms_sent" in names(it))
        assert [one.body for one in rig.twilio.post.sent_to(THEM)] == [TEXT]
        assert len((await rig.get("/v2/messages"))["items"]) == 1


async def test_post_call_webhook_of_nobody_and_of_no_call(tmp_path, monkeypatch):
    """Unsigned and old ones are refused; one for a call that is not ours is answered well, and kept."""
    async with rig_for(tmp_path, monkeypatch) as rig:
        url = rig.public_url + "/elevenlabs/post-call"
        now_s = Clock().now().timestamp()
        data = {"agent_id": "agent_x", "conversation_id": "conv_x", "status": "done"}
        body = envelope(data, now_s)
        for at_s, key, status in (
            (now_s, "wrong", 401),
            (now_s - 3600, rig.webhook_secret, 401),
            (now_s + 3600, rig.webhook_secret, 401),
            (now_s, rig.webhook_secret, 200),
            (now_s, "former-secret", 200),
        ):
            headers = {"ElevenLabs-Signature": signature(key, body, at_s)}
            assert (await rig.api.post(url, content=body, headers=headers)).status_code == status
        assert (await rig.api.post(url, content=body)).status_code == 401
        assert await status_of_large_body(url, 7 * 1024 * 1024) is None
        assert await status_of_large_body(url, 9 * 1024 * 1024) == 413
        metrics = (await rig.api.get("/metrics")).text
        assert 'outcome="unknown",path="/elevenlabs/post-call"} 1.0' in metrics
        assert 'outcome="repeated",path="/elevenlabs/post-call"} 1.0' in metrics
