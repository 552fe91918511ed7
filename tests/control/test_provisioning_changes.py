"""Provisioning: agents that are there are changed, get numbers, and are given back."""

from __future__ import annotations

import pytest

from control.store import agents, intents
from control.store.records import AgentNumberRecord
from tests.control.saga_rig import AT, NUMBER, UPDATE, open_impatient, steps


@pytest.fixture
async def rig(tmp_path, monkeypatch):
    async with open_impatient(tmp_path, monkeypatch) as opened:
        yield opened


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
