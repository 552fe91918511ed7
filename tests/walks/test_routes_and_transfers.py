"""Calls that go to people, and tools that agents use: the real daemon between both simulated providers."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import trio

from bench.rig import open_rig
from bench.sim_elevenlabs import AgentScript, Utterance, prompt
from bench.sim_elevenlabs.scenario import ToolCall
from bench.sim_twilio import Caller, HangsUp, Says

OURS = "+14155550199"
THEM = "+14155550100"
PERSON = "+14155550123"
PATIENCE_S = 300.0
HOLD = Utterance.of("agent_hold")
SHORT = Utterance("Hello.", HOLD.pcm16[: 2 * 8_000])
GREETER = AgentScript(first_message=SHORT, response_latency_s=0.05)
TALKER = Caller(
    says=[Says(audio=prompt("caller_complaint").ulaw, after_agent_silence_s=0.3, latest_s=5.0)],
    hangs_up=HangsUp(at_s=40.0),
)


@contextlib.asynccontextmanager
async def rig_for(tmp_path, agents, **options):
    with trio.fail_after(PATIENCE_S):
        async with open_rig(tmp_path, agents=agents, **options) as rig:
            yield rig


async def live_call(rig, sid):
    """Our id of the call with this SID, once its stream runs."""
    while True:
        for item in (await rig.get("/v2/calls", limit=50))["items"]:
            if item["metadata"].get("twilio_call_sid") == sid and item["status"] == "in-progress":
                return item["id"]
        await trio.sleep(0.05)


def around_now(minutes):
    """A window about now, as the agent's zone (UTC) has it, and one that is over."""
    now = datetime.now(UTC)
    clock = [(now + timedelta(minutes=m)).strftime("%H:%M") for m in (-minutes, minutes)]
    return {"from": clock[0], "to": clock[1]}, {"from": clock[1], "to": clock[0]}


async def test_inbound_call_is_routed_by_the_hour_to_a_person(tmp_path):
    """The route of this hour counts, the person answers, and no agent is paid for."""
    now, other = around_now(90)
    routes = [
        {"when": other, "to": {"message": "We are closed."}},
        {"when": now, "to": {"number": PERSON, "timeout_s": 10}, "name": "day"},
    ]
    async with rig_for(tmp_path, {"agent_1": GREETER}) as rig:
        await rig.create_agent(OURS, "agent_1", timezone="UTC", routes=routes)
        rig.twilio.destinations[PERSON] = Caller(answer_after_s=0.2, hangs_up_after_answer_s=1.0)
        call = await rig.twilio.call_in(THEM, OURS, Caller())
        await call.settled()
        record = await rig.record_of(call.sid)
        assert call.dialled == [PERSON]
        assert record["legs"]["route"]["reason"].startswith("agent's route 2 (day)")
        leg = record["legs"]["transfer"]
        assert (leg["status"], leg["by"], leg["duration_s"]) == ("completed", "route", 1)
        assert record["result"] == "completed"
        assert record["answered_at"] is not None
        assert call.warnings == []
        talks = [c for c in rig.elevenlabs.conversations.values() if c.initiation is not None]
        assert talks == []


async def test_transfer_by_request_and_back_when_nobody_answers(tmp_path):
    """The first person does not answer: the caller is back with an agent who knows; the second one does."""
    async with rig_for(tmp_path, {"agent_1": GREETER}) as rig:
        await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[PERSON] = Caller(result="no-answer", answer_after_s=0.1)
        call = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=60.0)))
        call_id = await live_call(rig, call.sid)
        path = f"/v2/calls/{call_id}/transfer"
        asked = {"to": {"number": PERSON}, "announce": "One moment.", "timeout_s": 5}
        answered = await rig.api.post(path, json=asked)
        assert answered.status_code == 200, answered.text
        while len(call.streams) < 2 or not call.streams[1].times.t_start_sent:
            await trio.sleep(0.05)
        while len(talks := _begun(rig)) < 2:  # its agent leg may come up after its stream
            await trio.sleep(0.05)
        context = talks[1].initiation["dynamic_variables"]["gw_resume_context"]
        assert "nobody answered" in context
        rig.twilio.destinations[PERSON] = Caller(answer_after_s=0.1, hangs_up_after_answer_s=1.0)
        while True:
            answered = await rig.api.post(path, json={"to": {"number": PERSON}})
            if answered.status_code != 409:
                break
            await trio.sleep(0.1)
        assert answered.status_code == 200, answered.text
        await call.settled()
        record = await rig.record_of(call.sid)
        assert (record["result"], record["legs"]["transfer"]["status"]) == (
            "completed",
            "completed",
        )
        assert record["legs"]["transfer"]["number"] == 2
        assert "One moment." in call.heard_texts
        assert not [text for text in call.heard_texts if "problem" in text]
        assert call.warnings == []
        stats = await rig.get("/v2/stats", group_by="agent,day")
        assert stats["total"]["calls"] == stats["groups"][0]["calls"] == 1


