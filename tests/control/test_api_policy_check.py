"""`/v2/policy/check`, and what a request for a call says to the rules: purpose and place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from control.refusals import AgentNotFound
from tests.control.api_rig import DENY, NOW, Rig, open_rig

BODY: dict[str, Any] = {"agent_id": "agt_0001", "to": "+15550100456"}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def test_policy_check_answers_the_decision(rig: Rig) -> None:
    """As the policy made it, also when it denies; nothing is dialled."""
    rig.switchboard.result = DENY
    answered = await rig.ask("POST", "/v2/policy/check", BODY | {"at": "2026-11-21T10:00:00+01:00"})
    assert (answered.status, answered.json) == (200, DENY)
    asked = BODY | {"direction": "outbound", "at": NOW, "tenant_id": None}
    assert rig.switchboard.asked == [
        asked | {"channel": "voice", "from_number": None, "meaning": {}}
    ]


SAID = {
    "purpose": "informational",
    "state": "FL",
    "timezone": "America/Chicago",
    "postcode": "32501",
}


async def test_what_a_request_says_of_purpose_and_place_is_asked_and_kept(rig: Rig) -> None:
    """A question and a call say it alike; the call's metadata keeps it for the moment of dialling."""
    place = {"state": "FL", "timezone": "America/Chicago", "postcode": "32501"}
    meaning = {"purpose": "informational", "called_party": place | {"as_of": NOW.isoformat()}}
    rig.switchboard.result = DENY
    more = {"channel": "sms", "from": "+15550100999"}
    await rig.ask("POST", "/v2/policy/check", BODY | SAID | more)
    (asked,) = rig.switchboard.asked
    assert (asked["channel"], asked["from_number"]) == ("sms", "+15550100999")
    assert asked["meaning"] == meaning
    rig.switchboard.result = AgentNotFound("agt_0001")
    await rig.ask("POST", "/v2/calls/initiate", BODY | SAID | {"metadata": {"crm_id": "42"}})
    assert rig.switchboard.asked[-1]["metadata"] == meaning | {"crm_id": "42"}


@pytest.mark.parametrize("path", ["/v2/policy/check", "/v2/calls/initiate"])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"state": "Florida"}, "state"),
        ({"postcode": "!"}, "postcode"),
        ({"purpose": "fun"}, "purpose"),
        ({"metadata": {"called_party": {}}}, "metadata"),
        ({"from": "x"}, "from"),
    ],
    ids=str,
)
async def test_request_with_a_wrong_purpose_or_place_is_422(
    rig: Rig, path: str, change: dict[str, Any], field: str
) -> None:
    """The field is named, and nobody is asked."""
    answered = await rig.ask("POST", path, BODY | change)
    assert (answered.status, answered.fields()) == (422, [field])
    assert rig.switchboard.asked == []


async def test_policy_check_of_unknown_agent_is_404(rig: Rig) -> None:
    """The field that names it is said."""
    rig.switchboard.result = AgentNotFound("agt_0001")
    answered = await rig.ask("POST", "/v2/policy/check", BODY)
    assert (answered.status, answered.fields()) == (404, ["agent_id"])


@pytest.mark.parametrize(
    ("change", "field"),
    [({"direction": "up"}, "direction"), ({"at": "now"}, "at"), ({"to": "1"}, "to")],
    ids=str,
)
async def test_policy_check_with_wrong_field_is_422(
    rig: Rig, change: dict[str, Any], field: str
) -> None:
    """Checked like a call."""
    answered = await rig.ask("POST", "/v2/policy/check", BODY | change)
    assert (answered.status, answered.fields()) == (422, [field])
