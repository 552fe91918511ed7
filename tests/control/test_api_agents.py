"""`/v2/agents`: adopt, show, change, close; every wrong field by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from control.store import agents
from tests.control.api_rig import NOW, Rig, agent, open_rig

NUMBER = "+15550100123"
BODY: dict[str, Any] = {
    "name": "Front desk",
    "number": {"e164": NUMBER},
    "elevenlabs_agent_id": "agent_1",
}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def test_agent_created_is_202_and_provisioned_in_the_background(rig: Rig) -> None:
    """The answer is the contract's agent; provisioning is told; the agent is in the store."""
    answered = await rig.ask("POST", "/v2/agents", BODY)
    assert answered.status == 202
    shown = answered.json
    assert shown["id"].startswith("agt_")
    assert answered.headers["Location"] == f"/v2/agents/{shown['id']}"
    assert shown["tenant_id"] == "tnt_default"
    assert shown["status"] == "provisioning"
    assert shown["number"] == {"e164": NUMBER, "sid": None, "type": None, "status": "pending"}
    assert shown["subaccount"] == {"sid": "AC" + "0" * 32, "status": "active"}
    assert shown["elevenlabs"] == {"agent_id": "agent_1", "status": "pending"}
    assert shown["provisioning"]["elapsed_s"] == 0
    assert [step["status"] for step in shown["provisioning"]["steps"]] == ["pending"] * 3
    assert shown["created_at"] == "2026-11-21T09:00:00Z"
    assert rig.provisioning.started == [shown["id"]]
    assert (await rig.ask("GET", f"/v2/agents/{shown['id']}")).json == shown


async def test_agent_created_with_everything_keeps_everything(rig: Rig) -> None:
    """Every optional field of the contract, and our additions, come back."""
    extra = {
        "tenant_id": "tnt_default",
        "business_url": "https://example.com/a",
        "vertical": "dental",
        "timezone": "Europe/Paris",
        "hours": {"mon": ["09:00-17:00"]},
        "variables": {"office": "Main", "floor": 2, "open": True, "rate": 1.5},
        "extractions": [{"name": "booked", "type": "boolean"}],
        "sms": {"after": "thanks"},
        "location": {"city": "Paris"},
        "record": True,
        "max_call_s": 600,
    }
    shown = (await rig.ask("POST", "/v2/agents", BODY | extra)).json
    assert {name: shown[name] for name in extra} == extra


async def test_agent_on_a_number_in_use_is_409(rig: Rig) -> None:
    """The problem names the field and who has the number; nothing is provisioned."""
    first = (await rig.ask("POST", "/v2/agents", BODY)).json
    answered = await rig.ask("POST", "/v2/agents", BODY | {"name": "Other"})
    assert answered.status == 409
    assert answered.fields() == ["number.e164"]
    assert answered.problem()["agent_id"] == first["id"]
    assert len(rig.provisioning.started) == 1


async def test_agent_on_the_number_of_a_closed_one_is_accepted(rig: Rig) -> None:
    """DELETE frees the number, keeps the record, and may be repeated."""
    first = (await rig.ask("POST", "/v2/agents", BODY)).json
    for _ in range(2):
        closed = await rig.ask("DELETE", f"/v2/agents/{first['id']}")
        assert (closed.status, closed.json["status"]) == (200, "closed")
    assert (await rig.ask("POST", "/v2/agents", BODY)).status == 202


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"number": None}, "number"),
        ({"number": NUMBER}, "number"),
        ({"number": {}}, "number.e164"),
        ({"number": {"e164": "15550100123"}}, "number.e164"),
        ({"number": {"e164": "+1555"}}, "number.e164"),
        ({"number": {"e164": "+1234567890123456"}}, "number.e164"),
        ({"number": {"e164": "+1555010012x"}}, "number.e164"),
        ({"number": {"e164": NUMBER + "\n"}}, "number.e164"),
        ({"number": {"e164": "+1 555 010 0123"}}, "number.e164"),
        ({"number": {"e164": "+١٥٥٥٠١٠٠١٢٣"}}, "number.e164"),
        ({"number": {"type": "local", "country": "US"}}, "number.type"),
        ({"number": {"e164": NUMBER, "colour": 1}}, "number.colour"),
        ({"elevenlabs_agent_id": None}, "elevenlabs_agent_id"),
        ({"tenant_id": "tnt_other"}, "tenant_id"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"business_url": "javascript:alert(1)"}, "business_url"),
        ({"variables": {"a": [1]}}, "variables.a"),
        ({"variables": []}, "variables"),
        ({"record": "yes"}, "record"),
        ({"record": 1}, "record"),
        ({"max_call_s": 0}, "max_call_s"),
        ({"max_call_s": 14401}, "max_call_s"),
        ({"max_call_s": "60"}, "max_call_s"),
        ({"nmae": "x"}, "nmae"),
    ],
    ids=str,
)
async def test_agent_with_wrong_field_is_422_naming_it(
    rig: Rig, change: dict[str, Any], field: str
) -> None:
    """Nothing is coerced, nothing unknown is swallowed, nothing is stored."""
    answered = await rig.ask("POST", "/v2/agents", BODY | change)
    assert answered.status == 422
    assert answered.fields()[0].startswith(field)
    assert (await rig.ask("GET", "/v2/agents")).json["items"] == []


