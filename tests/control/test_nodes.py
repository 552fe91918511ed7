"""Two switchboards on one store: what comes to the one that does not have the call."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import trio

from control import cluster
from control.store import calls as table
from control.store import dialing, nodes
from control.store.dialing import Seat
from control.transfer.order import Order, as_form, from_form
from control.twilio.rest import CallSeen
from gateway.link import HeldCall
from tests.control.switchboard_rig import NOW, OURS, SID, THEIRS, FakeTwilio, open_rig, opt_out

OTHER = "127.0.0.1:8081"
PERSON = "+14155550123"


@pytest.fixture(autouse=True)
def quick_ears(monkeypatch):
    """Nobody waits half a second for a message."""
    monkeypatch.setattr(cluster, "LISTEN_EVERY_S", 0.01)


@asynccontextmanager
async def two_nodes(tmp_path):
    """The first one has an inbound call whose stream runs: (first, other, call id)."""
    async with open_rig(tmp_path) as first, open_rig(tmp_path, agent=None, node=OTHER) as other:
        await first.switchboard.answer(first.form())
        call_id = (await first.only_record()).id
        first.pool.event(call_id, "stream_started")
        await first.until(lambda: first.switchboard._office.book.get(call_id).attached)
        yield first, other, call_id


async def test_stream_callback_at_the_other_node_is_a_line_of_the_call(tmp_path):
    """Twilio's word about the stream gets into the timeline wherever it arrives."""
    async with two_nodes(tmp_path) as (first, other, call_id):
        form = {"CallSid": SID, "StreamEvent": "stream-error", "StreamError": "too slow"}
        await other.switchboard.stream_status(form, call_id)

        async def told():
            return "twilio_stream_error" in await first.names(call_id)

        await first.until(told)
        assert other.switchboard._office.book.get(call_id) is None


async def test_recording_told_to_the_other_node_outlives_the_call(tmp_path):
    """Written into the record directly, it would be written over by the node that has the call."""
    async with two_nodes(tmp_path) as (first, other, call_id):
        form = {"CallSid": SID, "RecordingSid": "RE1", "RecordingStatus": "completed"}
        await other.switchboard.message_recorded(form, call_id)
        call = first.switchboard._office.book.get(call_id)
        await first.until(lambda: "voicemail" in call.legs)
        first.pool.report(call_id)
        record = await first.ended(call_id)
        assert record.legs["voicemail"]["recording_sid"] == "RE1"


async def test_transfer_asked_for_at_the_other_node_is_done_by_the_one_with_the_call(tmp_path):
    """The agent lets go, Twilio dials, and what the person's leg does is heard of, too."""
    async with two_nodes(tmp_path) as (first, other, call_id):
        await other.switchboard.transfer(call_id, Order("number", PERSON, announce="One moment."))
        await first.until(lambda: ("drain", call_id) in first.pool.commands)
        first.pool.ending(call_id, hang_up=True)
        call = first.switchboard._office.book.get(call_id)
        await first.until(lambda: call.away and call.legs["transfer"]["status"] == "dialling")
        assert PERSON in first.twilio.instructed[0][1]
        assert other.twilio.instructed == []
        leg = {"CallSid": "CA" + "9" * 32, "ParentCallSid": SID, "CallStatus": "in-progress"}
        await other.switchboard.leg_status(leg, call_id)
        await first.until(lambda: call.legs["transfer"]["status"] == "connected")


async def test_transfer_passed_on_and_refused_is_in_the_timeline(tmp_path):
    """Whoever asked has had the answer already."""
    async with two_nodes(tmp_path) as (first, other, call_id):
        first.pool.homes.clear()  # nobody talks any more
        await other.switchboard.transfer(call_id, Order("number", PERSON))

        async def told():
            return "transfer_refused" in await first.names(call_id)

        await first.until(told)


async def test_hang_up_at_the_other_node_ends_the_call_where_it_is(tmp_path):
    """The record is returned as it stands, and the worker of the first node is told."""
    async with two_nodes(tmp_path) as (first, other, call_id):
        assert (await other.switchboard.hang_up(call_id)).ended_at is None
        await first.until(lambda: ("hang_up", call_id) in first.pool.commands)


async def test_question_at_the_other_node_takes_the_call_and_the_first_lets_go(tmp_path):
    """The talk goes on at one of them alone."""
    async with two_nodes(tmp_path) as (first, other, call_id):
        first.pool.turn(call_id, 0, "user", "A table for two.")
        call = first.switchboard._office.book.get(call_id)
        await first.until(lambda: call.spoken)
        await first.switchboard._office.ledger.save([call])
        await other.switchboard.continue_call({"CallSid": SID}, call_id)
        (plan,) = other.pool.plans
        assert plan.dynamic_variables["gw_resume_context"] == "Caller: A table for two."
        await first.until(lambda: first.switchboard._office.book.get(call_id) is None)
        assert ("cancel", call_id) in first.pool.commands
        record = await other.record(call_id)
        assert record.ended_at is None


