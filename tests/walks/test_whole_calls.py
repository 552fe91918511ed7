"""Whole calls through the real daemon process, its real sockets and both simulated providers."""

import contextlib
import io
import os
import wave

import httpx
import pytest
import trio

from bench.rig import ACCOUNT_SID, RigError, open_rig
from bench.sim_elevenlabs import AgentScript, Faults, RestFaults, Utterance, prompt
from bench.sim_twilio import Caller, Delivery, HangsUp, Presses, Says

OURS = "+14155550199"
THEM = "+14155550100"
CALLEE = "+14155550123"
HOLD = Utterance.of("agent_hold")
BYE = Utterance.of("agent_goodbye")
SHORT = Utterance("Hello.", HOLD.pcm16[: 2 * 8_000])
"""One second of speech."""
PATIENCE_S = 400.0

GREETER = AgentScript(first_message=SHORT, response_latency_s=0.05)
LEAVES_SOON = Caller(hangs_up=HangsUp(at_s=2.0))


@contextlib.asynccontextmanager
async def rig_for(tmp_path, agents, **options):
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents=agents, **options) as rig:
            yield rig


def names(record):
    return [entry["name"] for entry in record["timeline"]]


async def test_inbound_call_with_barge_in_is_told_completely(tmp_path):
    """Speech bit for bit both ways, one barge-in, the record with everything the contract names."""
    script = AgentScript(
        first_message=HOLD,
        replies=(Utterance.of("agent_long"), SHORT),
        transcripts=(prompt("caller_complaint").text, prompt("caller_barge_in").text),
        alignment=True,
        response_latency_s=0.05,
    )
    caller = Caller(
        says=[
            Says(audio=prompt("caller_complaint").ulaw, at_s=0.2, label="talks into the greeting"),
            Says(
                audio=prompt("caller_barge_in").ulaw,
                after_agent_speaking_s=1.5,
                latest_s=15.0,
            ),
        ],
        presses=[Presses(digits="7", at_s=4.0)],
        hangs_up=HangsUp(after_agent_silence_s=0.6, latest_s=25.0),
    )
    async with rig_for(tmp_path, {"agent_1": script}) as rig:
        await rig.create_agent(OURS, "agent_1", record=True)
        call = await rig.twilio.call_in(THEM, OURS, caller)
        await call.settled()
        record = await rig.record_of(call.sid)
        (conversation,) = [
            c for c in rig.elevenlabs.conversations.values() if c.initiation is not None
        ]
        assert (record["status"], record["result"], record["blame"]) == (
            "completed",
            "completed",
            None,
        )
        assert record["metadata"]["twilio_call_sid"] == call.sid
        assert record["metadata"]["elevenlabs_conversation_id"] == conversation.conversation_id
        assert record["decision"]["allowed"]
        assert conversation.initiation["dynamic_variables"]["caller_number"] == THEM
        assert bytes(call.said).startswith(conversation.received_ulaw)
        assert SHORT.encoded("ulaw_8000") in call.heard
        assert len(call.clears) == record["media"]["barge_ins"] == 2
        assert call.underruns == []
        assert call.warnings == []
        assert rig.elevenlabs.violations == []
        assert any("7" in update["text"] for update in conversation.contextual_updates)
        cut = [turn for turn in record["transcript"] if turn["interrupted"]]
        assert len(cut) == 2
        assert all(turn["text"].startswith(turn["heard"]) for turn in cut)
        assert 0 < len(cut[1]["heard"]) < len(cut[1]["text"])
        assert [t["text"] for t in record["transcript"] if t["role"] == "user"] == list(
            script.transcripts
        )
        for name in ("ringing", "agent_ready", "stream_started", "first_audio_sent", "barge_in"):
            assert name in names(record)
        frames = record["media"]["caller_audio"]
        assert frames["frames"] == frames["sent_frames"] == len(conversation.received) // 160
        recording = await rig.api.get(record["recording"]["url"])
        with wave.open(io.BytesIO(recording.content)) as stereo:
            assert (stereo.getnchannels(), stereo.getframerate()) == (2, 8000)
            assert stereo.getnframes() / 8000 == pytest.approx(len(call.said) / 8000, abs=0.2)
        # A repeated webhook gets no second call, and the used ticket admits nobody.
        assert len((await rig.get("/v2/calls"))["items"]) == 1


