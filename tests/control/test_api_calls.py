"""`/v2/calls`: initiate and its refusals, cancel, hang up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from control.refusals import (
    AgentNotFound,
    AgentNotLive,
    CallOver,
    DialRefused,
    DialUncertain,
    NotAdmitted,
    PolicyRefused,
)
from control.store import calls, dialing
from control.store.records import CallRecord
from tests.control.api_rig import ALLOW, DENY, NOW, Rig, call, open_rig

BODY: dict[str, Any] = {"agent_id": "agt_0001", "to": "+15550100456"}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def test_call_initiated_is_201_with_the_contracts_fields(rig: Rig) -> None:
    """Id, status, the provider's id beside the caller's metadata, the decision; all was passed on."""
    rig.switchboard.result = call(
        1, agent_id="agt_0001", status="initiated", twilio_call_sid="CA1", metadata={"crm": 42}
    )
    body = BODY | {"variables": {"first_name": "Zoë"}, "metadata": {"crm": 42}}
    answered = await rig.ask("POST", "/v2/calls/initiate", body)
    assert answered.status == 201
    assert answered.headers["Location"] == "/v2/calls/call_0001"
    made = answered.json
    assert made["id"] == "call_0001"
    assert made["status"] == "initiated"
    assert made["metadata"] == {
        "crm": 42,
        "twilio_call_sid": "CA1",
        "elevenlabs_conversation_id": None,
    }
    assert made["decision"] == ALLOW
    assert (made["from"], made["to"]) == ("+15550100001", "+15550100456")
    assert rig.switchboard.asked == [
        {
            "agent_id": "agt_0001",
            "to": "+15550100456",
            "variables": {"first_name": "Zoë"},
            "metadata": {"crm": 42},
            "tenant_id": None,
            "not_before": None,
            "may_be_put_off": False,
            "machine_detection": None,
        }
    ]


async def test_call_refused_by_policy_is_403_with_decision(rig: Rig) -> None:
    """The problem holds the decision, the record's id, and in words which rule it was."""
    rig.switchboard.result = PolicyRefused(DENY, "call_0001")
    answered = await rig.ask("POST", "/v2/calls/initiate", BODY)
    problem = answered.problem()
    assert answered.status == 403
    assert problem["decision"] == DENY
    assert problem["call_id"] == "call_0001"
    assert "DNC-INT" in problem["detail"]


async def test_call_with_lost_answer_is_202_and_says_so(rig: Rig) -> None:
    """Twilio may or may not have the call."""
    rig.switchboard.result = DialUncertain(call(1, status="initiated", dial_state="uncertain"))
    answered = await rig.ask("POST", "/v2/calls/initiate", BODY)
    assert answered.status == 202
    assert answered.json["status"] == "initiated"
    assert answered.json["dial_state"] == "uncertain"
    assert answered.json["metadata"]["twilio_call_sid"] is None


@pytest.mark.parametrize(
    ("refusal", "status", "expected"),
    [
        (AgentNotFound("agt_0001"), 404, {"errors": "agent_id"}),
        (AgentNotLive("the agent is still being set up"), 409, {"errors": "agent_id"}),
        (NotAdmitted("draining"), 503, {"retry": True}),
        (DialRefused(21211, "Invalid 'To'"), 502, {"twilio": 21211}),
    ],
    ids=["not-found", "not-live", "not-admitted", "dial-refused"],
)
async def test_call_refused_is_a_problem_that_says_why(
    rig: Rig, refusal: Exception, status: int, expected: dict[str, Any]
) -> None:
    """Each refusal has its status and its facts."""
    rig.switchboard.result = refusal
    answered = await rig.ask("POST", "/v2/calls/initiate", BODY)
    assert answered.status == status
    problem = answered.problem()
    if "errors" in expected:
        assert answered.fields() == [expected["errors"]]
    if "retry" in expected:
        assert int(answered.headers["Retry-After"]) > 0
        assert "draining" in problem["detail"]
    if "twilio" in expected:
        assert problem["twilio"] == {"code": 21211, "message": "Invalid 'To'"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": None}, "to"),
        ({"to": "0123"}, "to"),
        ({"to": 15550100456}, "to"),
        ({"to": "+15550100456;ext=1"}, "to"),
        ({"agent_id": ""}, "agent_id"),
        ({"agent_id": 1}, "agent_id"),
        ({"variables": {"a": None}}, "variables.a"),
        ({"variables": {"a": {"b": 1}}}, "variables.a"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"twilio_call_sid": "CA9"}}, "metadata"),
        ({"not_before": "tomorrow"}, "not_before"),
        ({"not_before": "2026-11-21T08:58:59Z"}, "not_before"),
        ({"not_before": "2026-11-22T09:00:00"}, "not_before"),
        ({"machine_detection": {"on_machine": "shrug"}}, "machine_detection.on_machine"),
        (
            {"machine_detection": {"on_machine": "hang_up", "message": "Hello"}},
            "machine_detection",
        ),
        (
            {"machine_detection": {"on_machine": "leave_message", "mode": "fast"}},
            "machine_detection",
        ),
        (
            {"machine_detection": {"on_machine": "hang_up", "timeout_s": 60}},
            "machine_detection.timeout_s",
        ),
        ({"on_blocked": "shrug"}, "on_blocked"),
        ({"From": "+15550100001"}, "From"),
    ],
    ids=str,
)
async def test_call_with_wrong_field_is_422_naming_it(
    rig: Rig, change: dict[str, Any], field: str
) -> None:
    """Nothing reaches the switchboard."""
    answered = await rig.ask("POST", "/v2/calls/initiate", BODY | change)
    assert answered.status == 422
    assert answered.fields() == [field]
    assert rig.switchboard.asked == []


