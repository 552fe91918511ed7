"""`/v2/agents`: adopt, show, change, close; every wrong field by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.compliance.facts import Asked, assemble
from control.compliance.number_file import Shelf
from control.store import agents, intents
from control.store.intents import Intent
from policy.facts import Script
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
    assert shown["elevenlabs"]["agent_id"] == "agent_1"
    assert shown["elevenlabs"]["status"] == "pending"
    assert shown["provisioning"]["elapsed_s"] == 0
    assert [step["status"] for step in shown["provisioning"]["steps"]] == ["pending"] * 8
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
        "sms": {"template": "Booked: {booked}, {business_name}"},
        "prompt": "You are {business}.",
        "first_message": "Hello",
        "language": "fr",
        "voice_id": "v1",
        "location": {"city": "Paris"},
        "record": True,
        "max_call_s": 600,
        "fallback": {"number": "+15550100456", "timeout_s": 20},
        "machine_detection": {"on_machine": "hang_up", "mode": "fast"},
        "opt_out_digit": "",
        "purpose": "informational",
        "script": {
            "identification": True,
            "ai_disclosure": True,
            "opt_out_line": False,
            "recording_notice": True,
            "callback_number": True,
            "toll_free_opt_out": False,
        },
    }
    shown = (await rig.ask("POST", "/v2/agents", BODY | extra)).json
    assert {name: shown[name] for name in extra} == extra


async def test_opening_hours_are_taken_as_people_write_them(rig: Rig) -> None:
    """A digit for the hour, spaces, pairs, one span without a list, a closed day; kept as they were given."""
    hours = {"mon": ["9:00-17:00", "18:00 - 2:00"], "Tuesday": [["9:00", "17:00"]], "wed": []}
    given = {**hours, "thu": "9:00-17:00", "fri": None, "sun": "closed"}
    answered = await rig.ask("POST", "/v2/agents", BODY | {"hours": given})
    assert answered.status == 202, answered.json
    assert answered.json["hours"] == {**hours, "thu": ["9:00-17:00"], "fri": [], "sun": []}


async def test_agent_on_a_number_in_use_is_409(rig: Rig) -> None:
    """The problem names the field and who has the number; nothing is provisioned."""
    first = (await rig.ask("POST", "/v2/agents", BODY)).json
    answered = await rig.ask("POST", "/v2/agents", BODY | {"name": "Other"})
    assert answered.status == 409
    assert answered.fields() == ["number.e164"]
    assert answered.problem()["agent_id"] == first["id"]
    assert len(rig.provisioning.started) == 1


async def test_further_number_given_twice_or_taken_is_named(rig: Rig) -> None:
    """Not the first number, which nobody else has; and nothing is kept."""
    other = (await rig.ask("POST", "/v2/agents", BODY)).json
    free, further = "+15550100124", {"e164": "+15550100125"}
    for numbers in ([{"e164": free}], [further, further]):
        body = BODY | {"number": {"e164": free}, "numbers": numbers}
        answered = await rig.ask("POST", "/v2/agents", body)
        assert (answered.status, answered.fields()) == (
            422,
            [f"numbers.{len(numbers) - 1}.e164"],
        )
    body = BODY | {"number": {"e164": free}, "numbers": [further, {"e164": NUMBER}]}
    answered = await rig.ask("POST", "/v2/agents", body)
    assert (answered.status, answered.fields()) == (409, ["numbers.1.e164"])
    assert answered.problem()["agent_id"] == other["id"]
    assert len((await rig.ask("GET", "/v2/agents")).json["items"]) == 1


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
        ({"number": {}}, "number"),
        ({"number": {"type": "local"}}, "number.country"),
        ({"number": {"country": "XX"}}, "number.country"),
        ({"number": {"country": "US", "area_code": "12"}}, "number.area_code"),
        ({"number": {"country": "US", "area_code": "416"}}, "number.area_code"),
        ({"number": {"country": "US", "contains": "("}}, "number.contains"),
        ({"number": {"type": "pager", "country": "US"}}, "number.type"),
        ({"number": {"e164": NUMBER, "area_code": "843"}}, "number.area_code"),
        ({"numbers": [{"country": "US"}, {"country": "XX"}]}, "numbers.1.country"),
        ({"vertical": "plumbing"}, "vertical"),
        ({"language": "English"}, "language"),
        ({"prompt": ""}, "prompt"),
        ({"manage": "no"}, "manage"),
        ({"extractions": 5}, "extractions"),
        ({"extractions": ["size"]}, "extractions.0"),
        ({"extractions": [{"type": "string"}]}, "extractions.0.name"),
        ({"extractions": {"size": {"type": "decimal"}}}, "extractions.size.type"),
        ({"extractions": [{"name": "size", "type": "int"}]}, "extractions.size.type"),
        ({"extractions": {"size": {}}}, "extractions.size.type"),
        ({"extractions": {"party size": {"type": "integer"}}}, "extractions.party size"),
        ({"extractions": {"a": {"type": "integer", "enum": ["x"]}}}, "extractions.a.enum"),
        ({"extractions": {"a": {"type": "integer", "enum": []}}}, "extractions.a.enum"),
        ({"extractions": {"a": {"type": "string", "required": 1}}}, "extractions.a.required"),
        ({"extractions": {"a": {"type": "string", "title": "A"}}}, "extractions.a.title"),
        ({"extractions": {f"f{n}": {"type": "string"} for n in range(26)}}, "extractions"),
        ({"sms": {"template": "Hi {nmae}"}}, "sms.template"),
        ({"fallback": {}}, "fallback"),
        ({"fallback": "+15550100456"}, "fallback"),
        ({"fallback": {"number": "+15550100456", "message": "Hello"}}, "fallback"),
        ({"fallback": {"number": "5550100456"}}, "fallback.number"),
        ({"fallback": {"number": NUMBER}}, "fallback.number"),
        ({"fallback": {"sip": "desk@example.com"}}, "fallback.sip"),
        ({"fallback": {"message": ""}}, "fallback.message"),
        ({"fallback": {"message": "Hello", "timeout_s": 4}}, "fallback.timeout_s"),
        ({"fallback": {"client": "ada"}}, "fallback.client"),
        ({"number": {"e164": "15550100123"}}, "number.e164"),
        ({"number": {"e164": "+1555"}}, "number.e164"),
        ({"number": {"e164": "+1234567890123456"}}, "number.e164"),
        ({"number": {"e164": "+1555010012x"}}, "number.e164"),
        ({"number": {"e164": NUMBER + "\n"}}, "number.e164"),
        ({"number": {"e164": "+1 555 010 0123"}}, "number.e164"),
        ({"number": {"e164": "+١٥٥٥٠١٠٠١٢٣"}}, "number.e164"),
        ({"number": {"e164": NUMBER, "colour": 1}}, "number.colour"),
        ({"elevenlabs_agent_id": ""}, "elevenlabs_agent_id"),
        ({"tenant_id": "tnt_other"}, "tenant_id"),
        ({"hours": {"tue": [], "mon": ["9-5"]}}, "hours.mon.0"),
        ({"hours": {"mon": ["09:00-12:00", "13:00"]}}, "hours.mon.1"),
        ({"hours": {"mon": "9am-5pm"}}, "hours.mon.0"),
        ({"hours": {"mon": ["09:00-09:00"]}}, "hours.mon.0"),
        ({"hours": {"mon": [{"open": "09:00"}]}}, "hours.mon.0"),
        ({"hours": {"weekdays": ["09:00-17:00"]}}, "hours.weekdays"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"business_url": "javascript:alert(1)"}, "business_url"),
        ({"variables": {"system__caller_id": "+1"}}, "variables.system__caller_id"),
        ({"variables": {"": "x"}}, "variables."),
        ({"variables": {"v" * 101: "x"}}, f"variables.{'v' * 101}"),
        ({"business_url": "http://169.254.169.254/latest/meta-data/"}, "business_url"),
        ({"business_url": "http://metadata.google.internal/"}, "business_url"),
        ({"business_url": "https://user:secret@example.com/"}, "business_url"),
        ({"variables": {"a": [1]}}, "variables.a"),
        ({"variables": []}, "variables"),
        ({"record": "yes"}, "record"),
        ({"record": 1}, "record"),
        ({"max_call_s": 0}, "max_call_s"),
        ({"max_call_s": 14401}, "max_call_s"),
        ({"max_call_s": "60"}, "max_call_s"),
        ({"machine_detection": {"on_machine": "shout"}}, "machine_detection.on_machine"),
        ({"script": {"identification": "perhaps"}}, "script.identification"),
        ({"script": {"identified": True}}, "script.identified"),
        ({"purpose": "fun"}, "purpose"),
        ({"opt_out_digit": "10"}, "opt_out_digit"),
        ({"name": " \u2003"}, "name"),
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


async def test_agent_of_which_everything_is_to_be_made_is_202(rig: Rig) -> None:
    """A kind of number and no ElevenLabs agent: both are had in the background."""
    body = {"name": "Coastal", "number": {"country": "us", "area_code": "843"}, "vertical": "hvac"}
    shown = (await rig.ask("POST", "/v2/agents", body)).json
    assert shown["status"] == "provisioning"
    assert shown["number"]["e164"] is None
    assert shown["elevenlabs"]["agent_id"] is None
    stored = await rig.store.read(agents.get, shown["id"])
    assert stored is not None
    assert stored.settings["number"] == {"country": "us", "area_code": "843"}


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
