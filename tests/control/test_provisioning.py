"""Provisioning: an agent made from nothing, or adopted."""

from __future__ import annotations

import pytest

from control.elevenlabs.profile import CLIENT_EVENTS
from control.store import agents
from tests.control.saga_rig import NUMBER, UPDATE, all_done, open_impatient, statuses, steps


@pytest.fixture
async def rig(tmp_path, monkeypatch):
    async with open_impatient(tmp_path, monkeypatch) as opened:
        yield opened


# ---- made from nothing ---------------------------------------------------------------------------


async def test_agent_made_from_nothing_goes_through_every_step(rig):
    """Number bought, site indexed, tools and agent made, conversation tested."""
    await rig.run()
    await rig.add_new(
        business_url="https://coastal.example.com", vertical="hvac", timezone="America/New_York"
    )
    rig.subject.start("agt_1")
    record = await rig.settled()
    assert record.status == "live"
    assert statuses(record) == all_done()
    assert all(isinstance(step["ms"], int) for step in record.steps)
    assert rig.accounts.ensured == [("subaccount", "tnt_default"), ("key", "tnt_default")]
    assert (record.number_e164, record.number_status) == ("+18435550000", "in-use")
    (made,) = rig.made
    assert record.elevenlabs_agent_id == made.agent_id
    assert record.elevenlabs_status == "live"
    assert rig.probe.asked == [(made.agent_id, True)]
    assert record.elevenlabs["knowledge_base"]["index"] == "succeeded"


async def test_agent_made_has_all_that_the_telephone_needs(rig):
    """Formats, events, end_call, our tools, the vertical's words, the extractions, our name and tag."""
    await rig.add_new(
        vertical="dental",
        business_url="https://smile.example.com",
        location={"street": "12 King St", "city": "Charleston"},
        hours={"mon": ["09:00-17:00"], "sun": []},
        extractions={"booked": {"type": "boolean", "description": "Booked?"}},
        variables={"doctor": "Dr. Lee"},
        settings={"language": "fr", "voice_id": "voice_9", "first_message": "Hi from {business}"},
    )
    await rig.run()
    record = await rig.settled()
    assert record.status == "live"
    found = rig.agent(record.elevenlabs_agent_id)
    config = found["conversation_config"]
    assert config["asr"]["user_input_audio_format"] == "ulaw_8000"
    assert config["tts"]["agent_output_audio_format"] == "ulaw_8000"
    assert config["tts"]["voice_id"] == "voice_9"
    assert config["conversation"]["client_events"] == list(CLIENT_EVENTS)
    agent = config["agent"]
    assert (agent["first_message"], agent["language"]) == ("Hi from Coastal", "fr")
    assert agent["prompt"]["built_in_tools"]["end_call"]["params"] == {
        "system_tool_type": "end_call"
    }
    assert "Coastal, a dental practice" in agent["prompt"]["prompt"]
    assert "Monday 09:00-17:00; Sunday closed" in agent["prompt"]["prompt"]
    assert "Speak French." in agent["prompt"]["prompt"]
    known = agent["dynamic_variables"]["dynamic_variable_placeholders"]
    assert known["location"] == "12 King St, Charleston"
    assert known["doctor"] == "Dr. Lee"
    assert "gw_call_id" in known
    (tool_id,) = agent["prompt"]["tool_ids"]
    assert rig.sim.book.tools[tool_id]["name"] == "opt_out"
    (document,) = agent["prompt"]["knowledge_base"]
    assert document["id"] in rig.sim.book.documents
    assert agent["prompt"]["rag"]["enabled"] is True
    assert found["platform_settings"]["data_collection"] == {
        "booked": {"type": "boolean", "description": "Booked?"}
    }
    assert found["platform_settings"]["auth"]["enable_auth"] is True
    assert found["tags"] == ["tandem", "agt_1"]


async def test_create_whose_answer_is_lost_makes_no_second_one(rig):
    """The step is tried again, and finds by our key what the first try has made."""
    lost = rig.sim.book.lost_answers
    lost["POST /v1/convai/agents/create"] = 1
    lost["POST /v1/convai/knowledge-base/url"] = 1
    lost["POST /v1/convai/tools"] = 1
    await rig.add_new(business_url="https://coastal.example.com")
    await rig.run()
    record = await rig.settled()
    assert record.status == "live"
    assert rig.sim.book.made == {"agents": 1, "documents": 1, "tools": 1}
    assert record.elevenlabs_agent_id == rig.made[0].agent_id


async def test_two_agents_at_once_share_the_tools(rig):
    """Tools belong to the workspace, not to an agent."""
    await rig.add_new()
    await rig.add_new("agt_2")
    await rig.run()
    assert (await rig.settled()).status == (await rig.settled("agt_2")).status == "live"
    assert rig.sim.book.made == {"agents": 2, "tools": 1}


async def test_tool_changed_by_hand_is_put_right_by_the_next_agent(rig):
    """Ours by its id: the configuration is written again. Somebody else's of that name stays."""
    theirs = rig.sim.book.add_tool(
        {"type": "client", "name": "opt_out", "description": "another one"}
    )
    await rig.add_new()
    await rig.run()
    (ours,) = (await rig.settled()).elevenlabs["tool_ids"]
    assert ours != theirs
    rig.sim.book.tools[ours]["description"] = "changed"
    await rig.add_new("agt_2")
    rig.subject.start("agt_2")
    assert (await rig.settled("agt_2")).elevenlabs["tool_ids"] == [ours]
    assert rig.sim.book.tools[ours]["description"] == "The caller wants no more calls."
    assert rig.sim.book.tools[theirs]["description"] == "another one"