async def test_call_with_on_blocked_reject_is_made(rig: Rig) -> None:
    """What is the default may be said."""
    rig.switchboard.result = call(1, twilio_call_sid="CA1")
    answered = await rig.ask("POST", "/v2/calls/initiate", BODY | {"on_blocked": "reject"})
    assert answered.status == 201


async def test_call_queued_is_201_and_says_what_it_waits_for(rig: Rig) -> None:
    """The order reaches the switchboard; the answer, the record and the list show the queue."""
    record = call(1, status="queued", twilio_call_sid=None, ended_at=None)
    await rig.store.write(_queue, record)
    rig.switchboard.result = record
    body = BODY | {
        "not_before": "2026-11-22T09:00:00Z",
        "on_blocked": "schedule",
        "machine_detection": {"on_machine": "leave_message", "message": "Please call back."},
    }
    answered = await rig.ask("POST", "/v2/calls/initiate", body)
    assert (answered.status, answered.json["status"]) == (201, "queued")
    assert answered.json["queue"] == {
        "position": 0,
        "not_before": "2026-11-22T09:00:00Z",
        "waiting_for": "not_before",
        "give_up_at": "2026-11-29T09:00:00Z",
    }
    (asked,) = rig.switchboard.asked
    assert asked["not_before"] == NOW + timedelta(days=1)
    assert asked["may_be_put_off"] is True
    assert asked["machine_detection"] == {
        "on_machine": "leave_message",
        "mode": "message_end",
        "message": "Please call back.",
    }
    shown = await rig.ask("GET", "/v2/calls/call_0001")
    assert shown.json["queue"]["position"] == 0
    (item,) = (await rig.ask("GET", "/v2/calls")).json["items"]
    assert item["queue"]["waiting_for"] == "not_before"


def _queue(conn: Connection, record: CallRecord) -> None:
    calls.insert(conn, record)
    due_at = NOW + timedelta(days=1)
    dialing.add(
        conn,
        dialing.QueueRecord(
            record.id,
            record.tenant_id,
            due_at=due_at,
            give_up_at=due_at + timedelta(days=7),
            created_at=NOW,
            waiting_for="not_before",
        ),
    )


async def test_cancel_of_a_call_that_does_not_wait_is_409(rig: Rig) -> None:
    """It is under way, or over; another tenant's is not there at all."""
    await rig.store.write(calls.insert, call(1))
    rig.switchboard.result = None
    assert (await rig.ask("DELETE", "/v2/calls/call_0001")).status == 409
    assert (await rig.ask("DELETE", "/v2/calls/call_none")).status == 404
    rig.switchboard.result = call(1, status="canceled")
    answered = await rig.ask("DELETE", "/v2/calls/call_0001")
    assert (answered.status, answered.json["status"]) == (200, "canceled")


async def test_hang_up_under_way_is_202_and_done_is_200(rig: Rig) -> None:
    """An empty body, `{}` and none are the same."""
    rig.switchboard.result = call(1, status="in-progress")
    for raw in (b"", b"{}", b" "):
        assert (await rig.ask("POST", "/v2/calls/call_0001/hangup", raw=raw)).status == 202
    rig.switchboard.result = call(1, status="completed", ended_at=NOW)
    answered = await rig.ask("POST", "/v2/calls/call_0001/hangup")
    assert (answered.status, answered.json["status"]) == (200, "completed")
    assert rig.switchboard.asked == [{"call_id": "call_0001"}] * 4


async def test_hang_up_of_ended_call_is_409(rig: Rig) -> None:
    """What is over cannot be ended."""
    rig.switchboard.result = CallOver("call_0001")
    answered = await rig.ask("POST", "/v2/calls/call_0001/hangup")
    assert answered.status == 409
    answered.problem()
    assert (await rig.ask("POST", "/v2/calls/call_0001/hangup", {"now": True})).status == 422
