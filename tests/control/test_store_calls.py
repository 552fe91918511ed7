"""Calls in the store: round trip, filters, pages, timeline, transcript, decisions."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, exc, text

from control.store import BadCursor, RecordNotFound, calls, decisions
from control.store import cursor as cursors
from control.store.records import CallRecord, EventRecord, TurnRecord

NOW = datetime(2026, 11, 21, 9, 0, 0, 123456, tzinfo=UTC)


def call(number: int, **columns: Any) -> CallRecord:
    base: dict[str, Any] = {
        "id": f"call_{number:04}",
        "direction": "outbound",
        "created_at": NOW + timedelta(minutes=number),
    }
    return CallRecord(**base | columns)


FULL = call(
    1,
    agent_id="agt_1",
    from_number="+15550001111",
    to_number="+15550002222",
    status="completed",
    result="completed",
    blame="caller",
    reason="caller hung up",
    twilio_call_sid="CA1",
    conversation_id="conv_1",
    ringing_at=NOW,
    answered_at=NOW,
    ended_at=NOW,
    variables={"name": "Zoë", "nested": {"a": [1, 2.5, None, True]}},
    metadata={"crm": "42"},
    decision={"allowed": True},
    legs={"caller": {}},
    media={"frames": 3},
    recording={"path": "x.wav"},
    extractions={"booked": False},
    summary="short",
    cost={"usd": 0.1},
    dial_state="created",
    resumes=2,
)


@pytest.mark.parametrize("record", [FULL, call(1)], ids=["full", "bare"])
def test_call_inserted_comes_back_equal(conn: Connection, record: CallRecord) -> None:
    """Every column survives, JSON and microseconds included."""
    calls.insert(conn, record)
    assert calls.get(conn, record.id) == record


def test_call_time_in_another_zone_comes_back_in_utc(conn: Connection) -> None:
    """The instant is kept, the zone it was said in is not."""
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    calls.insert(conn, call(1, ringing_at=there))
    record = calls.get(conn, "call_0001")
    assert record is not None
    assert record.ringing_at == NOW
    assert record.ringing_at.tzinfo is UTC


def test_call_time_without_zone_is_refused(conn: Connection) -> None:
    """A naive time is a mistake of the program, found at once."""
    with pytest.raises(exc.StatementError, match="without a zone"):
        calls.insert(conn, call(1, ringing_at=NOW.replace(tzinfo=None)))


def test_call_json_with_unknown_keys_is_kept_whole(conn: Connection) -> None:
    """What a later version wrote into a JSON column is read, and untouched by other updates."""
    future = {"frames": 1, "from_the_future": {"deep": [{"x": 1}]}}
    calls.insert(conn, call(1, media=future))
    calls.update(conn, "call_0001", status="ringing")
    record = calls.get(conn, "call_0001")
    assert record is not None
    assert record.media == future


def test_call_row_with_unknown_column_is_readable(conn: Connection) -> None:
    """A schema with one more column than this version knows does not stop it."""
    conn.execute(text("ALTER TABLE calls ADD COLUMN from_the_future TEXT DEFAULT 'x'"))
    calls.insert(conn, call(1))
    assert calls.get(conn, "call_0001") == call(1)


def test_call_by_sid_finds_the_call(conn: Connection) -> None:
    """Twilio's name for the call is a key; an unknown one is None."""
    calls.insert(conn, FULL)
    assert calls.by_sid(conn, "CA1") == FULL
    assert calls.by_sid(conn, "CA2") is None


def test_call_with_sid_of_another_is_refused(conn: Connection) -> None:
    """One Twilio call is one record."""
    calls.insert(conn, FULL)
    with pytest.raises(exc.IntegrityError):
        calls.insert(conn, call(2, twilio_call_sid="CA1"))


