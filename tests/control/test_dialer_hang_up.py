"""An outbound call that is called off, by a hang-up or a drain, at every point of its way to Twilio."""

from __future__ import annotations

import contextlib

import pytest
import trio

from control import leaving
from control.dialing import intake
from control.switchboard import CallOver, DialRefused, DialUncertain, NotAdmitted
from control.twilio.rest import TwilioUnreachable
from tests.control.switchboard_rig import SID, open_rig


async def test_hang_up_ringing_ends_by_rest(tmp_path):
    """A call that rings is ended at Twilio."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        await rig.status(call_id, "ringing")
        record = await rig.switchboard.hang_up(call_id)
        assert rig.twilio.ended == [SID]
        assert (record.status, record.result, record.reason) == (
            "canceled", "cancelled", "hung up by request",
        )  # fmt: skip


async def test_hang_up_before_its_turn_is_never_dialled(tmp_path):
    """Whoever waits in the queue can still be called off."""
    async with open_rig(tmp_path, cps=2.0) as rig:
        await rig.dial("+14155550111")
        outcomes = []

        async def second():
            try:
                await rig.dial()
            except CallOver as over:
                outcomes.append(over)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(second)
            (entry,) = await rig.until(rig.waiting)
            record = await rig.switchboard.hang_up(entry.call_id)
        assert (record.status, record.result, len(outcomes)) == ("canceled", "cancelled", 1)
        assert record.ended_at is not None
        assert not await rig.queue()
        assert len(rig.twilio.created) == 1
        with pytest.raises(CallOver):
            await rig.switchboard.hang_up(entry.call_id)


async def test_hang_up_while_the_request_is_on_its_way_ends_it_when_known(tmp_path):
    """It cannot be called back, so it is ended as soon as it has a name."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.hold = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.dial)
            await rig.twilio.dialling.wait()
            call_id = (await rig.only_record()).id
            nursery.start_soon(rig.switchboard.hang_up, call_id)
            await rig.until(lambda: rig.switchboard._office.book.get(call_id).hang_up_wanted)
            rig.twilio.hold.set()
        assert rig.twilio.ended == [SID]
        assert (await rig.ended(call_id)).result == "cancelled"


async def test_drain_calls_off_what_rings(tmp_path):
    """Nobody shall pick up a call that nobody can answer for."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        await rig.status(call_id, "ringing")
        await rig.switchboard.drain()
        record = await rig.record(call_id)
        assert rig.twilio.ended == [SID]
        assert (record.result, record.status) == ("drained", "canceled")


PATIENT = {"may_be_put_off": True}


async def _dialled_while_it_drains(rig, answer):
    """A dial request is on its way when the daemon is told to stop; then Twilio answers, or never does."""
    rig.twilio.hold = trio.Event()
    rig.twilio.answers = [answer]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_dialled, rig)
        await rig.twilio.dialling.wait()
        nursery.start_soon(rig.switchboard.drain)
        await rig.until(lambda: rig.switchboard._office.is_leaving)
        if answer is not None:
            rig.twilio.hold.set()
    return await rig.only_record()


async def _dialled(rig):
    with contextlib.suppress(DialRefused, DialUncertain, NotAdmitted, CallOver):
        await rig.dial(**PATIENT)


async def test_drain_while_twilio_cannot_be_reached_leaves_the_call_in_the_queue(tmp_path):
    """Nothing was made: the next process dials it."""
    async with open_rig(tmp_path) as rig:
        record = await _dialled_while_it_drains(rig, TwilioUnreachable("no route"))
        assert (record.ended_at, record.result, record.dial_state) == (None, None, "intent")
        assert [entry.call_id for entry in await rig.waiting()] == [record.id]
        assert len(rig.twilio.created) == 1


async def test_drain_before_a_slot_leaves_the_call_in_the_queue(tmp_path, monkeypatch):
    """Its turn had come, its slot had not."""
    slot_has_come = trio.Event()

    async def slot(_tenant_id, _limit):
        await slot_has_come.wait()

    async with open_rig(tmp_path) as rig:
        monkeypatch.setattr(rig.switchboard._dialer, "_slot", slot)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_dialled, rig)
            await rig.until(lambda: len(rig.switchboard._office.book))
            nursery.start_soon(rig.switchboard.drain)
            await rig.until(lambda: rig.switchboard._office.is_draining)
            slot_has_come.set()
        record = await rig.only_record()
        assert (record.ended_at, record.result, record.dial_state) == (None, None, "intent")
        assert [entry.call_id for entry in await rig.waiting()] == [record.id]
        assert rig.twilio.created == []


async def test_drain_while_twilio_does_not_answer_leaves_the_doubt_to_the_next_process(
    tmp_path, monkeypatch
):
    """The record stays open and the row says `sent`: whoever finds it looks into Twilio's list."""
    monkeypatch.setattr(leaving, "DRAIN_MARGIN_S", 0.1)
    monkeypatch.setattr(intake, "ANSWER_WITHIN_S", 0.1)
    async with open_rig(tmp_path) as rig:
        record = await _dialled_while_it_drains(rig, None)
        assert (record.ended_at, record.result, record.dial_state) == (None, None, "sent")
        assert [(entry.call_id, entry.state) for entry in await rig.queue()] == [
            (record.id, "sent")
        ]


async def test_drain_ends_the_call_that_twilio_makes_meanwhile(tmp_path):
    """Nobody would be there when it is answered."""
    async with open_rig(tmp_path) as rig:
        record = await _dialled_while_it_drains(rig, SID)
        assert rig.twilio.ended == [SID]
        assert (record.result, record.status, await rig.queue()) == ("drained", "canceled", [])


async def test_hang_up_while_twilio_cannot_be_reached_is_never_dialled(tmp_path):
    """The request comes back unsent; the call was not wanted any more by then, and does not wait again."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.hold = trio.Event()
        rig.twilio.answers = [TwilioUnreachable("no route")]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_dialled, rig)
            await rig.twilio.dialling.wait()
            call_id = (await rig.only_record()).id
            nursery.start_soon(rig.switchboard.hang_up, call_id)
            await rig.until(lambda: rig.switchboard._office.book.get(call_id).hang_up_wanted)
            rig.twilio.hold.set()
        record = await rig.ended(call_id)
        assert (record.result, record.status, await rig.queue()) == ("cancelled", "canceled", [])
        assert len(rig.twilio.created) == 1