async def test_outbound_call_is_placed_answered_and_ended_by_the_agent(tmp_path):
    """One request; the agent warm at ringing; ended by REST before our socket closes, so no apology."""
    script = AgentScript(
        first_message=SHORT,
        replies=(SHORT,),
        transcripts=("Sorry?",),
        end_call_after_reply=1,
        response_latency_s=0.05,
    )
    callee = Caller(
        answer_after_s=0.5,
        says=[Says(audio=prompt("caller_sorry").ulaw, after_agent_silence_s=0.3, latest_s=8.0)],
    )
    async with rig_for(tmp_path, {"agent_1": script}) as rig:
        await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[CALLEE] = callee
        body = {
            "agent_id": rig.agents["agent_1"],
            "to": CALLEE,
            "variables": {"customer": "Ana"},
            "metadata": {"crm": "17"},
        }
        first = await rig.post("/v2/calls/initiate", body, **{"Idempotency-Key": "k1"})
        again = await rig.post("/v2/calls/initiate", body, **{"Idempotency-Key": "k1"})
        assert first == again
        assert first["decision"]["allowed"]
        call = rig.twilio.calls[first["metadata"]["twilio_call_sid"]]
        await call.settled()
        record = await rig.record_of(call.sid)
        assert (record["direction"], record["status"]) == ("outbound", "completed")
        assert record["metadata"]["crm"] == "17"
        assert record["reason"] == "agent ended the call"
        assert call.heard_texts == []
        assert len(rig.twilio.calls) == 1
        order = names(record)
        assert order.index("agent_ready") < order.index("answered")
        assert order.index("drained") < order.index("hung_up")
        assert call.heard.count(SHORT.encoded("ulaw_8000")) == 2
        (conversation,) = [c for c in rig.elevenlabs.conversations.values() if c.initiation]
        assert conversation.initiation["dynamic_variables"]["customer"] == "Ana"


AGENT_FAULTS = {
    "refused_401": (AgentScript(faults=Faults(refuse_upgrade=401)), "(401)"),
    "refused_429": (AgentScript(faults=Faults(refuse_upgrade=429)), "(429)"),
    "url_429": (AgentScript(rest=RestFaults(signed_url_status=429)), "(429)"),
    "silent": (AgentScript(faults=Faults(silent=True)), "metadata"),
    "garbage": (AgentScript(faults=Faults(first_frame="not_json")), "not a conversation event"),
    "wrong_format": (
        AgentScript(first_message=SHORT, faults=Faults(claimed_output_format="opus_48000")),
        "opus_48000",
    ),
    "dropped": (AgentScript(first_message=BYE, faults=Faults(drop_after_s=1.0)), "1006"),
    "closed_1008": (
        AgentScript(
            first_message=BYE,
            faults=Faults(close_after_s=1.0, close_code=1008, error_type="override_error"),
        ),
        "override_error",
    ),
}


async def test_agent_that_fails_in_any_way_leaves_a_caller_who_hears_why_and_a_record(tmp_path):
    """All at once: each caller hears the fallback verbs, each record blames the agent with its reason."""
    numbers = {name: f"+1415555{2000 + n}" for n, name in enumerate(AGENT_FAULTS)}
    scripts = {name: script for name, (script, _) in AGENT_FAULTS.items()} | {"good": GREETER}
    numbers["good"] = OURS
    media = {
        "agent_first_message_timeout_s": 1.5,
        "agent_handshake_timeout_s": 2.0,
        "agent_redials": 0,
    }
    async with rig_for(tmp_path, scripts, numbers=tuple(numbers.values()), media=media) as rig:
        for name, number in numbers.items():
            await rig.create_agent(number, name)
        calls = {}
        for name, number in numbers.items():
            patient = Caller(hangs_up=HangsUp(at_s=20.0)) if name != "good" else LEAVES_SOON
            calls[name] = await rig.twilio.call_in(THEM, number, patient)
        for call in calls.values():
            await call.settled()
        for name, (_, words) in AGENT_FAULTS.items():
            record = await rig.record_of(calls[name].sid)
            assert record["result"] == "agent_fault", (name, record["reason"])
            assert record["blame"] == "agent", name
            assert words in record["reason"], (name, record["reason"])
            assert calls[name].heard_texts, f"{name}: the caller heard nothing"
            assert record["ended_at"], name
        good = await rig.record_of(calls["good"].sid)
        assert good["result"] == "completed"
        assert calls["good"].underruns == []