async def test_calls_that_workers_kept_are_taken_back_from_the_node_that_took_them_over(
    tmp_path, monkeypatch
):
    """A control process that was away longer than its lease: the talk has never stopped, so it is its own."""

    async def still_up(twilio, sid):
        return CallSeen(sid, "in-progress", OURS, THEIRS, None, None)

    monkeypatch.setattr(FakeTwilio, "fetch_call", still_up)
    async with open_rig(tmp_path) as first:
        await first.switchboard.answer(first.form())
        record = await first.only_record()
    held = {record.id: HeldCall(record.id, True, 0)}
    async with open_rig(tmp_path, agent=None, node=OTHER) as other:
        await other.store.write(nodes.beat, record.node, NOW)  # its lease has run out
        await other.switchboard._cluster._beat_once()
        assert (await other.record(record.id)).node == other.switchboard._office.node
        async with open_rig(tmp_path, agent=None, returned=held) as back:
            await other.until(lambda: other.switchboard._office.book.get(record.id) is None)
            assert (await back.record(record.id)).node == record.node
            assert back.switchboard._office.book.get(record.id).worker == "w1"
            await other.status(record.id, "completed")  # passed on
            back.pool.report(record.id)
            ended = await back.ended(record.id)
            assert ended.result == "completed"
            lines = [line.name for line in await back.store.read(table.events, record.id)]
            assert lines.count("ended") == 1


def test_form_of_an_order_gives_the_order_back():
    """What one node tells the other."""
    order = Order("sip", "sip:a@b", announce="“One”", is_warm=True, summary="Ada", timeout_s=9)
    assert from_form(as_form(order)) == order


async def test_end_seen_by_the_node_that_has_lost_the_call_does_not_close_it(tmp_path, monkeypatch):
    """It has not been told yet, and Twilio's callback comes to it: the call goes on at the other one."""
    monkeypatch.setattr(cluster, "LISTEN_EVERY_S", 600.0)
    async with two_nodes(tmp_path) as (first, other, call_id):
        await other.switchboard.continue_call({"CallSid": SID}, call_id)
        first.pool.report(call_id)
        await first.until(lambda: first.switchboard._office.book.get(call_id) is None)
        record = await other.record(call_id)
        assert (record.ended_at, record.result) == (None, None)
        assert record.node == other.switchboard._office.node
        await other.status(call_id, "completed")
        other.pool.report(call_id, "cancelled", "the caller has left", attached=False)
        assert (await other.ended(call_id)).result == "cancelled"


async def test_call_ordered_at_one_node_and_refused_at_its_turn_by_the_other_is_closed(tmp_path):
    """Whoever takes the turn has the call: what it writes counts, though the first node took the order."""
    async with open_rig(tmp_path) as first:
        first.pool.is_down = True  # it has no room, so the other one takes the turn
        async with open_rig(tmp_path, agent=None, node=OTHER) as other:
            other.pool.is_down = (
                True  # until the number has opted out: the turn must not be earlier
            )
            record = await first.dial(not_before=NOW + timedelta(seconds=0.1))
            await opt_out(first)
            other.pool.is_down = False

            async def closed():
                return (await first.record(record.id)).ended_at

            await first.until(closed)
            told = await first.record(record.id)
            assert (told.status, told.dial_state) == ("blocked", "refused")
            assert told.node == other.switchboard._office.node
            assert first.twilio.created == other.twilio.created == []


async def test_call_sent_by_a_node_that_died_is_found_and_written_by_the_other(tmp_path):
    """Its request had left: the name and the end that the other node learns are kept."""
    async with open_rig(tmp_path) as first:
        first.twilio.hold = trio.Event()  # Twilio's answer never comes
        record = None
        async with trio.open_nursery() as asking:
            asking.start_soon(first.dial)
            await first.twilio.dialling.wait()
            record = await first.only_record()
            asking.cancel_scope.cancel()
    async with open_rig(tmp_path, agent=None, node=OTHER) as other:
        other.twilio.listed = [CallSeen(SID, "busy", THEIRS, OURS, NOW, None)]
        await other.store.write(dialing.inherit, record.node, Seat("nobody", NOW), NOW)
        other.switchboard._pump._renew_at_s = 0.0
        ended = await other.ended(record.id)
        assert (ended.status, ended.twilio_call_sid) == ("busy", SID)
        assert ended.node == other.switchboard._office.node
        assert await other.queue() == []
