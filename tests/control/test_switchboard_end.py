"""The end of a call: events, callbacks and reports in any order, and what its record says."""

from __future__ import annotations

import pytest
import trio

from control import leaving, reconcile
from control.store import calls as table
from control.switchboard import TicketRefused
from control.twilio.rest import TwilioRefused, TwilioUncertain
from tests.control.switchboard_rig import (
    AGENT,
    OURS,
    SID,
    THEIRS,
    awaited,
    name_of,
    open_rig,
    talking,
    ticket_of,
    verbs,
)

# ---- talk and end --------------------------------------------------------------------------------


async def test_talk_events_and_turns_are_written(tmp_path):
    """Timeline and transcript of the worker end in the store; an amended turn counts last."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        rig.pool.turn(call_id, 0, "agent", "Hello, Acme here", heard="Hello")
        rig.pool.turn(call_id, 1, "user", "Hi")
        rig.pool.turn(
            call_id, 0, "agent", "Hello, Acme here", heard="Hello, Acme", interrupted=True
        )
        turns = await rig.until(
            lambda: awaited(_turns_if(rig, call_id, lambda turns: len(turns) == 2))
        )
        assert [(turn.role, turn.heard, turn.interrupted) for turn in turns] == [
            ("agent", "Hello, Acme", True),
            ("user", None, False),
        ]
        names = await rig.names(call_id)
        assert {"ringing", "prepared", "stream_started"} <= set(names)
        record = await rig.record(call_id)
        assert record.status == "in-progress"
        assert record.answered_at is not None


async def _turns_if(rig, call_id, test):
    turns = await rig.store.read(table.turns, call_id)
    return turns if test(turns) else None


async def test_end_by_agent_hangs_up_by_rest_before_the_stream_closes(tmp_path):
    """REST first, then the worker may close, then the record."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        rig.pool.ending(call_id, hang_up=True)
        await rig.until(lambda: ("close", call_id) in rig.pool.commands)
        assert rig.twilio.ended == [SID]
        rig.pool.report(call_id, reason="agent ended the call")
        record = await rig.ended(call_id)
        assert (record.status, record.result, record.blame) == ("completed", "completed", None)
        assert record.reason == "agent ended the call"
        assert (record.media, record.conversation_id) == ({"frames": 7}, "conv_1")
        assert rig.count("calls", "inbound", "completed", "none") == 1
        assert (await rig.names(call_id))[-1] == "ended"


async def test_end_hang_up_refused_still_closes_and_continue_hangs_up(tmp_path):
    """Twilio's REST API fails: the stream closes all the same, and the trailing verbs end the call."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.end_raises = TwilioRefused(401, 20003, "no")
        call_id = await talking(rig)
        rig.pool.ending(call_id, hang_up=True)
        await rig.until(lambda: ("close", call_id) in rig.pool.commands)
        rig.pool.report(call_id, reason="agent ended the call")
        document = await rig.switchboard.continue_call(rig.form(), call_id)
        assert verbs(document) == ["Hangup"]
        record = await rig.ended(call_id)
        assert record.result == "completed"
        assert "hang_up_failed" in await rig.names(call_id)


async def test_end_by_caller_closes_and_the_late_bill_is_kept(tmp_path):
    """The final callback comes after the end, twice: only what it costs is news."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        rig.pool.report(call_id)
        await rig.ended(call_id)
        for seconds in ("17", "99"):
            await rig.status(
                None, "completed", CallDuration=seconds, Duration="1", SequenceNumber="3"
            )
        record = await rig.record(call_id)
        assert record.cost == {"duration_s": 17, "billed_minutes": 1}
        assert (record.status, record.result) == ("completed", "completed")


async def test_end_terminal_status_before_the_report_waits_for_it(tmp_path):
    """Callback and report come in any order; the report's counters are kept."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        await rig.status(None, "completed", CallDuration="5")
        assert rig.switchboard._office.book.get(call_id) is not None
        rig.pool.report(call_id)
        record = await rig.ended(call_id)
        assert (record.media, record.cost) == ({"frames": 7}, {"duration_s": 5})


async def test_end_report_never_comes_closes_at_the_deadline(tmp_path):
    """A worker that keeps silent does not keep the record open."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        await rig.status(None, "completed")
        rig.expire(call_id)
        record = await rig.ended(call_id)
        assert record.status == "completed"
        assert record.ended_at is not None