async def test_agent_with_several_wrong_fields_names_them_all(rig: Rig) -> None:
    """One round is enough to put them right."""
    answered = await rig.ask("POST", "/v2/agents", {"number": {"e164": "x"}, "zip": 1})
    assert sorted(answered.fields()) == ["name", "number.e164", "zip"]


@pytest.mark.parametrize("field", ["number.type", "elevenlabs_agent_id"])
async def test_agent_to_be_bought_or_made_is_not_supported_yet(rig: Rig, field: str) -> None:
    """The answer says what is supported now."""
    body = BODY | {"number": {"type": "local"}} if field == "number.type" else dict(BODY)
    if field == "elevenlabs_agent_id":
        del body["elevenlabs_agent_id"]
    answered = await rig.ask("POST", "/v2/agents", body)
    assert answered.status == 422
    assert answered.problem()["type"] == "/docs#problem-not-supported"
    assert "not supported yet" in answered.problem()["detail"]
    assert answered.fields() == [field]


async def test_agent_unknown_is_404_for_every_method(rig: Rig) -> None:
    """Show, change and close."""
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        answered = await rig.ask(method, "/v2/agents/agt_none", body)
        assert answered.status == 404
        answered.problem()


async def test_agent_changed_keeps_what_was_not_given(rig: Rig) -> None:
    """A given field is replaced, null takes away, the rest stays."""
    await rig.store.write(
        agents.insert,
        agent(1, timezone="Europe/Paris", settings={"record": True, "future": 1}),
    )
    rig.clock.forward(5)
    answered = await rig.ask(
        "PATCH",
        "/v2/agents/agt_0001",
        {"name": "Night", "timezone": None, "variables": {"a": 1}, "max_call_s": 60},
    )
    assert answered.status == 200
    shown = answered.json
    assert (shown["name"], shown["timezone"], shown["variables"]) == ("Night", None, {"a": 1})
    assert (shown["record"], shown["max_call_s"]) == (True, 60)
    assert shown["updated_at"] == "2026-11-21T09:00:05Z"
    stored = await rig.store.read(agents.get, "agt_0001")
    assert stored is not None
    assert stored.settings == {"record": True, "future": 1, "max_call_s": 60}
    assert (await rig.ask("PATCH", "/v2/agents/agt_0001", {"max_call_s": None})).json[
        "max_call_s"
    ] is None


@pytest.mark.parametrize(
    "body",
    [
        {"name": None},
        {"variables": None},
        {"record": None},
        {"number": {"e164": NUMBER}},
        {"id": "x"},
    ],
    ids=str,
)
async def test_agent_changed_in_what_cannot_change_is_422(rig: Rig, body: dict[str, Any]) -> None:
    """What must have a value cannot lose it; what is fixed is no field of PATCH."""
    await rig.store.write(agents.insert, agent(1))
    answered = await rig.ask("PATCH", "/v2/agents/agt_0001", body)
    assert answered.status == 422
    assert answered.fields()[0] in body


async def test_agent_closed_cannot_be_changed(rig: Rig) -> None:
    """Closed is closed."""
    await rig.store.write(agents.insert, agent(1, status="closed"))
    assert (await rig.ask("PATCH", "/v2/agents/agt_0001", {"name": "x"})).status == 409


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
