"""Whole conversations with the simulator, over memory and under a mock clock."""

from __future__ import annotations

import base64

import pytest
import trio

from bench.sim_elevenlabs import AgentScript, ElevenLabsSim, ToolCall, Utterance, prompt, speech
from bench.sim_elevenlabs import record as record_module
from bench.sim_elevenlabs.mouth import alignment, words_heard
from bench.sim_elevenlabs.probe import dialled

GREETING = Utterance.of("agent_greeting")
LONG = Utterance.of("agent_long")
HOLD = Utterance.of("agent_hold")
GOODBYE = Utterance.of("agent_goodbye")
COMPLAINT = prompt("caller_complaint")
BARGE_IN = prompt("caller_barge_in")


def sim_with(**fields) -> ElevenLabsSim:
    return ElevenLabsSim("key", {"agent": AgentScript(**fields)}, public_origin="http://sim.test")


def record_of(sim):
    (record,) = sim.conversations.values()
    return record


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


async def test_client_tool_is_called_before_its_reply_and_its_result_kept(autojump_clock):
    """The reply waits for the tool's result; transcript and record hold both."""
    tool = ToolCall(1, "gw_transfer", {"department": "sales"})
    sim = sim_with(replies=(HOLD,), tool_calls=(tool,))
    async with dialled(sim, "agent", tool_result='{"ok": true}') as probe:
        await probe.until("conversation_initiation_metadata")
        await probe.send({"type": "user_message", "text": "A person, please."})
        call = await probe.until("client_tool_call")
        await probe.until("agent_response")
    record = record_of(sim)
    assert call.body["parameters"] == {"department": "sales"}
    assert record.tool_results[0]["result"] == '{"ok": true}'
    assert record.user_messages == ["A person, please."]
    assert record.events("agent_tool_response")[0].body["is_error"] is False
    assert [t.tool_calls[0]["tool_name"] for t in record.turns if t.tool_calls] == ["gw_transfer"]


async def test_client_tool_without_answer_times_out_and_the_agent_goes_on(autojump_clock):
    """After the tool's timeout the agent speaks, and the response event says it failed."""
    sim = sim_with(replies=(HOLD,), tool_calls=(ToolCall(1, "slow", timeout_s=3.0),))
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
        await probe.send({"type": "user_message", "text": "Hello"})
        call = await probe.until("client_tool_call")
        spoke = await probe.until("agent_response")
    assert spoke.at_s - call.at_s == pytest.approx(3.0, abs=0.1)
    assert probe.all("agent_tool_response")[0].body["is_error"] is True


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


async def test_pings_answered_are_timed_and_unanswered_are_violations(autojump_clock):
    """Pong latencies are kept; a client that never answers is reported."""
    good, bad = sim_with(), sim_with()
    async with dialled(good, "agent") as probe:
        await probe.until("ping", 3)
    async with dialled(bad, "agent", answer_pings=False) as probe:
        await probe.until("ping", 3)
    assert record_of(good).pong_latencies_s == pytest.approx([0.0] * 3, abs=0.05)
    assert good.violations == []
    assert "never answered" in bad.violations[0].what


async def test_silent_client_is_closed_after_a_minute(autojump_clock):
    """No caller audio for 60 s ends with transport_receive_timeout and 1002."""
    sim = sim_with()
    async with dialled(sim, "agent") as probe:
        failure = await probe.until("error", timeout_s=70)
        await probe.until("closed")
    assert failure.body["error_type"] == "transport_receive_timeout"
    assert record_of(sim).close_code == 1002


async def test_client_close_is_recorded_with_code_and_reason(autojump_clock):
    """The record says who closed, how and when."""
    sim = sim_with()
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
    record = record_of(sim)
    assert (record.closed_by, record.close_code) == ("client", 1000)
    assert record.close_reason == "User ended conversation"
    assert record.times("closed") == [record.ended_at_s]


