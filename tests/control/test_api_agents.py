"""`/v2/agents`: adopted or made from nothing; every wrong field by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from control.store import agents
from tests.control.api_rig import Rig, open_rig

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
