"""An agent that is dead for good: the caller reaches the person whom the agent names, or hears the regret."""

from __future__ import annotations

import trio

from bench.rig import open_rig
from bench.sim_elevenlabs import AgentScript, Faults, Utterance
from bench.sim_twilio import Caller, HangsUp

NUMBERS = ("+14155550197", "+14155550198", "+14155550199")
THEM = "+14155550100"
PERSON = "+14155550123"
HOLD = Utterance.of("agent_hold")
DIES = AgentScript(first_message=HOLD, faults=Faults(drop_after_s=1.5), response_latency_s=0.05)
DEAD = AgentScript(first_message=HOLD, faults=Faults(refuse_upgrade=500))
REGRET = "cannot take your call right now"


async def test_agent_dead_for_good_leads_the_caller_to_the_person(tmp_path):
    """One dies in mid-talk and does not come back, one is dead from the start; a third has no fallback."""
    agents = {"dies": DIES, "dead": DEAD, "alone": DEAD}
    # What dies is dialled again in vain: nothing of it answers from then on.
    media = {"agent_redial_s": 1.0, "workers": 1}
    with trio.fail_after(400):
        async with open_rig(tmp_path, agents=agents, numbers=NUMBERS, media=media) as rig:
            fallback = {"number": PERSON, "timeout_s": 10}
            for number, name in zip(NUMBERS, agents, strict=True):
                given = {} if name == "alone" else {"fallback": fallback}
                agent = await rig.create_agent(number, name, **given)
                assert agent["fallback"] == given.get("fallback")
            rig.twilio.destinations[PERSON] = Caller(
                answer_after_s=0.2, hangs_up_after_answer_s=1.0
            )
            calls = {}
            for number, name in zip(NUMBERS, agents, strict=True):
                patient = Caller(hangs_up=HangsUp(at_s=60.0))
                calls[name] = await rig.twilio.call_in(THEM, number, patient)
            while not calls["dies"].media_messages:
                await trio.sleep(0.02)
            rig.elevenlabs.book.agents["dies"].script = DEAD
            for call in calls.values():
                await call.settled()
            records = {name: await rig.record_of(call.sid) for name, call in calls.items()}
            for name in ("dies", "dead"):
                record, call = records[name], calls[name]
                assert call.dialled == [PERSON]
                assert (record["result"], record["blame"]) == ("fallback", "agent")
                assert record["legs"]["fallback"]["cause"]["result"] == "agent_fault"
                leg = record["legs"]["transfer"]
                assert (leg["by"], leg["status"]) == ("fallback", "completed")
                assert leg["decision"]["allowed"]
                assert not [text for text in call.heard_texts if REGRET in text]
            assert HOLD.encoded("ulaw_8000")[:4_000] in calls["dies"].heard
            assert calls["alone"].dialled == []
            assert REGRET in calls["alone"].heard_texts[-1]
            assert (records["alone"]["result"], records["alone"]["blame"]) == (
                "agent_fault",
                "agent",
            )