def test_call_update_sets_only_what_is_named(conn: Connection) -> None:
    """Other columns stay; an unknown call and an unknown column are errors."""
    calls.insert(conn, FULL)
    calls.update(conn, FULL.id, status="failed", decision=None)
    record = calls.get(conn, FULL.id)
    assert record is not None
    assert (record.status, record.decision, record.media) == ("failed", None, FULL.media)
    with pytest.raises(RecordNotFound):
        calls.update(conn, "call_none", status="failed")
    with pytest.raises(exc.CompileError):
        calls.update(conn, FULL.id, nonsense=1)


def test_open_calls_are_those_without_an_end(conn: Connection) -> None:
    """Oldest first, for the sweep at start."""
    for number, ended in ((3, None), (1, None), (2, NOW)):
        calls.insert(conn, call(number, ended_at=ended))
    assert [record.id for record in calls.open_calls(conn)] == ["call_0001", "call_0003"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [4, 3, 2, 1]),
        ({"agent_id": "agt_1"}, [1]),
        ({"direction": "inbound"}, [2]),
        ({"status": "busy"}, [3]),
        ({"from": "+15550001111"}, [1]),
        ({"to": "+15550002222"}, [4, 1]),
        ({"since": NOW + timedelta(minutes=3)}, [4, 3]),
        ({"until": NOW + timedelta(minutes=3)}, [2, 1]),
        ({"to": "+15550002222", "status": "queued"}, [4]),
        ({"status": None}, [4, 3, 2, 1]),
    ],
)
def test_list_calls_filtered_gives_the_matching(
    conn: Connection, filters: dict[str, Any], expected: list[int]
) -> None:
    """Each filter narrows, together they all hold, the newest comes first."""
    calls.insert(conn, FULL)
    calls.insert(conn, call(2, direction="inbound"))
    calls.insert(conn, call(3, status="busy"))
    calls.insert(conn, call(4, to_number="+15550002222"))
    found, cursor = calls.list_calls(conn, tenant_id="tnt_default", filters=filters)
    assert [record.id for record in found] == [f"call_{number:04}" for number in expected]
    assert cursor is None


def test_list_calls_of_another_tenant_is_empty(conn: Connection) -> None:
    """Rows belong to their tenant."""
    calls.insert(conn, call(1))
    assert calls.list_calls(conn, tenant_id="tnt_other") == ([], None)


def test_list_calls_pages_are_stable_under_inserts(conn: Connection) -> None:
    """Walking the pages meets every call that was there once, whatever is added meanwhile."""
    for number in range(1, 8):
        calls.insert(conn, call(number))
    seen: list[str] = []
    cursor: str | None = None
    for turn in range(4):
        found, cursor = calls.list_calls(conn, limit=2, cursor=cursor)
        seen += [record.id for record in found]
        calls.insert(conn, call(100 + turn))
    assert seen == [f"call_{number:04}" for number in range(7, 0, -1)]
    assert cursor is None


def test_list_calls_page_that_ends_exactly_has_no_next(conn: Connection) -> None:
    """No empty last page is announced."""
    for number in (1, 2):
        calls.insert(conn, call(number))
    found, cursor = calls.list_calls(conn, limit=2)
    assert (len(found), cursor) == (2, None)


OF = cursors.digest("calls", {"status": None})


@settings(deadline=None)
@given(st.text(max_size=300))
def test_cursor_of_any_text_is_refused_or_decoded(garbage: str) -> None:
    """A client's cursor never raises anything but BadCursor."""
    try:
        cursors.decode(garbage, OF)
    except BadCursor:
        return


@settings(deadline=None)
@given(st.text(max_size=40))
def test_cursor_round_trip_gives_the_key(key: str) -> None:
    """What was encoded is decoded; for another list it is none."""
    cursor = cursors.encode(key, OF)
    assert cursors.decode(cursor, OF) == key
    with pytest.raises(BadCursor):
        cursors.decode(cursor, cursors.digest("agents", {}))