async def test_agent_lost_once_is_replaced_with_the_talk_so_far(tmp_path):
    """After the apology a new conversation begins that knows what was said."""
    script = AgentScript(
        first_message=HOLD, faults=Faults(drop_after_s=1.5), response_latency_s=0.05
    )
    async with rig_for(tmp_path, {"agent_1": script}, media={"agent_redials": 0}) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=6.0)))
        await call.settled()
        record = await rig.record_of(call.sid)
        assert record["resumes"] == 1
        first, second, *_ = [c for c in rig.elevenlabs.conversations.values() if c.initiation]
        context = second.initiation["dynamic_variables"]["gw_resume_context"]
        assert context.startswith("Agent: Thank you")
        assert first.conversation_id != second.conversation_id
        assert len(call.streams) == 2


async def test_callbacks_in_any_order_and_twice_change_nothing(tmp_path):
    """Shuffled, repeated and late status callbacks: one record, forward only."""
    async with rig_for(tmp_path, {"agent_1": GREETER}) as rig:
        rig.twilio.delivery = Delivery(duplicates=2, shuffled=True, spread_s=0.3, seed=3)
        await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[CALLEE] = Caller(answer_after_s=0.3, hangs_up=HangsUp(at_s=1.5))
        answer = await rig.post(
            "/v2/calls/initiate", {"agent_id": rig.agents["agent_1"], "to": CALLEE}
        )
        call = rig.twilio.calls[answer["metadata"]["twilio_call_sid"]]
        await call.settled()
        record = await rig.record_of(call.sid)
        assert record["status"] == "completed"
        assert len((await rig.get("/v2/calls"))["items"]) == 1
        assert names(record).count("answered") <= 1


@pytest.mark.parametrize("result", ["busy", "no-answer", "failed"])
async def test_call_that_is_not_answered_is_reported_with_twilios_word(tmp_path, result):
    """No stream, no fault of ours, and the warm agent is let go."""
    async with rig_for(tmp_path, {"agent_1": GREETER}) as rig:
        await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[CALLEE] = Caller(result=result, answer_after_s=0.3)
        answer = await rig.post(
            "/v2/calls/initiate", {"agent_id": rig.agents["agent_1"], "to": CALLEE}
        )
        record = await rig.record_of(answer["metadata"]["twilio_call_sid"])
        assert record["status"] == result
        await trio.sleep(0)
        for conversation in rig.elevenlabs.conversations.values():
            if conversation.initiation:
                assert conversation.close_code == 1000


async def test_lost_answer_of_a_create_never_dials_twice(tmp_path):
    """Twilio made the call and the answer got lost: the callback tells, and one telephone rings."""
    async with rig_for(tmp_path, {"agent_1": GREETER}) as rig:
        await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[CALLEE] = Caller(answer_after_s=0.3, hangs_up=HangsUp(at_s=1.0))
        rig.twilio.lose_answer("POST", "/Calls", acted=True)
        response = await rig.api.post(
            "/v2/calls/initiate", json={"agent_id": rig.agents["agent_1"], "to": CALLEE}
        )
        assert response.status_code in (201, 202)
        (call,) = rig.twilio.calls.values()
        await call.settled()
        record = await rig.record_of(call.sid)
        assert record["status"] == "completed"
        assert len(rig.twilio.calls) == 1


async def test_opted_out_number_is_never_dialled(tmp_path):
    """403 with the decision, the refusal on record, and nothing sent to Twilio."""
    async with rig_for(tmp_path, {"agent_1": GREETER}) as rig:
        await rig.create_agent(OURS, "agent_1")
        await rig.post("/v2/opt-outs", {"e164": CALLEE, "reason": "asked to stop"})
        response = await rig.api.post(
            "/v2/calls/initiate", json={"agent_id": rig.agents["agent_1"], "to": CALLEE}
        )
        assert response.status_code == 403
        assert response.headers["content-type"].startswith("application/problem+json")
        decision = response.json()["decision"]
        assert (decision["allowed"], decision["outcome"]) == (False, "deny")
        assert "DNC-INT" in [rule["id"] for rule in decision["rules"] if rule["outcome"] == "deny"]
        assert rig.twilio.calls == {}
        (item,) = (await rig.get("/v2/calls"))["items"]
        assert item["status"] == "blocked"


