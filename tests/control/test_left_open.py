"""Calls that a former process left open, as the store has them at the start."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control import reconcile
from control.store import StoreUnavailable, dialing
from control.store import calls as table
from control.twilio.rest import CallSeen
from tests.control.left_open_rig import fetch_answering, left_open
from tests.control.switchboard_rig import NOW, SID, FakeTwilio, open_rig, verbs


async def test_start_call_over_at_twilio_is_closed(tmp_path, monkeypatch):
    """The process died while the call ended: Twilio knows how."""
    monkeypatch.setattr(
        FakeTwilio, "fetch_call", fetch_answering(CallSeen(SID, "no-answer", "", "", NOW, None))
    )
    before = left_open(status="ringing", twilio_call_sid=SID, dial_state="created")
    async with open_rig(tmp_path, before=before) as rig:
        record = await rig.ended("call_old")
        assert (record.status, record.result) == ("no-answer", "no_answer")


async def test_start_call_that_rings_on_and_whose_end_nobody_tells_is_asked_about(
    tmp_path, monkeypatch
):
    """It rang at the kill and rings at the start; its last callback is lost. Twilio is asked again, and again."""
    asked = []

    async def fetch(_self, _sid):
        asked.append(_sid)
        return CallSeen(SID, "ringing" if len(asked) < 3 else "no-answer", "", "", NOW, None)

    monkeypatch.setattr(FakeTwilio, "fetch_call", fetch)
    monkeypatch.setattr(reconcile, "RINGING_S", 0.2)
    monkeypatch.setattr(reconcile, "ASK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(reconcile, "ASK_AGAIN_S", 0.1)
    before = left_open(status="ringing", twilio_call_sid=SID, dial_state="created")
    async with open_rig(tmp_path, before=before) as rig:
        record = await rig.ended("call_old")
        assert (record.status, record.result, asked) == ("no-answer", "no_answer", [SID] * 3)


async def test_start_call_with_a_name_whose_row_was_left_in_the_dial_queue_is_asked_about(
    tmp_path, monkeypatch
):
    """Killed between the record's flush and the end of its row: nobody dials again, and Twilio says how it ended."""
    monkeypatch.setattr(
        FakeTwilio, "fetch_call", fetch_answering(CallSeen(SID, "busy", "", "", NOW, None))
    )
    insert_record = left_open(status="ringing", twilio_call_sid=SID, dial_state="created")

    def before(conn):
        insert_record(conn)
        row = dialing.QueueRecord("call_old", "tnt_default", NOW, NOW, NOW)
        dialing.add(conn, replace(row, state=dialing.SENT, lease_owner="gone#1", lease_until=NOW))

    async with open_rig(tmp_path, before=before) as rig:
        record = await rig.ended("call_old")
        assert (record.status, record.result) == ("busy", "busy")
        assert rig.twilio.created == []
        leases = await rig.store.read(dialing.is_anything_run_out, NOW + timedelta(days=9))
        assert not leases


async def test_call_left_open_is_not_forgotten_when_the_store_is_away_at_the_start(
    tmp_path, monkeypatch
):
    """Only the start asks for this node's own calls: it waits for the store, and does without them never."""
    take, tries = reconcile._left_calls, []

    def take_at_last(conn, node, now):
        tries.append(node)
        if len(tries) < 3:
            raise StoreUnavailable("away")
        return take(conn, node, now)

    monkeypatch.setattr(reconcile, "_left_calls", take_at_last)
    monkeypatch.setattr(reconcile, "STORE_AGAIN_S", (0.01, 0.01))
    before = left_open(status="in-progress", twilio_call_sid=SID, dial_state="created")
    async with open_rig(tmp_path, before=before) as rig:
        record = await rig.ended("call_old")  # Twilio knows of no such call
        assert (record.status, record.result) == ("failed", "carrier_fault")
        assert len(tries) == 3


async def test_start_without_a_store_fails_and_leaves_nothing_out(tmp_path, monkeypatch):
    """Whoever started the daemon starts it again; workers wait for it meanwhile."""

    def away(*_):
        raise StoreUnavailable("away")

    monkeypatch.setattr(reconcile, "_left_calls", away)
    monkeypatch.setattr(reconcile, "STORE_AGAIN_S", (0.01,))
    with pytest.RaisesGroup(StoreUnavailable, allow_unwrapped=True, flatten_subgroups=True):
        async with open_rig(tmp_path):
            pass


@pytest.mark.parametrize("answered_at", [None, NOW])
async def test_start_call_whose_end_was_known_is_closed_at_once(tmp_path, monkeypatch, answered_at):
    """The former process had written down Twilio's last word, and died before it closed the record."""
    monkeypatch.setattr(
        FakeTwilio, "fetch_call", fetch_answering(CallSeen(SID, "completed", "", "", NOW, 5))
    )
    before = left_open(
        direction="inbound", status="completed", twilio_call_sid=SID, answered_at=answered_at
    )
    async with open_rig(tmp_path, before=before) as rig:
        record = await rig.ended("call_old")
        assert record.status == "completed"
        assert (record.result == "gateway_fault") == (answered_at is not None)


async def test_start_intent_never_sent_is_closed(tmp_path):
    """Nothing was dialled, and nothing will be."""
    async with open_rig(tmp_path, before=left_open(dial_state="intent")) as rig:
        record = await rig.ended("call_old")
        assert (record.status, record.result, record.blame) == (
            "failed",
            "gateway_fault",
            "gateway",
        )
        assert rig.twilio.created == []


async def test_start_call_still_up_is_resumed_when_twilio_asks(tmp_path, monkeypatch):
    """The daemon was restarted in the middle of a call: it goes on with what was written down."""
    monkeypatch.setattr(
        FakeTwilio, "fetch_call", fetch_answering(CallSeen(SID, "in-progress", "", "", NOW, None))
    )

    def before(conn):
        left_open(status="in-progress", twilio_call_sid=SID, answered_at=NOW)(conn)
        table.upsert_turn(conn, "call_old", 0, "user", "Hello?", 1)

    async with open_rig(tmp_path, before=before) as rig:
        document = await rig.switchboard.continue_call(rig.form(), "call_old")
        assert verbs(document)[0] == "Connect"
        assert rig.pool.plans[0].dynamic_variables["gw_resume_context"] == "Caller: Hello?"