async def test_transfer_that_the_model_asks_for_reaches_the_person(tmp_path):
    """The agent calls the tool, policy is asked, the caller is put through."""
    script = AgentScript(
        first_message=SHORT,
        replies=(SHORT,),
        transcripts=("A person, please.",),
        response_latency_s=0.05,
        tool_calls=(ToolCall(1, "transfer_to_number", {"number": PERSON, "reason": "A leak."}),),
    )
    async with rig_for(tmp_path, {"agent_1": script}) as rig:
        await rig.create_agent(OURS, "agent_1", transfer_numbers=[PERSON])
        rig.twilio.destinations[PERSON] = Caller(answer_after_s=0.1, hangs_up_after_answer_s=1.0)
        call = await rig.twilio.call_in(THEM, OURS, TALKER)
        await call.settled()
        record = await rig.record_of(call.sid)
        assert call.dialled == [PERSON]
        leg = record["legs"]["transfer"]
        assert (leg["by"], leg["status"]) == ("agent", "completed")
        assert leg["decision"]["allowed"]
        assert record["result"] == "completed"


async def test_tool_is_answered_and_the_talk_goes_on(tmp_path):
    """An opt-out is on the list, a tool that does not exist is an error, and both answers are sent once."""
    script = AgentScript(
        first_message=SHORT,
        replies=(SHORT,),
        transcripts=("Never call me again.",),
        response_latency_s=0.05,
        tool_calls=(
            ToolCall(1, "opt_out", {"reason": "Never call me again."}),
            ToolCall(1, "fly", {}),
        ),
        end_call_after_reply=1,
    )
    async with rig_for(tmp_path, {"agent_1": script}) as rig:
        await rig.create_agent(OURS, "agent_1")
        call = await rig.twilio.call_in(THEM, OURS, TALKER)
        await call.settled()
        await rig.record_of(call.sid)
        (talk,) = [c for c in rig.elevenlabs.conversations.values() if c.initiation is not None]
        assert [one["is_error"] for one in talk.tool_results] == [False, True]
        assert "there is no tool fly" in talk.tool_results[1]["result"]
        listed = await rig.get("/v2/opt-outs")
        assert [entry["e164"] for entry in listed["items"]] == [THEM]


async def test_warm_transfer_rings_first_and_joins_both_in_a_room(tmp_path):
    """The person hears what it is about while the caller still talks to the agent; then both are in a room."""
    async with rig_for(tmp_path, {"agent_1": GREETER}) as rig:
        await rig.create_agent(OURS, "agent_1")
        rig.twilio.destinations[PERSON] = Caller(answer_after_s=0.3, hangs_up_after_answer_s=6.0)
        call = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=60.0)))
        call_id = await live_call(rig, call.sid)
        asked = {"to": {"number": PERSON}, "mode": "warm", "summary": "Ada, about a leak."}
        answered = await rig.api.post(f"/v2/calls/{call_id}/transfer", json=asked)
        assert answered.status_code == 202, answered.text
        await call.settled()
        record = await rig.record_of(call.sid)
        (person,) = [one for one in rig.twilio.calls.values() if one.sid != call.sid]
        assert person.heard_texts == ["Ada, about a leak."]
        assert call.events("conference-join")[0]["room"] == record["legs"]["transfer"]["room"]
        assert (record["legs"]["transfer"]["status"], record["result"]) == (
            "completed",
            "completed",
        )
        assert person.is_over


def _begun(rig):
    """The conversations that have their initiation, in order."""
    return [c for c in rig.elevenlabs.conversations.values() if c.initiation is not None]
