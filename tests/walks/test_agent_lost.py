"""The agent's socket dies in mid-sentence: through the real daemon, on one stream, in one record."""

import dataclasses

import trio

from bench.hearing import begins, share
from bench.rig import open_rig
from bench.sim_elevenlabs import AgentScript, Faults, Utterance
from bench.sim_twilio import Caller, HangsUp
from bench.sim_twilio.sound import FRAME_MS, RATE_HZ, SILENCE_FRAME
from gateway.comfort import NOISE
from tests.walks.gaps import unexplained_gaps

OURS = "+14155550199"
THEM = "+14155550100"
HOLD = Utterance.of("agent_hold")
NOISE_WITHIN_S = 0.3


async def test_agent_killed_in_mid_sentence_comes_back_on_the_same_stream(tmp_path):
    """Noise within 300 ms once nothing of the agent is left, the agent again within 3 s, one stream, one record."""
    script = AgentScript(
        first_message=HOLD, faults=Faults(drop_after_s=1.5), response_latency_s=0.05
    )
    with trio.fail_after(400):
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
            told = [name for name in at_ms if name in ("agent_lost", "agent_redial", "agent_back")]
            assert told == ["agent_lost", "agent_redial", "agent_back"]  # maybe in one millisecond
            assert at_ms["agent_lost"] <= at_ms["agent_redial"] <= at_ms["agent_back"]
            assert record["recording"] is not None
            talks = [c for c in rig.elevenlabs.conversations.values() if c.initiation]
            context = talks[1].initiation["dynamic_variables"]["gw_resume_context"]
            assert context.startswith("Agent: Thank you")
            assert any("What was said so far" in u["text"] for u in talks[1].contextual_updates)
            assert record["media"]["agent_audio"]["underruns"] == 0
            assert unexplained_gaps(call, record) == []


async def test_agent_lost_when_nothing_is_queued_leaves_noise_on_the_line_at_once(tmp_path):
    """The agent had finished speaking, so the line is empty when it goes: 300 ms later there is noise.

    Every conversation takes most of a second to begin, so that no redial can be quicker than the noise.
    """
    words = Utterance("Hello.", HOLD.pcm16[: 2 * 8_000])
    script = AgentScript(
        first_message=words, faults=Faults(metadata_delay_s=0.8), response_latency_s=0.05
    )
    with trio.fail_after(400):
        async with open_rig(tmp_path, agents={"agent_1": script}, wires=("agent",)) as rig:
            await rig.create_agent(OURS, "agent_1")
            call = await rig.twilio.call_in(THEM, OURS, Caller())
            while share(words.encoded("ulaw_8000"), call.heard) < 1.0:
                await trio.sleep(0.02)
            while call.stream.playout.queued_bytes:
                await trio.sleep(0.02)
            lost_s = call.stream.now_s()
            assert rig.wires["agent"].reset() == 1
            again = words.encoded("ulaw_8000")
            while begins(again, call.heard[round(lost_s * RATE_HZ) :]) is None:
                await trio.sleep(0.05)
            call.hang_up()
            await call.settled()
            record = await rig.record_of(call.sid)
            line = call.heard[round(lost_s * RATE_HZ) :]
            noise_at = line.find(NOISE[:320])
            assert noise_at >= 0
            late_s = call.stream.times.late_max_ms / 1000  # the simulator's own, not the daemon's
            assert noise_at / RATE_HZ <= NOISE_WITHIN_S + late_s
            quiet = line[noise_at : begins(again, line)]
            # From there to the agent's first word the line is never dead, but for what a late machine cost.
            dead_ms = quiet.count(SILENCE_FRAME) * FRAME_MS
            assert dead_ms <= late_s * 1000 + record["media"]["agent_audio"]["late_underrun_ms"]
            assert record["media"]["agent_gaps_ms"][0] >= 800
            assert record["media"]["agent_audio"]["comfort_noise_ms"] >= 500
            assert len(call.streams) == 1
            assert call.heard_texts == []


async def test_call_of_two_conversations_has_what_both_found_out(tmp_path):
    """The redial begins another conversation: one result with the fields of both, and the sum of their costs."""
    first = AgentScript(
        first_message=HOLD,
        faults=Faults(drop_after_s=3.0),
        response_latency_s=0.05,
        data_collection={"name": "Ada", "party_size": "4"},
        summary="Ada asked for a table.",
    )
    second = dataclasses.replace(
        first,
        faults=Faults(),
        data_collection={"name": None, "party_size": "5"},
        summary="She wants five seats.",
    )
    fields = {"name": {"type": "string", "required": True}, "party_size": {"type": "integer"}}
    with trio.fail_after(400):
        async with open_rig(tmp_path, agents={"agent_1": first}) as rig:
            await rig.create_agent(OURS, "agent_1", extractions=fields)
            call = await rig.twilio.call_in(THEM, OURS, Caller(hangs_up=HangsUp(at_s=8.0)))
            while not any(one.initiation for one in rig.elevenlabs.conversations.values()):
                await trio.sleep(0.02)
            rig.elevenlabs.book.agents["agent_1"].script = second
            await call.settled()
            record = await rig.record_of(call.sid)
            while (record["analysis"] or {"status": "pending"})["status"] == "pending":
                await trio.sleep(0.1)
                record = await rig.get(f"/v2/calls/{record['id']}")
            talks = [c for c in rig.elevenlabs.conversations.values() if c.initiation]
            ids = [talk.conversation_id for talk in talks]
            assert len(ids) == 2
            assert record["legs"]["agent"]["earlier_conversation_ids"] == ids[:1]
            assert record["metadata"]["elevenlabs_conversation_id"] == ids[1]
            assert record["extractions"] == {"name": "Ada", "party_size": 5}
            assert record["extraction_problems"] in (None, {})
            assert record["summary"] == f"{first.summary}\n\n{second.summary}"
            credits = [10 * int(talk.ended_at_s - talk.started_at_s) for talk in talks]
            assert min(credits) > 0
            assert record["cost"]["elevenlabs"]["credits"] == sum(credits)
            assert [one["conversation_id"] for one in record["analysis"]["conversations"]] == ids
