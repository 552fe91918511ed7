"""Whole conversations with the simulator, over memory and under a mock clock: who speaks when, and what is kept of it."""

from __future__ import annotations

import base64

import pytest

from bench.sim_elevenlabs import AgentScript, ElevenLabsSim, Utterance, prompt, speech
from bench.sim_elevenlabs import record as record_module
from bench.sim_elevenlabs.mouth import alignment, words_heard
from bench.sim_elevenlabs.probe import dialled
from tests.bench.sim_elevenlabs_rig import GREETING, HOLD, record_of, sim_with

LONG = Utterance.of("agent_long")
GOODBYE = Utterance.of("agent_goodbye")
COMPLAINT = prompt("caller_complaint")
BARGE_IN = prompt("caller_barge_in")


async def test_whole_call_with_barge_in_goes_as_scripted(autojump_clock):
    """Greeting, complaint, long reply cut off by the caller, next reply, goodbye, end of call."""
    sim = sim_with(
        first_message=GREETING,
        replies=(LONG, HOLD, GOODBYE),
        transcripts=(COMPLAINT.text, BARGE_IN.text, "Thank you."),
        end_call_after_reply=3,
    )
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete", 1)
        await probe.be_quiet(6.0)
        await probe.speak(COMPLAINT.pcm16)
        await probe.be_quiet(2.0)
        await probe.until("audio", 20)
        await probe.speak(BARGE_IN.pcm16)
        cut = await probe.until("interruption")
        await probe.be_quiet(7.0)
        await probe.speak(prompt("caller_sorry").pcm16)
        await probe.be_quiet(1.0)
        await probe.until("closed")
        ended_with = probe.socket.closed.code
    record = record_of(sim)
    assert sim.violations == []
    assert ended_with == 1000
    assert (record.closed_by, record.close_code) == ("server", 1000)
    assert [t.text for t in record.turns if t.role == "user"] == [
        COMPLAINT.text,
        BARGE_IN.text,
        "Thank you.",
    ]
    agent = [t for t in record.turns if t.role == "agent" and t.text is not None]
    assert [t.interrupted for t in agent] == [False, True, False, False]
    assert agent[1].original_text == LONG.text
    assert LONG.text.startswith(agent[1].text.removesuffix("..."))
    assert cut.body["event_id"] == agent[1].event_id
    assert len(record.times("interruption_sent")) == 1
    assert [e.body["tool_name"] for e in record.events("agent_tool_response")] == ["end_call"]


async def test_first_message_on_ulaw_is_bit_exact_and_text_comes_first(autojump_clock):
    """The joined audio events are the recording's µ-law bytes, announced by their text."""
    sim = sim_with(first_message=GREETING)
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete")
        kinds = [got.type for got in probe.received if got.type != "ping"]
    assert probe.audio() == prompt("agent_greeting").ulaw
    assert record_of(sim).sent_audio == prompt("agent_greeting").ulaw
    assert kinds[:3] == ["conversation_initiation_metadata", "agent_response", "audio"]
    assert probe.all("agent_response")[0].body["agent_response"] == GREETING.text
    sizes = [len(base64.b64decode(got.body["audio_base_64"])) for got in probe.all("audio")]
    assert all(size % 160 for size in sizes)


async def test_delivery_at_four_times_real_time_takes_a_quarter(autojump_clock):
    """A 10.5 s reply arrives within a quarter of its duration, spread over it."""
    sim = sim_with(first_message=LONG, speed=4.0)
    async with dialled(sim, "agent") as probe:
        last = await probe.until("agent_response_complete")
        first = probe.all("audio")[0]
    assert last.at_s - first.at_s == pytest.approx(LONG.duration_s / 4, abs=0.1)


@pytest.mark.parametrize("name", speech.FORMATS)
async def test_conversation_in_each_format_carries_that_format_both_ways(name, autojump_clock):
    """Metadata, agent audio, the record of caller audio and the ear all follow the format."""
    sim = sim_with(
        output_format=name, input_format=name, first_message=HOLD, transcripts=("Weasels.",)
    )
    async with dialled(sim, "agent") as probe:
        metadata = await probe.until("conversation_initiation_metadata")
        await probe.until("agent_response_complete")
        await probe.be_quiet(4.0)
        spoken = await probe.speak(COMPLAINT.pcm16)
        quiet = await probe.be_quiet(1.0)
        said = await probe.until("user_transcript")
    assert metadata.body["agent_output_audio_format"] == name
    assert metadata.body["user_input_audio_format"] == name
    assert probe.audio() == HOLD.encoded(name)
    assert record_of(sim).received.endswith(spoken + quiet)
    assert said.body["user_transcript"] == "Weasels."
    assert sim.violations == []


