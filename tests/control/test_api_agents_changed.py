"""`/v2/agents`: what can be changed of an agent, when, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.compliance.facts import Asked, assemble
from control.compliance.number_file import Shelf
from control.store import agents
from policy.facts import Script
from tests.control.api_rig import NOW, Rig, agent, open_rig

NUMBER = "+15550100123"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def test_agent_changed_in_what_elevenlabs_knows_is_told_there(rig: Rig) -> None:
    """As a step that can be followed; a change of our own needs none."""
    await rig.store.write(agents.insert, agent(1))
    quiet = (await rig.ask("PATCH", "/v2/agents/agt_0001", {"record": True})).json
    assert (quiet["pending"], quiet["provisioning"]["steps"]) == (None, [])
    assert rig.provisioning.started == []
    told = (await rig.ask("PATCH", "/v2/agents/agt_0001", {"first_message": "Hi"})).json
    assert told["pending"] == "update"
    assert told["provisioning"]["steps"] == [
        {"name": "elevenlabs_update", "status": "pending", "ms": 0}
    ]
    assert told["first_message"] == "Hi"
    assert rig.provisioning.started == ["agt_0001"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"extractions": {"a": {"type": "x"}}}, "extractions.a.type"),
        ({"extractions": [], "sms": {"template": "{caller_name}"}}, "sms.template"),
        ({"vertical": "x"}, "vertical"),
        ({"timezone": "x"}, "timezone"),
        ({"name": "  "}, "name"),
        ({"hours": {"mon": ["9-5"]}}, "hours.mon.0"),
    ],
    ids=str,
)
async def test_agent_changed_to_something_wrong_is_422_and_stays(
    rig: Rig, body: dict[str, Any], field: str
) -> None:
    """Checked against what the agent is after the change."""
    await rig.store.write(agents.insert, agent(1))
    answered = await rig.ask("PATCH", "/v2/agents/agt_0001", body)
    assert (answered.status, answered.fields()) == (422, [field])
    assert rig.provisioning.started == []


async def test_further_numbers_are_added_listed_and_removed(rig: Rig) -> None:
    """One agent, several numbers; a number has one agent."""
    for number in (1, 2):
        await rig.store.write(agents.insert, agent(number))
    path = "/v2/agents/agt_0001/numbers"
    added = await rig.ask("POST", path, {"e164": "+15550109999", "location": "Boston"})
    assert (added.status, added.json["status"]) == (202, "pending")
    assert rig.provisioning.started == ["agt_0001"]
    shown = (await rig.ask("GET", "/v2/agents/agt_0001")).json
    assert [number["e164"] for number in shown["numbers"]] == ["+15550109999"]
    assert shown["provisioning"]["steps"][0]["name"] == "numbers"
    taken = await rig.ask("POST", "/v2/agents/agt_0002/numbers", {"e164": "+15550109999"})
    assert (taken.status, taken.problem()["agent_id"]) == (409, "agt_0001")
    first = await rig.ask("POST", path, {"e164": "+15550100002"})
    assert (first.status, first.problem()["agent_id"]) == (409, "agt_0002")
    assert (await rig.ask("POST", path, {"country": "XX"})).fields() == ["number.country"]
    listed = (await rig.ask("GET", path)).json["items"]
    removed = await rig.ask("DELETE", f"{path}/{listed[0]['id']}")
    assert removed.status == 200
    assert (await rig.ask("DELETE", f"{path}/{listed[0]['id']}")).status == 404
    assert (await rig.ask("GET", path)).json["items"] == []


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
        {"number": None},
        {"number": {}},
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


async def test_number_that_could_not_be_had_is_corrected_and_tried_again(rig: Rig) -> None:
    """The new wish takes the place of the old one whole; the agent is not begun anew."""
    wish = {"type": "local", "country": "US", "area_code": "212"}
    steps = [{"name": "number", "status": "failed", "ms": 5, "error": "sold out"}]
    failed = agent(1, status="failed", number_e164=None, steps=steps, settings={"number": wish})
    await rig.store.write(agents.insert, failed)
    await rig.store.write(agents.insert, agent(2))
    path, better = "/v2/agents/agt_0001", {"country": "US", "area_code": "843"}
    shown = await rig.ask("PATCH", path, {"number": better})
    assert (shown.status, shown.json["status"]) == (200, "failed")
    stored = await rig.store.read(agents.get, "agt_0001")
    assert stored is not None
    assert stored.settings["number"] == better
    assert (await rig.ask("PATCH", path, {"number": {"country": "XX"}})).fields() == [
        "number.country"
    ]
    taken = await rig.ask("PATCH", path, {"number": {"e164": "+15550100002"}})
    assert (taken.status, taken.problem()["agent_id"]) == (409, "agt_0002")
    shown = await rig.ask("PATCH", path, {"number": {"e164": NUMBER}})
    assert shown.json["number"]["e164"] == NUMBER
    assert (await rig.ask("POST", f"{path}/retry")).status == 202


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "live", "number_sid": "PN1"},
        {"status": "failed", "number_sid": "PN1"},
        {"status": "provisioning"},
    ],
    ids=str,
)
async def test_number_that_is_had_or_asked_for_is_not_exchanged(
    rig: Rig, columns: dict[str, Any]
) -> None:
    """A bought number stays; while the saga may be buying one, nothing is changed under it."""
    await rig.store.write(agents.insert, agent(1, **columns))
    answered = await rig.ask("PATCH", "/v2/agents/agt_0001", {"number": {"country": "US"}})
    assert (answered.status, answered.fields()) == (409, ["number"])


async def test_settings_of_outbound_calls_are_changed_and_taken_away(rig: Rig) -> None:
    """What happens with machines, and the key that opts out."""
    await rig.store.write(agents.insert, agent(1))
    wanted = {"on_machine": "leave_message", "mode": "message_end", "message": "Please call us."}
    path = "/v2/agents/agt_0001"
    shown = await rig.ask("PATCH", path, {"machine_detection": wanted, "opt_out_digit": "7"})
    assert (shown.json["machine_detection"], shown.json["opt_out_digit"]) == (wanted, "7")
    shown = await rig.ask("PATCH", path, {"machine_detection": None, "opt_out_digit": None})
    assert (shown.json["machine_detection"], shown.json["opt_out_digit"]) == (None, None)


async def test_what_an_adopted_agent_says_itself_and_what_its_calls_are_for_reach_the_rules(
    rig: Rig,
) -> None:
    """Without the declaration the script is empty; a change counts from the next question on."""
    await rig.store.write(agents.insert, agent(1))

    async def known() -> Any:
        asked = Asked(
            "outbound", "check", "tnt_default", "agt_0001", "+15550100001", "+12125550123"
        )
        return await rig.store.read(assemble, asked, NOW, NOW, Shelf(Path("nowhere")))

    path = "/v2/agents/agt_0001"
    facts = await known()
    assert (facts.purpose, facts.agent.script) == (None, Script())
    given = {"purpose": "survey", "script": {"identification": True, "recording_notice": True}}
    await rig.ask("PATCH", path, given)
    facts = await known()
    assert facts.purpose == "survey"
    assert facts.agent.script == Script(identification=True, recording_notice=True)
    shown = await rig.ask("PATCH", path, {"purpose": None, "script": None})
    assert (shown.json["purpose"], shown.json["script"]) == (None, None)
    assert (await known()).agent.script == Script()


async def test_change_of_another_field_does_not_look_at_the_stored_page(rig: Rig) -> None:
    """A page that was allowed when it was given, and no longer is: a name can be changed all the same."""
    stored = "http://192.168.1.10/"
    await rig.store.write(agents.insert, agent(1, business_url=stored))
    path = "/v2/agents/agt_0001"
    changed = await rig.ask("PATCH", path, {"name": "Reception"})
    assert (changed.status, changed.json["name"]) == (200, "Reception")
    assert changed.json["business_url"] == stored
    refused = await rig.ask("PATCH", path, {"name": "Desk", "business_url": stored})
    assert (refused.status, refused.fields()) == (422, ["business_url"])
    assert (await rig.ask("GET", path)).json["name"] == "Reception"
    assert (await rig.ask("PATCH", path, {"business_url": None})).json["business_url"] is None


async def test_agent_closed_cannot_be_changed(rig: Rig) -> None:
    """Closed is closed."""
    await rig.store.write(agents.insert, agent(1, status="closed"))
    assert (await rig.ask("PATCH", "/v2/agents/agt_0001", {"name": "x"})).status == 409
