"""Numbers that can be dialled: refused is only what no country has, at every door by the name of its field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from control.routing.model import Routes
from control.sms import settings as sms
from control.store import agents
from control.telephone_number import can_be_dialled
from tests.control.api_rig import Rig, agent, open_rig

NOBODYS = "+99912345678"
AGENT: dict[str, Any] = {
    "name": "Front desk",
    "number": {"e164": "+15550100123"},
    "elevenlabs_agent_id": "agent_1",
}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


@pytest.mark.parametrize(
    "number",
    [
        "+15550100456",  # for tests: 555 is no area code
        "+14155550100",
        "+447700900123",
        "+390612345678",  # an Italian 0 belongs to the number
        "+2250701234567",
        "+33199000000",
        "+38344123456",
        "+80012345678",
    ],
)
def test_number_that_may_exist_can_be_dialled(number: str) -> None:
    """In use or not, of a country or of none."""
    assert can_be_dialled(number)


@pytest.mark.parametrize(
    "number",
    [
        NOBODYS,
        "+21012345678",
        "+1234567",
        "+12345678",  # seven digits: within an area alone
        "+141555501001",
        "+4407700900123",  # +447700900123, as people write it: an opt-out of that would not be found
        "+610412345678",
        "15550100456",
        "+0123456789",
        "+15550100456\n",
        "+١٥٥٥٠١٠٠٤٥٦",
        "",
    ],
)
def test_number_that_no_country_has_cannot_be_dialled(number: str) -> None:
    """No such code, too short, too long, or with a digit that is not dialled from abroad."""
    assert not can_be_dialled(number)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v2/calls/initiate", {"agent_id": "agt_0001", "to": NOBODYS}, "to"),
        ("/v2/policy/check", {"agent_id": "agt_0001", "to": NOBODYS}, "to"),
        (
            "/v2/policy/check",
            {"agent_id": "agt_0001", "to": "+15550100456", "from": NOBODYS},
            "from",
        ),
        ("/v2/numbers", {"e164": NOBODYS}, "e164"),
        ("/v2/calls/call_0001/transfer", {"to": {"number": NOBODYS}}, "to.number"),
        ("/v2/agents", AGENT | {"number": {"e164": NOBODYS}}, "number.e164"),
        ("/v2/agents", AGENT | {"numbers": [{"e164": NOBODYS}]}, "numbers.0.e164"),
        ("/v2/agents", AGENT | {"transfer_numbers": [NOBODYS]}, "transfer_numbers.0"),
        ("/v2/agents", AGENT | {"routes": [{"to": {"number": NOBODYS}}]}, "routes.0.to.number"),
        ("/v2/agents", AGENT | {"fallback": {"number": NOBODYS}}, "fallback.number"),
        ("/v2/agents", AGENT | {"sms": {"template": "Hi", "to": NOBODYS}}, "sms.to"),
        ("/v2/agents/agt_0001/numbers", {"e164": NOBODYS}, "e164"),
    ],
)
async def test_number_of_no_country_is_422_with_its_field(
    rig: Rig, path: str, body: dict[str, Any], field: str
) -> None:
    """Before anything is asked of anybody."""
    await rig.store.write(agents.insert, agent(1))
    answered = await rig.ask("POST", path, body)
    assert (answered.status, answered.fields()) == (422, [field])
    assert "no country has this code" in answered.problem()["detail"]
    assert rig.switchboard.asked == []


async def test_number_of_no_country_in_the_routes_of_a_number_is_422(rig: Rig) -> None:
    """And with a change, too."""
    routes = {"routes": [{"to": {"number": NOBODYS}}]}
    answered = await rig.ask("PUT", "/v2/numbers/+15550100123/routes", routes)
    assert (answered.status, answered.fields()) == (422, ["routes.0.to.number"])
    await rig.store.write(agents.insert, agent(1))
    answered = await rig.ask("PATCH", "/v2/agents/agt_0001", routes)
    assert (answered.status, answered.fields()) == (422, ["routes.0.to.number"])


def test_route_that_was_stored_before_stays_readable() -> None:
    """Numbering plans change; the routes beside it still take their calls."""
    stored = [{"to": {"number": NOBODYS}}, {"to": {"agent_id": "agt_0001"}}]
    assert len(TypeAdapter(Routes).validate_python(stored)) == 2
    assert sms.parse({"template": "Hi", "to": NOBODYS}).to == NOBODYS


def test_text_message_goes_to_no_number_that_a_model_has_made_up() -> None:
    """A field of the analysis; the customer's own number is what Twilio says it is."""
    settings = sms.parse({"template": "Hi", "to": "{callback}"}, {"callback"})
    assert sms.recipient(settings, "+15550100456", {"callback": NOBODYS}) is None
    assert sms.recipient(settings, None, {"callback": "+1 (555) 010-0456"}) == "+15550100456"
