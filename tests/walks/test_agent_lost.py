"""The agent's socket dies in mid-sentence: through the real daemon, on one stream, in one record."""

import trio

from bench.rig import open_rig
from bench.sim_elevenlabs import AgentScript, Faults, Utterance
from bench.sim_twilio import Caller, HangsUp
from gateway.comfort import NOISE

OURS = "+14155550199"
THEM = "+14155550100"
HOLD = Utterance.of("agent_hold")


async def test_agent_killed_in_mid_sentence_comes_back_on_the_same_stream(tmp_path):
    """Noise within 300 ms once nothing of the agent is left, the agent again within 3 s, one stream, one record."""
    script = AgentScript(
        first_message=HOLD, faults=Faults(drop_after_s=1.5), response_latency_s=0.05
    )
    with trio.fail_after(120):
        async with open_rig(tmp_path, agents={"agent_1": script}) as rig:
            await rig.create_agent(OURS, "agent_1", record=True)
            call = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=5.0)))
            while not call.streams:
                await trio.sleep(0.02)
            await call.settled()
            record = await rig.record_of(call.sid)
            at_ms = {}
            for line in record["timeline"]:
                at_ms.setdefault(line["name"], line["ms"])
            assert record["result"] == "completed"
            assert record["resumes"] == 0
            assert len(call.streams) == 1
            assert call.heard_texts == []
            assert record["media"]["agent_redials"] >= 1
            assert record["media"]["agent_gaps_ms"][0] < 3000
            assert at_ms["agent_lost"] < at_ms["agent_redial"] < at_ms["agent_back"]
            assert record["recording"] is not None
            talks = [c for c in rig.elevenlabs.conversations.values() if c.initiation]
            context = talks[1].initiation["dynamic_variables"]["gw_resume_context"]
            assert context.startswith("Agent: Thank you")
            assert any("What was said so far" in u["text"] for u in talks[1].contextual_updates)
            # The noise comes right behind the last of the agent's words: no hole, so no underrun.
            if record["media"]["agent_audio"]["comfort_noise_ms"]:
                assert NOISE[:320] in call.heard
            assert call.underruns == []
            assert record["media"]["agent_audio"]["underruns"] == 0
