"""The transition table and the book of live calls."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import calls
from control.calls import TERMINAL, Book, LiveCall, advance, outcome_of_status
from control.store.records import CALL_STATUSES
from gateway.link import TranscriptTurn
from tests.control.switchboard_rig import NOW

ORDER = ("queued", "initiated", "ringing", "in-progress")


def _call(call_id="call_1", sid=None):
    return LiveCall(
        id=call_id,
        tenant_id="tnt_default",
        direction="outbound",
        from_number="+14155550199",
        to_number="+14155550100",
        created_at=NOW,
        agent=None,
        twilio_call_sid=sid,
    )


@pytest.mark.parametrize("current", CALL_STATUSES)
@pytest.mark.parametrize("reported", [*CALL_STATUSES, "", "unheard-of"])
def test_advance_only_forward(current, reported):
    """Every pair of states: forward is news, everything else is not."""
    rank = {name: ORDER.index(name) if name in ORDER else 9 for name in CALL_STATUSES}
    expected = reported in rank and rank[reported] > rank[current]
    assert advance(current, reported) is expected


@settings(deadline=None)
@given(st.permutations([*ORDER[1:], "ringing", "completed", "busy", "initiated", "completed"]))
def test_move_to_any_order_keeps_the_first_terminal(statuses):
    """However callbacks are shuffled and repeated, the first terminal status stays."""
    call = _call()
    for status in statuses:
        call.move_to(status, NOW)
    first = next(status for status in statuses if status in TERMINAL)
    assert call.status == call.ended_status == call.columns["status"] == first


def test_every_status_of_the_records_has_a_rank():
    """No status is forgotten in the table."""
    assert set(calls._RANK) == set(CALL_STATUSES)


def test_outcome_completed_without_stream_is_the_callers():
    """Hung up before or after the answer."""
    before = outcome_of_status("completed", sip_code=None, was_answered=False)
    after = outcome_of_status("completed", sip_code="200", was_answered=True)
    assert (before.result, before.reason) == ("cancelled", "hung up before the answer")
    assert after.reason == "hung up before the media stream began (SIP 200)"


def test_line_full_timeline_drops_and_counts(monkeypatch):
    """A call that chatters while the store is away stays bounded."""
    monkeypatch.setattr(calls, "LINES_MAX", 3)
    call = _call()
    for number in range(5):
        call.line(f"line{number}", number)
    assert ([line[0] for line in call.lines], call.lines_dropped) == (
        ["line0", "line1", "line2"],
        2,
    )


def test_give_back_newer_changes_win():
    """What could not be written comes before, and under, what came since."""
    call = _call()
    call.change(status="ringing", cost={"a": 1})
    call.line("first", 1)
    pending = call.take()
    assert not call.is_dirty
    call.change(status="in-progress")
    call.line("second", 2)
    call.give_back(pending)
    assert call.columns == {"status": "in-progress", "cost": {"a": 1}}
    assert [line[0] for line in call.lines] == ["first", "second"]


def test_said_keeps_the_newest_turns_and_counts_on():
    """The memory for a resume is bounded; a new agent leg's turns follow the old ones."""
    call = _call()
    for number in range(calls.TURNS_KEPT + 5):
        call.said(TranscriptTurn("call_1", number, "user", str(number), number))
    assert (min(call.spoken), len(call.spoken)) == (5, calls.TURNS_KEPT)
    call.turn_offset = max(call.spoken) + 1
    call.said(TranscriptTurn("call_1", 0, "agent", "again", 99))
    assert call.turns[calls.TURNS_KEPT + 5].text == "again"


def test_book_finds_by_both_names_until_removed():
    """Found under both names or neither."""
    book = Book()
    call = _call()
    book.add(call)
    book.bind(call, "CA1")
    assert book.get("call_1") is book.by_sid("CA1") is call
    assert call.bound.is_set()
    assert book.counts() == {"inbound": 0, "outbound": 1}
    book.remove(call)
    assert book.get("call_1") is book.by_sid("CA1") is None
    assert (book.get(None), book.by_sid(None), len(book)) == (None, None, 0)


def test_book_bind_after_removal_adds_nothing():
    """A call that is over does not come back by its SID."""
    book = Book()
    call = _call()
    book.bind(call, "CA1")
    assert book.by_sid("CA1") is None