async def test_caller_audio_on_ulaw_is_recorded_bit_for_bit(autojump_clock):
    """What the caller sent is what the record holds, with a count and arrival times."""
    sim = sim_with()
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
        spoken = await probe.speak(COMPLAINT.pcm16)
    record = record_of(sim)
    assert record.received_ulaw == spoken == COMPLAINT.ulaw
    frames = record.arrivals["user_audio_chunk"]
    assert record.counts["user_audio_chunk"] == len(frames) == -(-len(spoken) // 160)
    assert frames[-1] - frames[0] == pytest.approx(0.02 * (len(frames) - 1))


async def test_end_of_speech_is_heard_after_half_a_second_of_silence(autojump_clock):
    """The transcript follows 500 ms of silence, the reply follows the response latency."""
    sim = sim_with(replies=(HOLD,), response_latency_s=0.7)
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
        await probe.speak(COMPLAINT.pcm16)
        await probe.be_quiet(3.0)
        said = await probe.until("user_transcript")
        answered = await probe.until("audio")
    (ended_s,) = record_of(sim).times("caller_ended")
    assert said.at_s == pytest.approx(ended_s, abs=0.02)
    assert answered.at_s - said.at_s == pytest.approx(0.7, abs=0.02)
    assert record_of(sim).times("first_audio_sent") == [answered.at_s]


async def test_interruption_is_sent_while_delivered_audio_still_plays(autojump_clock):
    """All audio was delivered, but by the agent's clock it plays on: speech still interrupts."""
    sim = sim_with(first_message=LONG, speed=50.0)
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete")
        await probe.be_quiet(4.0)
        begin_s = record_of(sim).arrivals["user_audio_chunk"][-1]
        await probe.speak(BARGE_IN.pcm16)
        cut = await probe.until("interruption")
        fixed = await probe.until("agent_response_correction")
    heard = fixed.body["corrected_agent_response"]
    assert cut.at_s - begin_s < 0.6
    assert 0.3 < len(heard) / len(LONG.text) < 0.6
    assert fixed.body["original_agent_response"] == LONG.text


async def test_speech_after_the_audio_has_played_out_interrupts_nothing(autojump_clock):
    """Once the agent's clock says that all was heard, the caller just takes the turn."""
    sim = sim_with(first_message=HOLD, speed=50.0)
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete")
        await probe.be_quiet(HOLD.duration_s + 0.1)
        await probe.speak(BARGE_IN.pcm16)
        await probe.be_quiet(1.0)
        await probe.until("user_transcript")
    assert probe.all("interruption") == []


async def test_stale_chunks_come_with_an_id_at_or_below_the_interruption(autojump_clock):
    """Late audio of the old event follows the interruption; the new reply has a higher id."""
    sim = sim_with(first_message=LONG, replies=(HOLD,), stale_chunks=2, event_ids="chunk")
    async with dialled(sim, "agent") as probe:
        await probe.until("audio", 6)
        await probe.speak(BARGE_IN.pcm16)
        await probe.be_quiet(2.0)
        await probe.until("agent_response", 2)
        await probe.until("agent_response_complete")
    kinds = [got.type for got in probe.received]
    after = probe.received[kinds.index("interruption") :]
    watermark = after[0].body["event_id"]
    ids = [got.body["event_id"] for got in after if got.type == "audio"]
    assert [number <= watermark for number in ids[:3]] == [True, True, False]
    assert all(number > watermark for number in ids[2:])


@pytest.mark.parametrize(("style", "distinct"), [("turn", 1), ("chunk", 17)])
async def test_event_ids_follow_the_style(style, distinct, autojump_clock):
    """One id for a turn, or one for each chunk, never decreasing."""
    sim = sim_with(first_message=HOLD, event_ids=style)
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete")
    ids = [got.body["event_id"] for got in probe.all("audio")]
    assert ids == sorted(ids)
    assert len(set(ids)) == distinct == (1 if style == "turn" else len(ids))


async def test_uninterruptible_greeting_is_spoken_to_its_end(autojump_clock):
    """Speech over a protected first message is ignored."""
    greeting = Utterance.of("agent_greeting", interruptible=False)
    sim = sim_with(first_message=greeting, speed=1.0, replies=(HOLD,))
    async with dialled(sim, "agent") as probe:
        await probe.until("audio", 2)
        await probe.speak(BARGE_IN.pcm16)
        await probe.be_quiet(1.0)
        await probe.until("agent_response_complete")
    assert probe.all("interruption") == probe.all("user_transcript") == []
    assert probe.audio() == greeting.encoded("ulaw_8000")


async def test_caller_speaking_on_before_the_reply_defers_the_same_reply(autojump_clock):
    """A reply that nobody heard yet is not lost when the caller goes on."""
    sim = sim_with(replies=(HOLD, GOODBYE), response_latency_s=1.0)
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
        await probe.speak(COMPLAINT.pcm16)
        await probe.be_quiet(0.6)
        await probe.speak(BARGE_IN.pcm16)
        await probe.be_quiet(2.0)
        await probe.until("agent_response_complete")
    assert [got.body["agent_response"] for got in probe.all("agent_response")] == [HOLD.text]
    assert len(probe.all("user_transcript")) == 2


async def test_alignment_covers_the_text_over_the_chunks(autojump_clock):
    """Joined over the chunks the characters are the text, with times inside their chunk."""
    sim = sim_with(first_message=GREETING, alignment=True)
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete")
    parts = [got.body["alignment"] for got in probe.all("audio")]
    assert "".join("".join(part["chars"]) for part in parts) == GREETING.text
    starts = [start for part in parts for start in part["char_start_times_ms"]]
    assert all(0 <= start <= 251 for start in starts)


def test_alignment_of_one_chunk_spreads_characters_evenly():
    """Four characters in 400 ms are 100 ms each; a chunk gets those that begin in it."""
    part = alignment("abcd", 0.4, 0.2, 0.2)
    assert part == {
        "chars": ["c", "d"],
        "char_start_times_ms": [0, 100],
        "char_durations_ms": [100, 100],
    }


@pytest.mark.parametrize(
    ("share", "heard"),
    [(0.0, "..."), (0.5, "We have nine..."), (1.0, "We have nine, ten or eleven.")],
)
def test_words_heard_are_cut_at_a_word(share, heard):
    """The corrected text ends with a whole word."""
    assert words_heard("We have nine, ten or eleven.", share) == heard


async def test_end_call_right_after_a_burst_leaves_audio_queued(autojump_clock):
    """The close comes while seconds of delivered audio are not yet played; nothing is lost."""
    sim = sim_with(
        first_message=LONG, speed=20.0, end_call_after_reply=0, end_call_full_payload=True
    )
    async with dialled(sim, "agent") as probe:
        await probe.until("closed")
        kinds = [got.type for got in probe.received if got.type not in ("ping", "audio")]
    assert kinds[-3:] == ["agent_tool_request", "agent_tool_response_full_payload", "closed"]
    assert probe.audio() == LONG.encoded("ulaw_8000")
    assert record_of(sim).ended_at_s - record_of(sim).started_at_s < 2.0


async def test_replies_loop_when_asked_to(autojump_clock):
    """A load test's agent never runs out of replies."""
    sim = sim_with(replies=(HOLD,), loop_replies=True, transcripts=("One.",))
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
        for count in (1, 2, 3):
            await probe.speak(BARGE_IN.pcm16)
            await probe.be_quiet(6.0)
            await probe.until("agent_response_complete", count)
        assert probe.all("user_transcript")[2].body["user_transcript"] == "(caller utterance 3)"


async def test_record_without_audio_keeps_counts_alone(autojump_clock):
    """For load benches neither direction's audio is held in memory."""
    script = AgentScript(first_message=HOLD)
    sim = ElevenLabsSim("key", {"agent": script}, keep_audio=False, public_origin="http://sim.test")
    async with dialled(sim, "agent") as probe:
        await probe.until("agent_response_complete")
        await probe.be_quiet(1.0)
    record = record_of(sim)
    assert record.received == record.sent_audio == b""
    assert record.counts["user_audio_chunk"] == 50
    assert len(record.events("audio")) == 17


async def test_record_over_its_bound_says_truncated(autojump_clock, monkeypatch):
    """The record stops growing at its bounds and says so; counting goes on."""
    monkeypatch.setattr(record_module, "AUDIO_LIMIT_BYTES", 800)
    monkeypatch.setattr(record_module, "LIST_LIMIT", 5)
    sim = sim_with()
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
        await probe.be_quiet(1.0)
    record = record_of(sim)
    assert record.truncated
    assert len(record.received) == 800
    assert len(record.arrivals["user_audio_chunk"]) == 5
    assert record.counts["user_audio_chunk"] == 50


@pytest.mark.parametrize("wrong", [{"output_format": "mp3"}, {"input_format": ""}, {"speed": 0}])
def test_script_that_makes_no_sense_is_refused(wrong):
    """A scenario's mistake is found when it is written, not in the middle of a call."""
    with pytest.raises(ValueError, match=r"format|speed"):
        AgentScript(**wrong)