async def test_overridden_first_message_with_variables_is_announced(autojump_clock):
    """The text of the greeting follows the override and the dynamic variables."""
    sim = sim_with(first_message=GREETING, overrides=("agent.first_message",))
    initiation = {
        "conversation_config_override": {"agent": {"first_message": "Hello {{name}}!"}},
        "dynamic_variables": {"name": "Ana"},
    }
    async with dialled(sim, "agent", initiation=initiation) as probe:
        said = await probe.until("agent_response")
    assert said.body["agent_response"] == "Hello Ana!"
    assert record_of(sim).initiation["dynamic_variables"] == {"name": "Ana"}


async def test_missing_dynamic_variable_fails_the_start_with_1008(autojump_clock):
    """A template variable without a value is an error event and 1008 before any metadata."""
    sim = sim_with(first_message=GREETING, overrides=("agent.first_message",))
    override = {"agent": {"first_message": "Hello {{name}}!"}}
    initiation = {"conversation_config_override": override}
    async with dialled(sim, "agent", initiation=initiation) as probe:
        failure = await probe.until("error")
        await probe.until("closed")
    assert failure.body["error_type"] == "missing_dynamic_variable"
    assert probe.all("conversation_initiation_metadata") == []
    assert record_of(sim).close_code == 1008


@pytest.mark.parametrize("overrides", [(), ("agent.language", "tts.voice_id")])
async def test_override_that_the_agent_does_not_allow_fails_the_start_with_1008(
    autojump_clock, overrides
):
    """Every leaf has to be switched on in the agent's own configuration."""
    sim = sim_with(first_message=GREETING, overrides=overrides)
    initiation = {"conversation_config_override": {"agent": {"first_message": "Hello!"}}}
    async with dialled(sim, "agent", initiation=initiation) as probe:
        failure = await probe.until("error")
        await probe.until("closed")
    assert failure.body["error_type"] == "override_error"
    assert record_of(sim).close_code == 1008


async def test_client_events_leave_out_what_is_not_listed(autojump_clock):
    """An agent with the default list of a command-line tool sends audio and little else."""
    sim = sim_with(first_message=HOLD, client_events=("audio", "interruption"))
    async with dialled(sim, "agent") as probe:
        await probe.until("audio", 17)
        await probe.be_quiet(5.0)
        kinds = {got.type for got in probe.received}
    assert kinds == {"conversation_initiation_metadata", "audio"}


BAD_MESSAGES = {
    "unknown message type 'interrupt'": {"type": "interrupt"},
    "pong.event_id is str": {"type": "pong", "event_id": "1"},
    "client_tool_result without is_error": {
        "type": "client_tool_result",
        "tool_call_id": "x",
        "result": "y",
    },
    "contextual_update with unknown fields extra": {
        "type": "contextual_update",
        "text": "a",
        "extra": 1,
    },
    "contextual_update without text": {"type": "contextual_update"},
    "user_audio_chunk is not base64": {"user_audio_chunk": "%%%"},
    "user_audio_chunk is empty": {"user_audio_chunk": ""},
    "user_audio_chunk with other fields": {"user_audio_chunk": "/w==", "type": "user_audio_chunk"},
    "which is not waiting": {"type": "pong", "event_id": 99},
    "a second conversation_initiation": {"type": "conversation_initiation_client_data"},
}


@pytest.mark.parametrize(("what", "message"), BAD_MESSAGES.items())
async def test_client_message_against_the_shape_is_a_violation(what, message, autojump_clock):
    """Every departure from the documented shape is reported, and the conversation goes on."""
    sim = sim_with()
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
        await probe.send(message)
        await probe.until("ping")
    assert what in sim.violations[0].what