@pytest.mark.parametrize("ends", ["failed", "rag_limit_exceeded"])
async def test_site_that_cannot_be_indexed_leaves_the_agent_degraded(rig, ends):
    """Calls are answered without it; the operator reads why."""
    rig.sim.book.indexing_ends = ends
    await rig.add_new(business_url="https://coastal.example.com")
    await rig.run()
    record = await rig.settled()
    assert record.status == "degraded"
    status, error = steps(record)["knowledge_base"]
    assert status == "failed"
    assert ends in error
    prompt = rig.agent(record.elevenlabs_agent_id)["conversation_config"]["agent"]["prompt"]
    assert prompt["knowledge_base"] == []


async def test_site_that_is_not_there_leaves_the_agent_degraded(rig):
    """ElevenLabs' own words are the reason."""
    await rig.add_new(business_url="https://nobody.invalid/")
    await rig.run()
    record = await rig.settled()
    assert record.status == "degraded"
    assert "Could not fetch https://nobody.invalid/" in steps(record)["knowledge_base"][1]


# ---- adopted -------------------------------------------------------------------------------------


async def test_adopted_agent_keeps_its_own_configuration(rig):
    """What somebody has made by hand is checked and tested, not written over."""
    before = rig.agent("agent_1")
    await rig.add(business_url="https://coastal.example.com")
    await rig.run()
    record = await rig.settled()
    assert record.status == "live"
    assert statuses(record) == all_done(knowledge_base="skipped")
    assert rig.agent("agent_1") == before
    assert rig.sim.book.made == {}


async def test_adopted_agent_learns_what_the_request_gives(rig):
    """And nothing else."""
    await rig.add(
        settings={"number": {"e164": NUMBER}, "first_message": "Hello, {business}!"},
        extractions=[{"name": "ok", "type": "boolean"}],
    )
    await rig.run()
    assert (await rig.settled()).status == "live"
    config = rig.agent("agent_1")
    assert config["conversation_config"]["agent"]["first_message"] == "Hello, Coastal!"
    assert config["conversation_config"]["agent"]["prompt"]["prompt"] == ""
    assert list(config["platform_settings"]["data_collection"]) == ["ok"]


async def test_adopted_agent_that_is_to_be_managed_becomes_ours(rig):
    """Formats, events and prompt are written; its name stays."""
    rig.sim.book.agents["agent_1"].merge(
        {"conversation_config": {"tts": {"agent_output_audio_format": "pcm_16000"}}}
    )
    await rig.add(settings={"number": {"e164": NUMBER}, "manage": True})
    await rig.run()
    record = await rig.settled()
    assert record.status == "live"
    config = rig.agent("agent_1")
    assert config["conversation_config"]["tts"]["agent_output_audio_format"] == "ulaw_8000"
    assert "Coastal" in config["conversation_config"]["agent"]["prompt"]["prompt"]
    assert config["name"] == "Simulated agent"


async def test_adopted_agent_that_could_be_better_is_degraded_with_what_to_do(rig):
    """Calls work, so it is not failed; the operator reads what to set."""
    rig.sim.book.agents["agent_1"].merge(
        {"conversation_config": {"conversation": {"client_events": ["audio"]}}}
    )
    await rig.add()
    await rig.run()
    record = await rig.settled()
    assert (record.status, record.elevenlabs_status) == ("degraded", "degraded")
    assert "lacks 'interruption'" in steps(record)["elevenlabs_agent"][1]


async def test_adopted_agent_that_does_not_exist_fails_the_step_and_says_what_to_check(rig):
    """The other steps are still tried, so that all that is wrong is seen at once."""
    await rig.add(elevenlabs_agent_id="agent_none")
    await rig.run()
    record = await rig.settled()
    assert (record.status, record.elevenlabs_status) == ("failed", "missing")
    status, error = steps(record)["elevenlabs_agent"]
    assert status == "failed"
    assert error.startswith("ElevenLabs knows no agent agent_none: check elevenlabs_agent_id")
    assert steps(record)["routing"] == ("done", None)
    assert steps(record)["self_test"] == ("failed", "not tried, because of: elevenlabs_agent")
    assert steps(record)["live"] == (
        "failed",
        "not live, because of: elevenlabs_agent; when that is put right, POST /v2/agents/{id}/retry goes on",
    )


async def test_number_is_not_bought_for_an_agent_that_does_not_exist(rig):
    """A number costs money; the same mistake would fail the agent a moment later."""
    await rig.add(
        number_e164=None,
        elevenlabs_agent_id="agent_none",
        settings={"number": {"type": "local", "country": "US"}},
    )
    await rig.run()
    record = await rig.settled()
    assert record.status == "failed"
    assert steps(record)["number"][1].startswith("nothing was bought")
    assert rig.numbers.bought == {}


async def test_change_asked_for_while_the_agent_is_made_is_made_afterwards(rig):
    """The running steps may have read the old words; the change is one more step, at once."""
    await rig.add_new()

    async def change(tenant_id):
        await rig.store.write(change_words)

    def change_words(conn):
        record = agents.get(conn, "agt_1")
        words = record.settings | {"first_message": "Changed"}
        agents.update(
            conn, "agt_1", settings=words, pending="update", steps=[*record.steps, UPDATE]
        )

    rig.accounts.ensure_key = change
    await rig.run()
    record = await rig.settled()
    assert record.status == "live"
    assert steps(record)["elevenlabs_update"] == ("done", None)
    agent = rig.agent(record.elevenlabs_agent_id)["conversation_config"]["agent"]
    assert agent["first_message"] == "Changed"
