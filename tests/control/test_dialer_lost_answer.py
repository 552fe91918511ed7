"""A dial request whose answer is lost or late: what was made of it is found out before anything is dialled again."""

from __future__ import annotations

import pytest
import trio

from control import dialer
from control.dialing.intake import Intake
from control.store import StoreUnavailable
from control.switchboard import DialUncertain
from control.twilio.rest import CallSeen
from tests.control.switchboard_rig import (
    NOW,
    OURS,
    SID,
    THEIRS,
    UNCERTAIN,
    answered,
    open_rig,
    verbs,
)


async def test_dial_answer_lost_callback_resolves_it(tmp_path):
    """The webhook carries our id: the call is ours, and it was dialled once."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.hold = trio.Event()
        rig.twilio.answers = [UNCERTAIN]
        records = []

        async def dial():
            records.append(await rig.dial())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            await rig.twilio.dialling.wait()
            rig.twilio.hold.set()
            call_id = (await rig.only_record()).id
            await rig.until(
                lambda: rig.switchboard._office.book.get(call_id).dial_state == "uncertain"
            )
            await rig.status(call_id, "ringing")
        assert (records[0].twilio_call_sid, records[0].dial_state) == (SID, "created")
        assert len(rig.twilio.created) == 1


async def test_dial_answer_lost_listing_resolves_it(tmp_path, monkeypatch):
    """No callback comes, but Twilio's list shows the call."""
    monkeypatch.setattr(dialer, "LOOK_AFTER_S", (0.01, 0.01))
    async with open_rig(tmp_path) as rig:
        rig.twilio.answers = [UNCERTAIN]
        rig.twilio.listed = [CallSeen(SID, "ringing", THEIRS, OURS, NOW, None)]
        record = await rig.dial()
        assert (record.twilio_call_sid, record.status) == (SID, "ringing")
        assert len(rig.twilio.created) == 1


async def test_dial_answer_lost_other_calls_of_the_pair_are_not_taken(tmp_path, monkeypatch):
    """A SID that belongs to another of our calls is not this one."""
    monkeypatch.setattr(dialer, "LOOK_AFTER_S", (0.01,) * 4)
    async with open_rig(tmp_path) as rig:
        await rig.dial()
        rig.twilio.answers = [UNCERTAIN]
        rig.twilio.listed = [CallSeen(SID, "ringing", THEIRS, OURS, NOW, None)]
        with pytest.raises(DialUncertain) as caught:
            await rig.dial()
        record = await rig.ended(caught.value.record.id)
        assert (record.status, record.blame) == ("failed", "twilio")
        assert len(rig.twilio.created) == 2


async def test_dial_answer_lost_and_nothing_found_says_so_and_closes(tmp_path, monkeypatch):
    """The client is told that it is not known; later the record says that no call appeared."""
    monkeypatch.setattr(dialer, "LOOK_AFTER_S", (0.01,) * 5)
    async with open_rig(tmp_path) as rig:
        rig.twilio.answers = [UNCERTAIN]
        with pytest.raises(DialUncertain) as caught:
            await rig.dial()
        assert caught.value.record.dial_state == "uncertain"
        record = await rig.ended(caught.value.record.id)
        assert (record.status, record.result, record.blame) == ("failed", "carrier_fault", "twilio")
        assert len(rig.twilio.created) == 1


async def test_webhook_overtakes_the_answer_of_the_dial_request(tmp_path):
    """The call is answered before Twilio has told us its SID."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.hold = trio.Event()
        records = []

        async def dial():
            records.append(await rig.dial())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            await rig.twilio.dialling.wait()
            call_id = (await rig.only_record()).id
            document = await rig.switchboard.answer(answered(), call_id)
            assert verbs(document) == ["Connect", "Say", "Redirect"]
            rig.twilio.hold.set()
        assert (records[0].twilio_call_sid, records[0].status) == (SID, "in-progress")


async def test_dial_answer_lost_is_said_although_the_store_has_gone(tmp_path, monkeypatch):
    """Whoever asked for the call has to hear that it may ring: of a store that is away they would ask again."""
    read = Intake._read

    async def away(self, call_id):
        dial = self._desk.dials.get(call_id)
        if dial is None or dial.done.is_set():
            raise StoreUnavailable("away")
        return await read(self, call_id)

    monkeypatch.setattr(Intake, "_read", away)
    monkeypatch.setattr(dialer, "LOOK_AFTER_S", (0.01,) * 5)
    async with open_rig(tmp_path) as rig:
        rig.twilio.answers = [UNCERTAIN]
        with pytest.raises(DialUncertain):
            await rig.dial()
        assert len(rig.twilio.created) == 1
