"""What a client sends to the simulator: initiation, tools, pings and updates, and the violations that are noted."""

from __future__ import annotations

import pytest
import trio

from bench.sim_elevenlabs import ToolCall
from bench.sim_elevenlabs.probe import dialled
from tests.bench.sim_elevenlabs_rig import GREETING, HOLD, record_of, sim_with


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
