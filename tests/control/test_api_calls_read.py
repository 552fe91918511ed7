"""`/v2/calls`: records with all their parts, recordings, and lists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from control.api import call_models
from control.refusals import CallNotFound
from control.store import agents, calls, dialing
from tests.control.api_rig import ALLOW, NOW, Rig, agent, call, open_rig

NOW_MS = int(NOW.timestamp() * 1000)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


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