BAD_INITIATIONS = {
    "audio formats cannot be overridden": {
        "conversation_config_override": {"tts": {"agent_output_audio_format": "pcm_16000"}}
    },
    "override.agent.language is null": {
        "conversation_config_override": {"agent": {"language": None}}
    },
    "dynamic variable system__time is reserved": {"dynamic_variables": {"system__time": "now"}},
    "dynamic variable who is list": {"dynamic_variables": {"who": []}},
    "user_id is NoneType": {"user_id": None},
    "unknown fields data": {"data": {}},
}


@pytest.mark.parametrize(("what", "initiation"), BAD_INITIATIONS.items())
async def test_initiation_against_the_shape_is_a_violation(what, initiation, autojump_clock):
    """The first message is checked down to its overrides and variables."""
    sim = sim_with()
    async with dialled(sim, "agent", initiation=initiation) as probe:
        await probe.until("conversation_initiation_metadata")
    assert what in sim.violations[0].what


async def test_audio_before_the_initiation_is_a_violation(autojump_clock):
    """conversation_initiation_client_data comes first."""
    sim = sim_with()
    async with dialled(sim, "agent", initiate=False) as probe:
        await probe.send({"user_audio_chunk": "/w=="})
        await probe.send({"type": "conversation_initiation_client_data"})
        await probe.until("conversation_initiation_metadata")
    assert [v.what for v in sim.violations] == [
        "user_audio_chunk before conversation_initiation_client_data"
    ]
    assert record_of(sim).audio_before_metadata_bytes == 1


@pytest.mark.parametrize("message", [b"\x00binary", "not json", "[1]", "{}"])
async def test_hopeless_client_message_closes_with_1008(message, autojump_clock):
    """What is no message at all is an error event and close 1008."""
    sim = sim_with()
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
        await probe.send(message)
        failure = await probe.until("error")
        await probe.until("closed")
    assert failure.body["error_type"] == "invalid_message"
    assert record_of(sim).close_code == 1008
    assert len(sim.violations) == 1


async def test_start_without_initiation_happens_when_the_script_says_so(autojump_clock):
    """With a patience set, the metadata comes although the client said nothing."""
    sim = sim_with(start_without_initiation_s=1.0)
    async with dialled(sim, "agent", initiate=False) as probe:
        got = await probe.until("conversation_initiation_metadata")
    assert got.at_s == pytest.approx(record_of(sim).started_at_s + 1.0, abs=0.01)


async def test_late_pong_is_a_violation(autojump_clock):
    """A pong later than the script's deadline is reported with its latency."""
    sim = sim_with(pong_deadline_s=0.5)
    async with dialled(sim, "agent", answer_pings=False) as probe:
        ping = await probe.until("ping")
        await trio.sleep(1.0)
        await probe.send({"type": "pong", "event_id": ping.body["event_id"]})
    assert [v.what for v in sim.violations] == ["pong after 1.00 s"]
    assert record_of(sim).pong_latencies_s == pytest.approx([1.0])


async def test_maximum_duration_ends_with_an_error_event_and_1000(autojump_clock):
    """The agent's limit ends the call normally, announced by `max_duration_exceeded`."""
    sim = sim_with(max_duration_s=5.0)
    async with dialled(sim, "agent") as probe:
        failure = await probe.until("error")
        await probe.until("closed")
        assert probe.socket.closed.code == 1000
    assert failure.body["error_type"] == "max_duration_exceeded"


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


async def test_contextual_updates_are_kept_and_answered_by_nothing(autojump_clock):
    """Context and activity are recorded without a turn."""
    sim = sim_with(replies=(HOLD,))
    update = {"type": "contextual_update", "text": "Caller pressed 4.", "context_id": "dtmf"}
    async with dialled(sim, "agent") as probe:
        await probe.until("conversation_initiation_metadata")
        await probe.send(update)
        await probe.send({"type": "user_activity"})
        await trio.sleep(1.9)
        assert [got.type for got in probe.received] == ["conversation_initiation_metadata"]
    assert record_of(sim).contextual_updates == [update]
    assert record_of(sim).counts["user_activity"] == 1
    assert sim.violations == []


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
