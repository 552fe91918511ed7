"""Health: what a look at both providers finds, what it puts back, and what the record says of it."""

from __future__ import annotations

import pytest

from control.elevenlabs.profile import CLIENT_EVENTS
from control.elevenlabs.rest import ElevenLabsUnavailable
from control.numbers.values import NumberProblem
from control.store import agents
from tests.control.saga_rig import open_saga


@pytest.fixture
async def rig(tmp_path):
    """One agent of ours, live."""
    async with open_saga(tmp_path) as opened:
        await opened.run()
        await opened.add_new()
        opened.subject.start("agt_1")
        assert (await opened.settled()).status == "live"
        yield opened


async def test_look_at_a_healthy_agent_says_so(rig):
    """Number, account, ElevenLabs agent, and when it was looked."""
    await rig.subject.check("agt_1")
    record = await rig.get()
    assert record.status == "live"
    assert record.health["number"] == {"e164": record.number_e164, "status": "in-use"}
    assert record.health["subaccount"] == {"sid": "AC1", "status": "active"}
    assert record.health["elevenlabs"]["status"] == "live"
    assert record.health["problems"] == []
    assert record.health["checked_at"].startswith("2027-01-13T18:00")
    assert record.drift is None


async def test_formats_and_events_changed_by_hand_are_put_back_and_told(rig):
    """What it was, what it is again, and when."""
    agent = rig.made[0]
    agent.merge(
        {
            "conversation_config": {
                "asr": {"user_input_audio_format": "pcm_16000"},
                "tts": {"agent_output_audio_format": "pcm_24000"},
                "conversation": {"client_events": ["audio", "vad_score"]},
            }
        }
    )
    await rig.subject.check("agt_1")
    record = await rig.get()
    told = {entry["what"]: entry for entry in record.drift}
    output = told["elevenlabs.tts.agent_output_audio_format"]
    assert (output["was"], output["now"]) == ("pcm_24000", "ulaw_8000")
    assert output["mended_at"].startswith("2027-01-13T18:00")
    assert told["elevenlabs.asr.user_input_audio_format"]["was"] == "pcm_16000"
    assert told["elevenlabs.conversation.client_events"]["was"] == ["audio", "vad_score"]
    config = agent.config["conversation_config"]
    assert config["tts"]["agent_output_audio_format"] == "ulaw_8000"
    assert set(config["conversation"]["client_events"]) == {*CLIENT_EVENTS, "vad_score"}
    await rig.subject.check("agt_1")
    assert len((await rig.get()).drift) == 3
    assert record.status == "live"


async def test_webhooks_changed_by_hand_are_told(rig):
    """The numbers' own check has put them back."""
    rig.numbers.mended = ("voice_url",)
    await rig.subject.check("agt_1")
    (entry,) = (await rig.get()).drift
    assert entry["what"] == "number.voice_url"


async def test_number_that_is_gone_degrades_the_agent_until_it_is_back(rig):
    """The operator reads it in `problems`."""
    e164, sid = (await rig.get()).number_e164, rig.numbers.owned.pop("+18435550000")
    await rig.subject.check("agt_1")
    record = await rig.get()
    assert (record.status, record.number_status) == ("degraded", "gone")
    assert "does not own it any more" in record.health["problems"][0]
    rig.numbers.owned[e164] = sid
    await rig.subject.check("agt_1")
    assert (await rig.get()).status == "live"


async def test_agent_deleted_at_elevenlabs_degrades_ours(rig):
    """With its status `missing`."""
    del rig.sim.book.agents[rig.made[0].agent_id]
    await rig.subject.check("agt_1")
    record = await rig.get()
    assert (record.status, record.elevenlabs_status) == ("degraded", "missing")


async def test_account_that_is_suspended_degrades_the_agent(rig):
    """Its numbers are not asked about: Twilio would only say the same."""
    rig.accounts.now = "suspended"
    rig.numbers.trouble = [AssertionError("asked")]
    await rig.subject.check("agt_1")
    record = await rig.get()
    assert record.status == "degraded"
    assert record.health["problems"] == ["the Twilio account is suspended"]


async def test_provider_that_cannot_be_asked_is_a_doubt_and_changes_nothing(rig, monkeypatch):
    """An outage of theirs is no fault of the agent."""

    async def away(agent_id):
        raise ElevenLabsUnavailable("HTTP 503", 503)

    monkeypatch.setattr(rig.services.workspace, "get_agent", away)
    rig.numbers.trouble = [NumberProblem("unreachable", "no connection", transient=True)]
    await rig.subject.check("agt_1")
    record = await rig.get()
    assert (record.status, record.number_status, record.elevenlabs_status) == (
        "live",
        "in-use",
        "live",
    )
    assert len(record.health["doubts"]) == 2


async def test_closed_agent_is_not_looked_at(rig):
    """Nor is anything of it put back."""
    await rig.store.write(agents.update, "agt_1", status="closed")
    rig.numbers.trouble = [AssertionError("asked")]
    await rig.subject.check("agt_1")
    assert (await rig.get()).health is None
