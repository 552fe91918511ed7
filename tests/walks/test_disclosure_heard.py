"""What the law wants said, through the real daemon: the record says when it was heard, by Twilio's marks."""

from __future__ import annotations

from bench.sim_elevenlabs import AgentScript, Utterance
from bench.sim_twilio import Caller, HangsUp
from tests.walks.test_whole_calls import OURS, SHORT, rig_for

THEM = "+12127360100"


async def test_lines_of_a_call_that_was_heard_to_the_end_have_their_times(tmp_path):
    """In the order of the law; the offer begins within two seconds of the identification's end."""
    async with rig_for(
        tmp_path,
        {"agent_1": AgentScript(first_message=SHORT, response_latency_s=0.05)},
        rules=("system", "opt_out", "disc_script", "rec_notice"),
    ) as rig:
        agent = await rig.create_agent(
            OURS, "agent_1", record=True, manage=True, first_message="Good day.",
            purpose="marketing", script={"callback_number": True},
        )  # fmt: skip
        rig.twilio.destinations[THEM] = Caller(
            hangs_up=HangsUp(after_agent_silence_s=0.5, latest_s=20.0)
        )
        made = await rig.post("/v2/calls/initiate", {"agent_id": agent["id"], "to": THEM})
        record = await rig.record_of(made["metadata"]["twilio_call_sid"], timeout_s=90.0)
        heard = record["disclosure"]
        assert 0 < heard["first_word_ms"] < heard["disclosed_identity_ms"]
        assert heard["disclosed_identity_ms"] <= heard["disclosed_ai_ms"]
        assert heard["disclosed_identity_ms"] <= heard["offered_optout_ms"]
        assert heard["offered_optout_ms"] < heard["recording_notice_ms"]
        assert heard["abandoned"] is (heard["first_word_ms"] > 2000)
        assert "disclosure" not in record["legs"]
        (first,) = [one for one in record["timeline"] if one["name"] == "first_word_heard"]
        (sent,) = [one for one in record["timeline"] if one["name"] == "first_audio_sent"]
        assert first["ms"] >= sent["ms"]


async def test_call_that_ends_before_the_opt_out_was_offered_does_not_say_that_it_was(tmp_path):
    """The text was sent all the same."""
    async with rig_for(
        tmp_path,
        {"agent_1": AgentScript(first_message=Utterance.of("agent_long"), response_latency_s=0.05)},
        rules=("system", "opt_out", "disc_script", "rec_notice"),
    ) as rig:
        agent = await rig.create_agent(
            OURS, "agent_1", record=True, manage=True, first_message="Good day.",
            purpose="marketing", script={"callback_number": True},
        )  # fmt: skip
        rig.twilio.destinations[THEM] = Caller(hangs_up=HangsUp(at_s=1.2))
        made = await rig.post("/v2/calls/initiate", {"agent_id": agent["id"], "to": THEM})
        record = await rig.record_of(made["metadata"]["twilio_call_sid"], timeout_s=90.0)
        agent_said = [turn for turn in record["transcript"] if turn["role"] == "agent"]
        assert all("press 9" not in (turn["heard"] or "") for turn in agent_said)
        assert record["disclosure"]["offered_optout_ms"] is None
        assert record["disclosure"]["recording_notice_ms"] is None