async def test_caller_gone_before_the_stream_cancels_the_agent_leg(tmp_path):
    """Twilio's word closes the record; the prepared leg is dropped."""
    async with open_rig(tmp_path) as rig:
        document = await rig.switchboard.answer(rig.form())
        call_id = name_of(document)
        await rig.status(None, "completed")
        assert ("cancel", call_id) in rig.pool.commands
        rig.pool.report(call_id, "cancelled", "Twilio: completed", attached=False)
        record = await rig.ended(call_id)
        assert (record.result, record.blame) == ("cancelled", "caller")
        assert record.conversation_id == "conv_1"
        with pytest.raises(TicketRefused):
            rig.switchboard.admit_stream(ticket_of(document))


# ---- status and stream callbacks -----------------------------------------------------------------


async def test_stream_status_is_a_line_of_the_timeline(tmp_path):
    """What Twilio says of the stream is kept."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        form = {
            "CallSid": SID,
            "StreamEvent": "stream-error",
            "StreamError": "31921",
            "StreamSid": "MZ",
        }
        await rig.switchboard.stream_status(form, call_id)
        assert "twilio_stream_error" in await rig.names(call_id)


async def test_status_of_unknown_call_changes_nothing(tmp_path):
    """A callback for a call that is not ours is noted and forgotten."""
    async with open_rig(tmp_path) as rig:
        await rig.status("call_nobody", "completed")
        await rig.status(None, "ringing", sid="CA" + "3" * 32)
        assert rig.switchboard.live_counts() == {"inbound": 0, "outbound": 0}


async def test_status_of_call_that_rang_in_vain_leaves_a_whole_record(tmp_path):
    """Twilio took the fallback because nobody answered; its last callback, also when repeated, makes one record."""
    async with open_rig(tmp_path) as rig:
        over = {"From": THEIRS, "To": OURS, "Direction": "inbound", "CallDuration": "4"}
        for _ in range(2):
            await rig.status(None, "completed", **over)
        (record,), _ = await rig.store.read(table.list_calls)
        assert (record.status, record.result, record.blame) == (
            "completed",
            "gateway_fault",
            "gateway",
        )
        assert (record.twilio_call_sid, record.agent_id) == (SID, AGENT.id)
        assert (record.ended_at - record.created_at).total_seconds() == 4
        assert await rig.names(record.id) == ["missed", "ended"]


@pytest.mark.parametrize(
    "change",
    [
        {"Direction": "outbound-api"},
        {"CallStatus": "busy"},
        {"CallStatus": "ringing"},
        {"To": "+14155559999"},
    ],
)
async def test_status_of_a_call_that_was_not_missed_leaves_no_record(tmp_path, change):
    """Not ours, refused by us, or not over."""
    async with open_rig(tmp_path) as rig:
        form = {"CallSid": SID, "From": THEIRS, "To": OURS, "CallStatus": "completed"}
        await rig.switchboard.call_status(form | {"Direction": "inbound"} | change)
        assert (await rig.store.read(table.list_calls))[0] == []


# ---- the deadline --------------------------------------------------------------------------------


async def test_overdue_twilio_unreachable_keeps_asking(tmp_path, monkeypatch):
    """A record is not closed on a guess."""
    async with open_rig(tmp_path) as rig:
        asked = []

        async def away(_sid):
            asked.append(_sid)
            raise TwilioUncertain("no answer")

        monkeypatch.setattr(rig.twilio, "fetch_call", away)
        call_id = await talking(rig)
        rig.expire(call_id)
        await rig.until(lambda: asked)
        call = rig.switchboard._office.book.get(call_id)
        await rig.until(lambda: call.deadline_s > trio.current_time() + reconcile.ASK_AGAIN_S - 5)
        assert not call.closing


# ---- drain ---------------------------------------------------------------------------------------


async def test_drain_ends_what_does_not_end_by_itself(tmp_path):
    """After the deadline Twilio is told, and the record says that it was us."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leaving, "DRAIN_MARGIN_S", 0.1)
            await rig.switchboard.drain()
        assert rig.twilio.ended == [SID]
        record = await rig.record(call_id)
        assert (record.result, record.blame) == ("drained", "gateway")
        assert rig.switchboard.live_counts()["inbound"] == 0
