"""`/v2/calls`: initiate and its refusals, lists, records, recordings, hang-up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from control.api import call_models
from control.refusals import (
    AgentNotFound,
    AgentNotLive,
    CallNotFound,
    CallOver,
    DialRefused,
    DialUncertain,
    NotAdmitted,
    PolicyRefused,
)
from control.store import agents, calls, dialing
from control.store.records import CallRecord
from tests.control.api_rig import ALLOW, DENY, NOW, Rig, agent, call, open_rig

BODY: dict[str, Any] = {"agent_id": "agt_0001", "to": "+15550100456"}
NOW_MS = int(NOW.timestamp() * 1000)


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


def fill(conn: Connection) -> None:
    agents.insert(conn, agent(1))
    calls.insert(
        conn,
        call(
            1,
            agent_id="agt_0001",
            status="completed",
            result="completed",
            blame="caller",
            reason="caller hung up",
            twilio_call_sid="CA1",
            conversation_id="conv_1",
            ringing_at=NOW + timedelta(seconds=1),
            answered_at=NOW + timedelta(seconds=5),
            ended_at=NOW + timedelta(seconds=65.25),
            metadata={"crm": "42"},
            variables={"a": 1},
            legs={"caller": {"code": 1000}},
            media={"frames": 3},
            recording={"path": "/nowhere/x.wav", "ms": 60250},
            extractions={"booked": True},
            summary="Booked.",
            cost={"usd": 0.1},
            resumes=1,
        ),
    )
    calls.append_events(
        conn, "call_0001", [("ringing", NOW_MS + 1000, {}), ("dtmf", NOW_MS + 7, {"d": "1"})]
    )
    calls.upsert_turn(conn, "call_0001", 1, "agent", "Hello there", NOW_MS + 5500, "Hello", True)
    calls.upsert_turn(conn, "call_0001", 2, "user", "Hi", NOW_MS + 6000)
    calls.insert(conn, call(2, direction="inbound", status="ringing", twilio_call_sid="CA2"))


async def test_call_record_has_every_part_of_the_contract(rig: Rig) -> None:
    """One document with all that is known, and no path of this machine."""
    await rig.store.write(fill)
    shown = (await rig.ask("GET", "/v2/calls/call_0001")).json
    assert shown["status"] == "completed"
    assert (shown["result"], shown["blame"], shown["reason"]) == (
        "completed",
        "caller",
        "caller hung up",
    )
    assert shown["times"] == {
        "created_at": "2026-11-21T09:00:00Z",
        "ringing_at": "2026-11-21T09:00:01Z",
        "answered_at": "2026-11-21T09:00:05Z",
        "ended_at": "2026-11-21T09:01:05.250000Z",
        "ring_s": 4.0,
        "talk_s": 60.25,
    }
    assert shown["legs"] == {"caller": {"code": 1000}}
    assert shown["decision"] == ALLOW
    assert [line["name"] for line in shown["timeline"]] == ["dtmf", "ringing"]
    assert shown["timeline"][0] == {
        "name": "dtmf",
        "at": "2026-11-21T09:00:00.007000Z",
        "ms": 7,
        "data": {"d": "1"},
    }
    assert shown["transcript"][0] == {
        "turn": 1,
        "role": "agent",
        "text": "Hello there",
        "heard": "Hello",
        "interrupted": True,
        "at": "2026-11-21T09:00:05.500000Z",
        "ms": 5500,
    }
    assert shown["metadata"] == {
        "crm": "42",
        "twilio_call_sid": "CA1",
        "elevenlabs_conversation_id": "conv_1",
    }
    assert shown["recording"] == {"ms": 60250, "url": "/v2/calls/call_0001/recording"}
    rest = ("extractions", "summary", "media", "cost", "variables", "resumes")
    assert [shown[name] for name in rest] == [
        {"booked": True},
        "Booked.",
        {"frames": 3},
        {"usd": 0.1},
        {"a": 1},
        1,
    ]
    assert b"nowhere" not in (await rig.ask("GET", "/v2/calls/call_0001")).raw


async def test_call_in_progress_is_shown_as_far_as_it_is_known(rig: Rig) -> None:
    """A record without an end has the same shape."""
    await rig.store.write(fill)
    done = (await rig.ask("GET", "/v2/calls/call_0001")).json
    running = (await rig.ask("GET", "/v2/calls/call_0002")).json
    assert set(done) == set(running)
    assert running["times"]["talk_s"] is None
    assert running["transcript"] == running["timeline"] == []


async def test_call_parts_have_their_own_paths(rig: Rig) -> None:
    """Transcript and timeline are the lists of the record."""
    await rig.store.write(fill)
    whole = (await rig.ask("GET", "/v2/calls/call_0001")).json
    for part in ("transcript", "timeline"):
        answered = await rig.ask("GET", f"/v2/calls/call_0001/{part}")
        assert answered.json == {"items": whole[part], "next_cursor": None}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/calls/call_none"),
        ("GET", "/v2/calls/call_none/transcript"),
        ("GET", "/v2/calls/call_none/timeline"),
        ("GET", "/v2/calls/call_none/recording"),
        ("POST", "/v2/calls/call_none/hangup"),
    ],
)
async def test_call_unknown_is_404(rig: Rig, method: str, path: str) -> None:
    """Every path below an unknown call."""
    rig.switchboard.result = CallNotFound("call_none")
    answered = await rig.ask(method, path)
    assert answered.status == 404
    answered.problem()


async def test_recording_is_the_file_as_wav(rig: Rig, tmp_path: Path) -> None:
    """The bytes of the file, as a download with the call's name."""
    wav = tmp_path / "a.wav"
    wav.write_bytes(b"RIFF" + bytes(range(256)) * 1000)
    await rig.store.write(fill)
    await rig.store.write(calls.update, "call_0001", recording={"path": str(wav)})
    answered = await rig.ask("GET", "/v2/calls/call_0001/recording")
    assert answered.status == 200
    assert answered.headers["Content-Type"] == "audio/wav"
    assert "call_0001.wav" in answered.headers["Content-Disposition"]
    assert answered.raw == wav.read_bytes()