def test_timeline_is_in_order_of_time(conn: Connection) -> None:
    """Batches may come in any order; lines of one millisecond keep theirs."""
    calls.insert(conn, call(1))
    calls.append_events(conn, "call_0001", [("b", 20, {"n": 1}), ("c", 20, {})])
    calls.append_events(conn, "call_0001", [("a", 10, {})])
    calls.append_events(conn, "call_0001", [])
    assert calls.events(conn, "call_0001") == [
        EventRecord("a", 10, {}),
        EventRecord("b", 20, {"n": 1}),
        EventRecord("c", 20, {}),
    ]
    with pytest.raises(RecordNotFound):
        calls.append_events(conn, "call_none", [("a", 1, {})])


def test_turn_written_again_is_amended(conn: Connection) -> None:
    """The last word about a turn counts; turns come in order."""
    calls.insert(conn, call(1))
    calls.upsert_turn(conn, "call_0001", 2, "agent", "Good day to you", 200)
    calls.upsert_turn(conn, "call_0001", 1, "user", "Hello", 100)
    calls.upsert_turn(conn, "call_0001", 2, "agent", "Good day to you", 200, "Good day", True)
    assert calls.turns(conn, "call_0001") == [
        TurnRecord(1, "user", "Hello", 100),
        TurnRecord(2, "agent", "Good day to you", 200, "Good day", True),
    ]
    with pytest.raises(RecordNotFound):
        calls.upsert_turn(conn, "call_none", 1, "user", "Hello", 1)


def test_changes_of_many_calls_cost_one_statement_a_kind(conn: Connection) -> None:
    """Columns, lines and turns of three calls: four statements, and each call has its own."""
    for number in (1, 2, 3):
        calls.insert(conn, call(number))
    calls.upsert_turn(conn, "call_0002", 1, "agent", "Good day to you", 200)
    seen: list[str] = []
    event.listen(conn, "before_cursor_execute", lambda _c, _cu, sql, *_: seen.append(sql))
    calls.apply(
        conn,
        [
            calls.Changes("call_0001", "tnt_default", {"status": "ringing"}, [("a", 1, {})]),
            calls.Changes(
                "call_0002",
                "tnt_default",
                {"status": "completed", "ended_at": NOW},
                [("b", 2, {}), ("c", 3, {})],
                {1: TurnRecord(1, "agent", "Good day to you", 200, "Good", True)},
            ),
            calls.Changes(
                "call_0003",
                "tnt_default",
                {"status": "busy"},
                turns={2: TurnRecord(2, "user", "Hi", 5)},
            ),
        ],
    )
    ours = [sql.split()[0] for sql in seen if re.match(r"\w+ (INTO )?call(s|_events|_turns) ", sql)]
    assert ours == ["UPDATE", "UPDATE", "INSERT", "INSERT"]
    records = [calls.get(conn, f"call_000{number}") for number in (1, 2, 3)]
    assert [record.status for record in records if record] == ["ringing", "completed", "busy"]
    assert [line.name for line in calls.events(conn, "call_0002")] == ["b", "c"]
    assert calls.turns(conn, "call_0002") == [
        TurnRecord(1, "agent", "Good day to you", 200, "Good", True)
    ]
    assert calls.turns(conn, "call_0003") == [TurnRecord(2, "user", "Hi", 5)]


def test_changes_of_a_call_that_is_not_there_raise(conn: Connection) -> None:
    """Then somebody has to find out which one it was."""
    calls.insert(conn, call(1))
    with pytest.raises(RecordNotFound):
        calls.apply(
            conn,
            [
                calls.Changes("call_0001", "tnt_default", {"status": "busy"}),
                calls.Changes("call_none", "tnt_default", {"status": "busy"}),
            ],
        )


def test_decisions_are_appended(conn: Connection) -> None:
    """Each phase leaves its own entry, with or without a call."""
    decisions.append(conn, "call_0001", "tnt_default", "accept", {"allowed": True}, NOW)
    decisions.append(conn, None, "tnt_default", "check", {"allowed": False}, NOW)
    decisions.append(conn, "call_0001", "tnt_default", "dial", {"allowed": False}, NOW)
    assert calls.decisions_of(conn, "call_0001") == [
        ("accept", {"allowed": True}, NOW),
        ("dial", {"allowed": False}, NOW),
    ]