async def test_hang_up_by_api_ends_the_call_at_twilio_without_an_apology(tmp_path):
    """REST first, then our socket."""
    async with rig_for(tmp_path, {"agent_1": AgentScript(first_message=BYE)}) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, Caller())
        while not call.media_messages:
            await trio.sleep(0.02)
        (item,) = (await rig.get("/v2/calls"))["items"]
        await rig.post(f"/v2/calls/{item['id']}/hangup")
        await call.settled()
        record = await rig.record_of(call.sid)
        assert record["status"] == "completed"
        assert call.heard_texts == []


async def test_strangers_get_nothing(tmp_path):
    """Bad or missing signatures, unknown numbers and foreign tickets: refused before anything is opened."""
    async with rig_for(tmp_path, {"agent_1": GREETER}) as rig:
        await rig.create_agent(OURS, "agent_1")
        opened = len(rig.elevenlabs.conversations)
        async with httpx.AsyncClient(base_url=rig.public_url, trust_env=False) as stranger:
            form = {"CallSid": "CA" + "1" * 32, "From": THEM, "To": OURS, "AccountSid": ACCOUNT_SID}
            for headers in ({}, {"X-Twilio-Signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}):
                answer = await stranger.post("/twilio/voice", data=form, headers=headers)
                assert (answer.status_code, answer.content) == (403, b"")
            upgrade = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            }
        async with httpx.AsyncClient(base_url=rig.public_url, trust_env=False) as stranger:
            answer = await stranger.get("/media/unknown-ticket", headers=upgrade)
            assert answer.status_code == 403
        assert (await rig.get("/v2/calls"))["items"] == []
        assert len(rig.elevenlabs.conversations) == opened
        metrics = (await rig.api.get("/metrics")).text
        assert "tandem_signature_failures_total 3.0" in metrics


async def test_sigterm_lets_the_call_end_and_exits_cleanly(tmp_path):
    """Draining: not ready, no new calls, the one in progress says its goodbye; exit code 0."""
    media = {"drain_timeout_s": 1.0}
    async with rig_for(tmp_path, {"agent_1": GREETER}, media=media) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, Caller())
        while not call.media_messages:
            await trio.sleep(0.02)
        assert await rig.daemon.stop() == 0
        await call.settled()
        assert call.status == "completed"
        assert call.heard_texts == []
        await rig.restart_daemon()
        record = await rig.record_of(call.sid)
        assert record["result"] == "drained"


async def test_port_in_use_is_named_and_the_exit_code_is_1(tmp_path):
    """The message names the key to change."""
    async with rig_for(tmp_path / "first", {"agent_1": GREETER}) as rig:
        config = rig.daemon.config_path.read_text()
        second = tmp_path / "second"
        second.mkdir()
        (second / "config.toml").write_text(config.replace("/first/", "/second/"))
        process = await trio.run_process(
            [
                os.sys.executable,
                "-m",
                "control",
                "serve",
                "--config",
                str(second / "config.toml"),
            ],
            capture_stderr=True,
            check=False,
            env=rig.environment,
        )
        assert process.returncode == 1
        assert b"public.listen" in process.stderr


async def test_missing_secret_is_exit_2_and_named(tmp_path):
    """Before anything is opened."""
    (tmp_path / "config.toml").write_text('[public]\nurl = "https://voice.example.com"\n')
    process = await trio.run_process(
        [os.sys.executable, "-m", "control", "serve", "--config", str(tmp_path / "config.toml")],
        capture_stderr=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("TANDEM_")},
    )
    assert process.returncode == 2
    assert b"auth_token" in process.stderr


async def test_rig_says_why_a_daemon_does_not_start(tmp_path):
    """The rig itself fails loudly."""
    with pytest.RaisesGroup(pytest.RaisesExc(RigError, match="not_a_key")):
        async with rig_for(tmp_path, {"agent_1": GREETER}, media={"not_a_key": 1}):
            pass
