"""Provisioning: an agent's steps, what becomes of it, and what the operator reads."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from control.elevenlabs.profile import CLIENT_EVENTS
from control.numbers.values import Nearby, NumberProblem
from control.provisioning import saga, values
from control.provisioning.values import StepFailed
from control.store import StoreUnavailable, agents, intents
from control.store.records import AgentNumberRecord
from control.tenants.service import TenantBusy, TenantState
from control.twilio.rest import TwilioRefused, TwilioUnreachable
from tests.control.saga_rig import AT, NUMBER, all_done, open_saga, statuses, steps

UPDATE = {"name": "elevenlabs_update", "status": "pending", "ms": 0, "asked_at": "1"}
UNREACHABLE = NumberProblem("unreachable", "no connection to Twilio", transient=True)


@pytest.fixture
async def rig(tmp_path, monkeypatch):
    """No waiting between attempts: threads of the store do not see a mock clock."""
    monkeypatch.setattr(saga, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(saga, "RETRY_MAX_S", 0.001)
    async with open_saga(tmp_path) as opened:
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


# ---- failures ------------------------------------------------------------------------------------


async def test_number_that_cannot_be_had_fails_with_the_reason_and_offers_compensation(rig):
    """The agent that was made meanwhile stays until somebody decides; another try uses it."""
    rig.numbers.trouble = [
        NumberProblem(
            "none_available",
            "no number in 907",
            nearby=(Nearby("206", "WA", None), Nearby("360", "WA", None)),
        )
    ]
    await rig.add_new()
    await rig.run()
    record = await rig.settled()
    assert record.status == "failed"
    assert steps(record)["number"] == (
        "failed",
        "no number in 907; area codes that have some: 206, 360",
    )
    assert statuses(record)["elevenlabs_agent"] == "done"
    again = [step for step in record.steps if step["status"] == "done"]
    record = await rig.again(status="provisioning", steps=again)
    assert record.status == "live"
    assert len(rig.made) == len(rig.numbers.bought) == 1


@pytest.mark.parametrize(
    ("trouble", "status", "reason"),
    [
        (TwilioRefused(401, 20003, "Authenticate"), "failed", "Authenticate"),
        (TenantState("the tenant is closed"), "failed", "the tenant is closed"),
        (TwilioUnreachable("no connection"), "done", None),
        (TenantBusy("busy"), "done", None),
    ],
    ids=str,
)
async def test_subaccount_that_cannot_be_had_fails_what_needs_it(rig, trouble, status, reason):
    """What may pass is tried again; nothing is bought without an account to buy in."""
    rig.accounts.trouble = [trouble]
    await rig.add_new()
    await rig.run()
    record = await rig.settled()
    assert statuses(record)["subaccount"] == status
    if reason:
        assert reason in steps(record)["subaccount"][1]
        assert steps(record)["number"] == ("failed", "not tried, because of: key")
        assert rig.numbers.bought == {}
        assert statuses(record)["elevenlabs_agent"] == "done"


async def test_transient_trouble_is_overcome_within_the_step(rig):
    """A provider that stumbles does not fail an agent."""
    rig.numbers.trouble = [UNREACHABLE, UNREACHABLE]
    await rig.add()
    await rig.run()
    record = await rig.settled()
    assert record.status == "live"
    assert steps(record)["number"] == ("done", None)
    assert record.steps[2]["tries"] == 3


async def test_trouble_that_lasts_fails_at_the_deadline_with_its_reason(rig, monkeypatch):
    """The last reason says more than that time was up."""
    monkeypatch.setitem(values.DEADLINES_S, "number", 0.05)
    rig.numbers.trouble = [UNREACHABLE] * 100_000
    await rig.add()
    await rig.run()
    record = await rig.settled()
    assert steps(record)["number"] == ("failed", "no connection to Twilio")
    assert record.number_status == "unreachable"
    assert statuses(record)["elevenlabs_agent"] == "done"


async def test_provider_that_says_nothing_fails_at_the_deadline(rig, monkeypatch):
    """Every wait has an end."""
    monkeypatch.setitem(values.DEADLINES_S, "number", 0.05)
    rig.numbers.is_silent = True
    await rig.add()
    await rig.run()
    assert steps(await rig.settled())["number"] == ("failed", "no answer within 0.05 s")


async def test_self_test_that_fails_leaves_the_agent_degraded(rig):
    """The number is answered all the same: one silent conversation is no reason to refuse callers."""
    rig.probe.trouble = [StepFailed("the agent said nothing")]
    await rig.add_new()
    await rig.run()
    record = await rig.settled()
    assert record.status == "degraded"
    assert steps(record)["self_test"] == ("failed", "the agent said nothing")


async def test_agent_without_first_message_is_not_expected_to_speak(rig):
    """It waits for the caller; then the start of the conversation has to do."""
    await rig.add_new(settings={"first_message": ""})
    await rig.run()
    assert (await rig.settled()).status == "live"
    assert rig.probe.asked == [(rig.made[0].agent_id, False)]


# ---- going on ------------------------------------------------------------------------------------


async def test_unfinished_agent_of_an_earlier_run_goes_on_where_it_was(rig):
    """What was done stays done; what was running begins again; what is over is left alone."""
    begun = [
        {"name": "subaccount", "status": "done", "ms": 7},
        {"name": "key", "status": "running", "ms": 0},
    ]
    await rig.add(steps=begun, provisioning_started_at=AT.replace(hour=1))
    await rig.add("agt_2", number_e164=None, status="failed")
    await rig.run()
    record = await rig.settled()
    assert record.status == "live"
    assert record.steps[0] == {"name": "subaccount", "status": "done", "ms": 7}
    assert rig.accounts.ensured == [("key", "tnt_default")]
    assert record.provisioning_started_at.hour == 1
    assert (await rig.get("agt_2")).status == "failed"


async def test_agent_closed_between_two_steps_is_not_written_any_more(rig):
    """The next commit sees it and stops, without a trace and without an error."""

    async def close(tenant_id):
        await rig.store.write(agents.update, "agt_1", status="closed")

    rig.accounts.ensure_key = close
    await rig.add()
    await rig.run()
    record = await rig.settled()
    with trio.fail_after(10):
        while rig.subject._taken:
            await trio.sleep(0.005)
    assert (await rig.get()).status == "closed"
    assert record.provisioning_ended_at is None


async def test_start_twice_runs_the_steps_once(rig):
    """A sweep and a request may meet."""
    await rig.run()
    await rig.add()
    rig.subject.start("agt_1")
    rig.subject.start("agt_1")
    await rig.settled()
    assert len(rig.accounts.ensured) == 2


async def test_mistake_of_ours_in_one_agent_does_not_reach_the_other(rig):
    """The boundary is around each agent; the broken one is tried again at the next sweep."""
    first_audio = rig.probe.first_audio

    async def broken(agent, *, speaks_first):
        if agent.id == "agt_1":
            raise KeyError("a mistake")
        return await first_audio(agent, speaks_first=speaks_first)

    rig.probe.first_audio = broken
    await rig.add()
    await rig.add_new("agt_2")
    await rig.run()
    assert (await rig.settled("agt_2")).status == "live"
    assert (await rig.get("agt_1")).status == "provisioning"


async def test_store_that_fails_postpones_to_the_next_sweep(rig, monkeypatch):
    """Nothing is lost: the agent is still `provisioning` in the store."""
    monkeypatch.setattr(saga, "SWEEP_INTERVAL_S", 0.01)
    write = rig.store.write
    failures = [StoreUnavailable("locked")] * 2

    async def failing_write(fn, *args, **kwargs):
        if failures:
            raise failures.pop()
        return await write(fn, *args, **kwargs)

    await rig.add()
    monkeypatch.setattr(rig.store, "write", failing_write)
    await rig.run()
    assert (await rig.settled()).status == "live"
    assert not failures


# ---- the lease -----------------------------------------------------------------------------------


async def test_agent_of_another_daemon_is_left_alone_until_its_lease_is_over(rig, monkeypatch):
    """Two daemons on one store buy one number."""
    monkeypatch.setattr(saga, "SWEEP_INTERVAL_S", 0.02)
    await rig.add()
    until = AT + timedelta(seconds=saga.LEASE_S)
    assert await rig.store.write(agents.lease, "agt_1", "elsewhere", AT, until) is not None
    await rig.run()
    await trio.sleep(0.1)
    assert (await rig.get()).status == "provisioning"
    assert rig.accounts.ensured == []
    rig.clock.forward(saga.LEASE_S + 1)
    assert (await rig.settled()).status == "live"


async def test_lease_of_the_same_daemon_is_taken_over_at_once(rig):
    """After a crash nobody waits."""
    await rig.add()
    until = AT + timedelta(seconds=saga.LEASE_S)
    await rig.store.write(agents.lease, "agt_1", rig.subject._owner, AT, until)
    await rig.run()
    assert (await rig.settled()).status == "live"


# ---- afterwards ----------------------------------------------------------------------------------


async def test_change_reaches_the_agent_that_was_made(rig):
    """Name, place, words, extractions and site."""
    await rig.run()
    await rig.add_new()
    rig.subject.start("agt_1")
    record = await rig.settled()
    record = await rig.again(
        name="Inland",
        location="Columbia",
        business_url="https://inland.example.com",
        extractions=[{"name": "size", "type": "integer"}],
        pending="update",
        steps=[*record.steps, UPDATE],
    )
    assert steps(record)["elevenlabs_update"] == ("done", None)
    assert record.status == "live"
    config = rig.agent(record.elevenlabs_agent_id)
    agent = config["conversation_config"]["agent"]
    assert "answer the telephone for Inland" in agent["prompt"]["prompt"]
    assert agent["dynamic_variables"]["dynamic_variable_placeholders"]["location"] == "Columbia"
    assert "size" in config["platform_settings"]["data_collection"]
    (document,) = agent["prompt"]["knowledge_base"]
    assert rig.sim.book.documents[document["id"]].url == "https://inland.example.com"
    assert len(rig.made) == 1


async def test_change_that_elevenlabs_refuses_says_so_and_keeps_the_agent_live(rig):
    """Calls go on with what it knew; the step has the reason."""
    await rig.run()
    await rig.add_new()
    rig.subject.start("agt_1")
    record = await rig.settled()
    del rig.sim.book.agents[record.elevenlabs_agent_id]
    record = await rig.again(pending="update", steps=[*record.steps, UPDATE])
    status, error = steps(record)["elevenlabs_update"]
    assert status == "failed"
    assert "not found" in error
    assert record.status == "live"


async def test_further_numbers_lead_to_the_same_agent_with_their_own_place(rig):
    """One definition, many numbers; one that cannot be had does not hold up the others."""
    await rig.add_new()
    numbers = [
        AgentNumberRecord("anum_1", "agt_1", AT, AT, wish={"country": "US", "location": "Boston"}),
        AgentNumberRecord("anum_2", "agt_1", AT, AT, e164="+19995550000",
                          wish={"e164": "+19995550000"}),
    ]  # fmt: skip
    for number in numbers:
        await rig.store.write(agents.add_number, number)
    await rig.run()
    record = await rig.settled()
    first, second = await rig.store.read(agents.numbers_of, "agt_1")
    assert (first.status, second.status) == ("live", "failed")
    assert "does not own" in second.error
    assert record.status == "degraded"
    found = await rig.store.read(agents.by_number, first.e164)
    assert (found.id, found.location) == ("agt_1", "Boston")
    assert (await rig.store.read(agents.by_number, record.number_e164)).location is None


async def test_agent_that_texts_gets_a_number_that_can(rig):
    """Its wish says so; one without messages takes any number."""
    await rig.run()
    await rig.add_new("agt_1", sms={"template": "Thank you."})
    await rig.again("agt_1")
    await rig.add_new("agt_2")
    await rig.again("agt_2")
    assert [wish.sms for wish in rig.numbers.wishes] == [True, False]


@pytest.mark.parametrize(("can", "status"), [(True, "live"), (False, "degraded")])
async def test_adopted_number_that_cannot_text_is_remarked_upon(rig, can, status):
    """Calls work, messages would not: the agent is degraded and says why."""
    await rig.run()
    rig.numbers.owned[NUMBER] = "PN1"
    rig.numbers.capabilities = {"voice": True, "sms": can}
    await rig.add(sms={"template": "Thank you."})
    record = await rig.again()
    assert record.status == status
    remark = steps(record)["number"][1]
    assert (remark is None) if can else ("cannot send text messages" in remark)


async def test_release_gives_back_what_was_bought_and_made(rig):
    """The number and the agent with its document; doing it again finds nothing left."""
    await rig.run()
    await rig.add_new(business_url="https://coastal.example.com")
    rig.subject.start("agt_1")
    record = await rig.settled()
    asked = {"name": "release", "status": "pending", "ms": 0, "what": ["elevenlabs", "number"]}
    for count in range(2):
        record = await rig.again(
            status="closed",
            pending="release",
            steps=[*[s for s in record.steps if s["name"] != "release"], asked],
        )
        assert steps(record)["release"] == ("done", None)
        assert rig.numbers.released == ["+18435550000"] * (count + 1)
    assert rig.made == []
    assert rig.sim.book.documents == {}
    assert await rig.store.read(intents.of_agent, "agt_1") == []


async def test_release_leaves_what_was_adopted(rig):
    """It was there before us."""
    asked = {"name": "release", "status": "pending", "ms": 0, "what": ["elevenlabs", "number"]}
    await rig.add(status="closed", pending="release", steps=[asked], number_sid="PN1")
    await rig.run()
    assert steps(await rig.settled())["release"] == ("done", None)
    assert rig.numbers.released == []
    assert "agent_1" in rig.sim.book.agents
