"""`/v2/agents`: shown, listed, looked at again, tried again; and the verticals there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from control.store import agents, intents
from control.store.intents import Intent
from tests.control.api_rig import NOW, Rig, agent, open_rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def test_verticals_are_listed_with_all_that_they_give(rig: Rig) -> None:
    """What an agent is made from can be read before one is made."""
    listed = (await rig.ask("GET", "/v2/verticals")).json["items"]
    names = {item["name"] for item in listed}
    assert names >= {"hvac", "dental", "legal", "real_estate", "restaurant", "generic"}
    assert all(item["prompt"] and item["extractions"] for item in listed)


async def test_agent_refreshed_is_looked_at_first(rig: Rig) -> None:
    """Without it what is known is shown."""
    await rig.store.write(agents.insert, agent(1))
    await rig.ask("GET", "/v2/agents/agt_0001")
    assert rig.provisioning.checked == []
    assert (await rig.ask("GET", "/v2/agents/agt_0001?refresh=true")).status == 200
    assert rig.provisioning.checked == ["agt_0001"]
    assert (await rig.ask("GET", "/v2/agents/agt_0001?refresh=maybe")).fields() == ["refresh"]


async def test_agent_failed_is_tried_again_from_the_failed_steps(rig: Rig) -> None:
    """What is done stays done; an agent that is well has nothing to retry."""
    steps = [
        {"name": "number", "status": "done", "ms": 5},
        {"name": "elevenlabs_agent", "status": "failed", "ms": 5, "error": "no"},
        {"name": "live", "status": "failed", "ms": 0},
    ]
    await rig.store.write(agents.insert, agent(1, status="failed", steps=steps))
    answered = await rig.ask("POST", "/v2/agents/agt_0001/retry")
    assert (answered.status, answered.json["status"]) == (202, "provisioning")
    assert [step["name"] for step in answered.json["provisioning"]["steps"]] == ["number"]
    assert rig.provisioning.started == ["agt_0001"]
    assert (await rig.ask("POST", "/v2/agents/agt_0001/retry")).status == 409


async def test_agent_failed_offers_what_can_be_given_back(rig: Rig) -> None:
    """Nothing is released unless somebody asks."""
    await rig.store.write(
        agents.insert,
        agent(1, status="failed", number_sid="PN1", settings={"number": {"country": "US"}}),
    )
    intent = Intent("elevenlabs_agent", "agt_0001", NOW, NOW, agent_id="agt_0001")
    await rig.store.write(intents.open_, intent)
    await rig.store.write(intents.made, "elevenlabs_agent", "agt_0001", "agent_9", NOW)
    shown = (await rig.ask("GET", "/v2/agents/agt_0001")).json
    assert [(one["what"], one["resource"]) for one in shown["compensation"]] == [
        ("number", "PN1"),
        ("elevenlabs", "agent_9"),
    ]
    assert shown["compensation"][0]["do"] == "DELETE /v2/agents/agt_0001?release=number"
    closed = await rig.ask("DELETE", "/v2/agents/agt_0001?release=number,elevenlabs")
    assert (closed.json["status"], closed.json["pending"]) == ("closed", "release")
    assert rig.provisioning.started == ["agt_0001"]
    wrong = await rig.ask("DELETE", "/v2/agents/agt_0001?release=everything")
    assert wrong.fields() == ["release"]


async def test_agent_unknown_is_404_for_every_method(rig: Rig) -> None:
    """Show, change and close."""
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        answered = await rig.ask(method, "/v2/agents/agt_none", body)
        assert answered.status == 404
        answered.problem()


async def test_agents_listed_in_pages(rig: Rig) -> None:
    """Newest first; the cursor leads through all of them once."""
    for number in range(1, 6):
        await rig.store.write(agents.insert, agent(number))
    seen: list[str] = []
    path = "/v2/agents?limit=2"
    for _ in range(3):
        page = (await rig.ask("GET", path)).json
        seen += [item["id"] for item in page["items"]]
        path = f"/v2/agents?limit=2&cursor={page['next_cursor']}"
    assert seen == [f"agt_{number:04}" for number in (5, 4, 3, 2, 1)]
    assert page["next_cursor"] is None
    assert (await rig.ask("GET", "/v2/agents?status=failed")).json["items"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("cursor=nonsense!", "cursor"),
        ("cursor=" + "a" * 300, "cursor"),
        ("status=odd", "status"),
        ("stauts=live", "stauts"),
        ("limit=1&limit=2", "limit"),
    ],
)
async def test_agents_listed_with_wrong_query_is_422_naming_it(
    rig: Rig, query: str, field: str
) -> None:
    """A filter that is misspelt must not show everything."""
    answered = await rig.ask("GET", f"/v2/agents?{query}")
    assert answered.status == 422
    assert answered.fields() == [field]


async def test_agent_provisioned_shows_how_long_it_took(rig: Rig) -> None:
    """While it runs the clock counts, afterwards the end."""
    await rig.store.write(agents.insert, agent(1, provisioning_started_at=NOW))
    rig.clock.forward(2.5)
    running = (await rig.ask("GET", "/v2/agents/agt_0001")).json
    assert running["provisioning"]["elapsed_s"] == 2.5
    await rig.store.write(agents.update, "agt_0001", provisioning_ended_at=rig.clock.now())
    rig.clock.forward(100)
    done = (await rig.ask("GET", "/v2/agents/agt_0001")).json
    assert done["provisioning"]["elapsed_s"] == 2.5