async def test_recording_absent_is_404_problem(rig: Rig, tmp_path: Path) -> None:
    """Not recorded, file gone, or a directory in its place."""
    await rig.store.write(fill)
    for recording in (
        None,
        {},
        {"error": "disk full"},
        {"path": "/nowhere"},
        {"path": str(tmp_path)},
    ):
        await rig.store.write(calls.update, "call_0001", recording=recording)
        answered = await rig.ask("GET", "/v2/calls/call_0001/recording")
        assert answered.status == 404
        answered.problem()


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


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [2, 1]),
        ("agent_id=agt_0001", [1]),
        ("tenant_id=tnt_default", [2, 1]),
        ("tenant_id=tnt_other", []),
        ("direction=inbound", [2]),
        ("status=completed", [1]),
        ("from=%2B15550100001", [2, 1]),
        ("to=+15550100456&direction=outbound", [1]),
        ("since=2026-11-21T09:00:00Z", [2, 1]),
        ("since=2026-11-21T09:00:00.001Z", []),
        ("since=2026-11-21T10:00:00+01:00", [2, 1]),
        ("until=2026-11-21T09:00:00Z", []),
        ("limit=1", [2]),
    ],
)
async def test_calls_listed_by_filter(rig: Rig, query: str, expected: list[int]) -> None:
    """Each filter of the contract; a `+` that nobody escaped is understood."""
    await rig.store.write(fill)
    answered = await rig.ask("GET", f"/v2/calls?{query}")
    assert answered.status == 200
    assert [item["id"] for item in answered.json["items"]] == [f"call_{n:04}" for n in expected]
    for item in answered.json["items"]:
        assert item["metadata"]["twilio_call_sid"].startswith("CA")


async def test_calls_listed_are_what_the_document_says_of_a_call(rig: Rig) -> None:
    """The list is written without the model: name by name, it says what the model would, also of a queued call."""
    await rig.store.write(fill)
    moment = NOW + timedelta(microseconds=250_001)
    await rig.store.write(
        calls.update,
        "call_0002",
        answered_at=moment,
        status="queued",
        metadata={"naïve": [1, None]},
    )
    entry = dialing.QueueRecord("call_0002", "tnt_default", NOW, NOW, NOW)
    await rig.store.write(dialing.add, entry)
    listed = (await rig.ask("GET", "/v2/calls")).json["items"]
    for item in listed:
        record = await rig.store.read(calls.get, item["id"])
        assert record is not None
        entry_now = await rig.store.read(dialing.get, item["id"])
        waits = None if entry_now is None else call_models.Waits(entry_now)
        assert item == call_models.brief(record, waits).model_dump(mode="json", by_alias=True)
    assert [item["queue"] is None for item in listed] == [False, True]


@pytest.mark.skipif(
    os.environ.get("TANDEM_TEST_STORE") == "postgresql", reason="it keeps no JSON that is none"
)
async def test_calls_listed_without_reading_their_documents(rig: Rig) -> None:
    """A page costs what it shows: transcripts, decisions, media figures and analyses are not even parsed."""
    await rig.store.write(fill)
    documents = (
        "variables",
        "decision",
        "legs",
        "media",
        "extractions",
        "cost",
        "analysis",
        "bill",
    )

    def spoil(conn: Connection) -> None:
        spoilt = ", ".join(f"{name} = 'no document'" for name in documents)
        conn.execute(text(f"UPDATE calls SET {spoilt}"))

    await rig.store.write(spoil)
    assert len((await rig.ask("GET", "/v2/calls")).json["items"]) == 2


async def test_calls_listed_in_pages(rig: Rig) -> None:
    """The cursor goes on where the page ended."""
    await rig.store.write(fill)
    first = (await rig.ask("GET", "/v2/calls?limit=1")).json
    second = (await rig.ask("GET", f"/v2/calls?limit=1&cursor={first['next_cursor']}")).json
    assert [page["items"][0]["id"] for page in (first, second)] == ["call_0002", "call_0001"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("direction=sideways", "direction"),
        ("status=done", "status"),
        ("since=yesterday", "since"),
        ("since=2026-11-21T09:00:00", "since"),
        ("until=2026-13-01T00:00:00Z", "until"),
        ("cursor=AAAA", "cursor"),
        ("form=%2B1", "form"),
        ("from_=%2B1", "from_"),
    ],
)
async def test_calls_listed_with_wrong_query_is_422_naming_it(
    rig: Rig, query: str, field: str
) -> None:
    """The names are those of the query string."""
    answered = await rig.ask("GET", f"/v2/calls?{query}")
    assert answered.status == 422
    assert answered.fields() == [field]


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
