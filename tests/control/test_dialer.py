"""Outbound calls: decided, intended, dialled exactly once, whatever becomes of the answer."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import trio
import trio.testing

from control import dialer, http, leaving
from control.dialing import desk, intake, pump
from control.store import StoreUnavailable
from control.store import calls as table
from control.switchboard import (
    AgentNotFound,
    AgentNotLive,
    CallOver,
    DialRefused,
    DialUncertain,
    NotAdmitted,
    PolicyRefused,
)
from control.twilio.rest import CallSeen, TwilioRefused, TwilioUnreachable
from tests.control.switchboard_rig import (
    AGENT,
    NOW,
    OURS,
    SID,
    THEIRS,
    UNCERTAIN,
    name_of,
    open_rig,
    opt_out,
    ticket_of,
    verbs,
)


def _answered(sid=SID):
    return {"CallSid": sid, "From": OURS, "To": THEIRS, "CallStatus": "in-progress"}


async def test_initiate_dials_once_with_our_id_in_every_callback(tmp_path):
    """201: the record with Twilio's SID; both decisions are kept."""
    async with open_rig(tmp_path) as rig:
        record = await rig.dial(variables={"name": "Ann"}, metadata={"crm": 7})
        assert (record.direction, record.dial_state, record.twilio_call_sid) == (
            "outbound", "created", SID,
        )  # fmt: skip
        assert (record.variables, record.metadata) == ({"name": "Ann"}, {"crm": 7})
        (asked,) = rig.twilio.created
        assert (asked["to"], asked["from_"]) == (THEIRS, OURS)
        for name in ("url", "fallback_url", "status_callback"):
            assert f"call_id={record.id}" in asked[name]
            assert asked[name].startswith("https://gw.example.com/twilio/")
        decisions = await rig.store.read(table.decisions_of, record.id)
        assert [phase for phase, _, _ in decisions] == ["accept", "dial"]


async def test_initiate_is_committed_before_the_request_leaves(tmp_path):
    """While Twilio is thinking, the intent is in the store as sent."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.hold = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.dial)
            await rig.twilio.dialling.wait()
            record = await rig.only_record()
            assert (record.dial_state, record.status) == ("sent", "queued")
            rig.twilio.hold.set()


async def test_initiate_asker_gone_work_goes_on(tmp_path):
    """The client of the API hangs up: the call is dialled all the same, once."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.hold = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.dial)
            await rig.twilio.dialling.wait()
            nursery.cancel_scope.cancel()
        rig.twilio.hold.set()
        call_id = (await rig.only_record()).id
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).twilio_call_sid)
        assert len(rig.twilio.created) == 1


async def test_initiate_unknown_agent_raises(tmp_path):
    """Also one of another tenant."""
    async with open_rig(tmp_path) as rig:
        with pytest.raises(AgentNotFound):
            await rig.dial(agent_id="agt_none")
        with pytest.raises(AgentNotFound):
            await rig.dial(tenant_id="tnt_other")


async def test_initiate_agent_not_live_raises(tmp_path):
    """An agent that is still being provisioned dials nobody."""
    async with open_rig(tmp_path, agent=replace(AGENT, status="provisioning")) as rig:
        with pytest.raises(AgentNotLive):
            await rig.dial()
        assert rig.twilio.created == []


async def test_initiate_opted_out_is_refused_and_recorded(tmp_path):
    """403 with the decision; the blocked record stays; nothing is dialled."""
    async with open_rig(tmp_path) as rig:
        await opt_out(rig)
        with pytest.raises(PolicyRefused) as caught:
            await rig.dial()
        assert caught.value.decision["outcome"] == "deny"
        record = await rig.record(caught.value.call_id)
        assert (record.status, record.result, record.blame) == ("blocked", "policy", "policy")
        assert record.reason.startswith("DNC-INT")
        assert record.ended_at is not None
        assert rig.twilio.created == []


async def test_dial_opt_out_landed_while_waiting_is_refused(tmp_path):
    """The rules are asked again at the last moment."""
    async with open_rig(tmp_path, cps=1.0) as rig:
        await rig.dial("+14155550111")
        refusals = []

        async def second():
            try:
                await rig.dial()
            except PolicyRefused as refusal:
                refusals.append(refusal)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(second)
            await rig.until(rig.waiting)
            await opt_out(rig)
        record = await rig.record(refusals[0].call_id)
        assert (record.status, record.dial_state) == ("blocked", "refused")
        assert len(rig.twilio.created) == 1
        assert not await rig.queue()


async def test_dial_pace_is_kept(tmp_path):
    """Calls leave one after the other at the account's pace."""
    async with open_rig(tmp_path, cps=10.0) as rig:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(rig.dial, f"+1415555020{number}")
                rig.twilio.answers.append("CA" + str(number) * 32)
        assert trio.current_time() - began >= 0.3
        assert len(rig.twilio.created) == 4


async def test_initiate_queue_full_is_not_admitted(tmp_path, monkeypatch):
    """A tenant's queue is bounded; what is not admitted leaves no record."""
    monkeypatch.setattr(intake, "QUEUE_MAX_CALLS", 1)
    monkeypatch.setattr(intake, "ANSWER_WITHIN_S", 0.0)
    async with open_rig(tmp_path, cps=0.01) as rig:
        await rig.dial()
        await rig.until(lambda: rig.twilio.created)
        await rig.dial("+14155550111")
        with pytest.raises(NotAdmitted, match="waiting"):
            await rig.dial("+14155550112")
        assert len(rig.twilio.created) == 1
        records, _ = await rig.store.read(table.list_calls)
        assert len(records) == 2


async def test_initiate_workers_full_waits_for_room(tmp_path, monkeypatch):
    """No call is dialled that nobody could serve; it has its turn when somebody is free."""
    monkeypatch.setattr(intake, "ANSWER_WITHIN_S", 0.2)
    async with open_rig(tmp_path) as rig:
        rig.twilio.answers = ["CA" + str(number) * 32 for number in range(5)]
        first = await rig.dial("+14155550200")
        for number in range(1, 4):
            await rig.dial(f"+1415555020{number}")
        waiting = await rig.dial()
        assert (waiting.status, waiting.twilio_call_sid) == ("queued", None)
        assert len(rig.twilio.created) == 4
        await rig.status(first.id, "no-answer", "CA" + "0" * 32)
        await rig.until(lambda: len(rig.twilio.created) == 5)


async def test_initiate_draining_is_not_admitted(tmp_path):
    """No new calls."""
    async with open_rig(tmp_path) as rig:
        await rig.switchboard.drain()
        with pytest.raises(NotAdmitted):
            await rig.dial()


async def test_dial_refused_by_twilio_closes_with_the_code(tmp_path):
    """Twilio's reason reaches the caller of the API and the record."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.answers = [TwilioRefused(400, 21211, "no valid number")]
        with pytest.raises(DialRefused) as caught:
            await rig.dial()
        assert (caught.value.code, caught.value.message) == (21211, "no valid number")
        record = await rig.ended(caught.value.call_id)
        assert (record.status, record.result, record.blame, record.dial_state) == (
            "failed", "carrier_fault", "twilio", "refused",
        )  # fmt: skip


async def test_dial_unreachable_is_refused(tmp_path):
    """Nothing was written, so nothing was dialled."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.answers = [TwilioUnreachable("no connection")]
        with pytest.raises(DialRefused):
            await rig.dial()


async def test_dial_store_away_dials_nothing_until_it_is_back(tmp_path, monkeypatch):
    """What cannot be recorded is not done; the call keeps its place."""
    monkeypatch.setattr(desk, "LEASE", timedelta(seconds=0.2))
    monkeypatch.setattr(pump, "RENEW_EVERY_S", 0.05)
    async with open_rig(tmp_path) as rig:
        write, is_away = rig.store.write, True

        async def failing(fn, *args, **kwargs):
            if fn.__name__ == "_write" and is_away:
                raise StoreUnavailable("disk full")
            return await write(fn, *args, **kwargs)

        monkeypatch.setattr(rig.store, "write", failing)
        record = await rig.dial()
        assert (record.status, record.dial_state, rig.twilio.created) == ("queued", "intent", [])
        is_away = False
        await rig.until(lambda: rig.twilio.created)
        await rig.until(lambda: rig.sid_of(record.id))
        assert len(rig.twilio.created) == 1


# ---- the lost answer -----------------------------------------------------------------------------


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
            document = await rig.switchboard.answer(_answered(), call_id)
            assert verbs(document) == ["Connect", "Say", "Redirect"]
            rig.twilio.hold.set()
        assert (records[0].twilio_call_sid, records[0].status) == (SID, "in-progress")


# ---- ringing and answer --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("warm", "at_ringing"), [("ringing", True), ("answer", False)], ids=["ringing", "answer"]
)
async def test_agent_leg_is_warmed_when_configured(tmp_path, warm, at_ringing):
    """At the first ring or at the answer, once."""
    async with open_rig(tmp_path, media={"warm_outbound": warm}) as rig:
        call_id = (await rig.dial()).id
        await rig.status(call_id, "initiated")
        assert rig.pool.plans == []
        await rig.status(call_id, "ringing")
        assert bool(rig.pool.plans) is at_ringing
        document = await rig.switchboard.answer(_answered(), call_id)
        await rig.status(call_id, "in-progress")
        assert len(rig.pool.plans) == 1
        assert rig.switchboard.admit_stream(ticket_of(document)) == call_id
        assert rig.pool.plans[0].attach_timeout_s == (90.0 if at_ringing else 20.0)


async def test_answer_opt_out_landed_hangs_up_politely(tmp_path):
    """Between dial and answer the callee opted out."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        await rig.status(call_id, "ringing")
        await opt_out(rig)
        assert verbs(await rig.switchboard.answer(_answered(), call_id)) == ["Say", "Hangup"]
        assert ("cancel", call_id) in rig.pool.commands
        rig.pool.report(call_id, "cancelled", "not wanted", attached=False)
        await rig.status(call_id, "completed")
        record = await rig.ended(call_id)
        assert (record.status, record.result, record.blame) == ("completed", "policy", "policy")
        assert record.reason.startswith("revoked: DNC-INT")


async def test_answer_outbound_again_gives_the_same_document(tmp_path):
    """A repeated question opens nothing twice."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        first = await rig.switchboard.answer(_answered(), call_id)
        assert await rig.switchboard.answer(_answered(), call_id) == first
        assert name_of(first) == call_id
        assert len(rig.pool.plans) == 1


async def test_answer_foreign_sid_hangs_up(tmp_path):
    """Our id in somebody else's call."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        document = await rig.switchboard.answer(_answered("CA" + "9" * 32), call_id)
        assert verbs(document) == ["Hangup"]
        assert rig.pool.plans == []


async def test_answer_workers_full_apologises(tmp_path):
    """Somebody picked up and nobody can talk to them: say so, and the record says why."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        rig.pool.full = True
        assert verbs(await rig.switchboard.answer(_answered(), call_id)) == ["Say", "Hangup"]
        await rig.status(call_id, "completed")
        record = await rig.ended(call_id)
        assert (record.result, record.blame) == ("gateway_fault", "gateway")


@pytest.mark.parametrize(
    ("status", "result", "reason"),
    [
        ("busy", "busy", "the line was busy (SIP 486)"),
        ("no-answer", "no_answer", "nobody answered (SIP 486: the line was busy)"),
        (
            "failed",
            "carrier_fault",
            "the call could not be put through (SIP 486: the line was busy)",
        ),
        ("canceled", "cancelled", "cancelled before the answer (SIP 486: the line was busy)"),
    ],
)
async def test_no_answer_closes_with_twilios_reason(tmp_path, status, result, reason):
    """The warm agent leg is dropped; the record says what Twilio said."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        await rig.status(call_id, "ringing")
        await rig.status(call_id, status, SipResponseCode="486")
        assert ("cancel", call_id) in rig.pool.commands
        rig.pool.report(call_id, "cancelled", "Twilio", attached=False)
        record = await rig.ended(call_id)
        assert (record.status, record.result, record.reason) == (status, result, reason)


async def test_statuses_shuffled_and_repeated_end_the_same(tmp_path):
    """Late, repeated and regressing callbacks change nothing; the timeline has each once."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        for status in ("ringing", "initiated", "ringing", "no-answer", "in-progress", "ringing"):
            await rig.status(call_id, status)
        rig.pool.report(call_id, "cancelled", "Twilio", attached=False)
        record = await rig.ended(call_id)
        assert (record.status, record.answered_at) == ("no-answer", None)
        names = await rig.names(call_id)
        assert names.count("ringing") == 1
        assert "initiated" not in names


async def test_agent_unreachable_while_ringing_gives_the_call_up(tmp_path):
    """Better no call than one without an agent: Twilio is told before anybody picks up."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        await rig.status(call_id, "ringing")
        rig.pool.report(call_id, "agent_fault", "agent leg refused (401)", "agent", attached=False)
        record = await rig.ended(call_id)
        assert rig.twilio.ended == [SID]
        assert (record.result, record.blame) == ("agent_fault", "agent")


# ---- hang up -------------------------------------------------------------------------------------


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


# ---- answering machines --------------------------------------------------------------------------

DETECTED = {"CallSid": SID, "MachineDetectionDuration": "3900"}


async def _picked_up(rig, **wanted):
    """A call that asked for detection, answered, its stream running."""
    call_id = (await rig.dial(machine_detection=wanted)).id
    document = await rig.switchboard.answer(_answered(), call_id)
    assert rig.switchboard.admit_stream(ticket_of(document)) == call_id
    rig.pool.event(call_id, "stream_started")
    await rig.until(lambda: rig.switchboard._office.book.get(call_id).attached)
    return call_id


async def test_machine_detection_is_asked_for_with_twilios_names(tmp_path):
    """Asynchronous, with our id in its callback; without a wish nothing is asked."""
    async with open_rig(tmp_path) as rig:
        wanted = {"on_machine": "hang_up", "mode": "fast", "timeout_s": 20}
        call_id = (await rig.dial(machine_detection=wanted)).id
        assert rig.twilio.created[0]["machine_detection"] == {
            "machine_detection": "Enable",
            "async_amd": "true",
            "async_amd_status_callback": rig.switchboard._office.urls.machine(call_id),
            "async_amd_status_callback_method": "POST",
            "machine_detection_timeout": 20,
        }
        assert (await rig.record(call_id)).machine_detection == wanted
        rig.twilio.answers = ["CA" + "2" * 32]
        await rig.dial("+14155550111")
        assert rig.twilio.created[1]["machine_detection"] == {}


async def test_machine_hangs_up_when_it_is_told_to(tmp_path):
    """The worker ends the talk; the record says that it was a machine, and which."""
    async with open_rig(tmp_path) as rig:
        call_id = await _picked_up(rig, on_machine="hang_up")
        form = DETECTED | {"AnsweredBy": "machine_end_beep"}
        await rig.switchboard.machine_detected(form, call_id)
        await rig.until(lambda: ("hang_up", call_id) in rig.pool.commands)
        rig.pool.ending(call_id, "completed", hang_up=True)
        await rig.until(lambda: rig.twilio.ended)
        rig.pool.report(call_id)
        record = await rig.ended(call_id)
        assert (record.result, record.blame, record.answered_by) == (
            "machine", None, "machine_end_beep",
        )  # fmt: skip
        assert "answered_by" in await rig.names(call_id)


async def test_machine_gets_the_message(tmp_path):
    """Twilio is given the words at the end of the greeting; the agent leg's end is not the call's."""
    async with open_rig(tmp_path) as rig:
        call_id = await _picked_up(rig, on_machine="leave_message", message="Call <us> back.")
        form = DETECTED | {"AnsweredBy": "machine_end_silence"}
        await rig.switchboard.machine_detected(form, call_id)
        await rig.switchboard.machine_detected(form, call_id)
        await rig.until(lambda: rig.twilio.instructed)
        rig.pool.report(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).report)
        assert (await rig.record(call_id)).ended_at is None
        await rig.status(call_id, "completed")
        record = await rig.ended(call_id)
        ((sid, document),) = rig.twilio.instructed
        assert sid == SID
        assert verbs(document) == ["Say", "Hangup"]
        assert "Call &lt;us&gt; back." in document
        assert (record.result, record.reason) == (
            "machine", "left a message on an answering machine",
        )  # fmt: skip


async def test_machine_without_words_for_it_is_told_to_the_agent(tmp_path):
    """The agent leaves the message itself."""
    async with open_rig(tmp_path) as rig:
        call_id = await _picked_up(rig, on_machine="leave_message")
        form = DETECTED | {"AnsweredBy": "machine_end_other"}
        await rig.switchboard.machine_detected(form, call_id)
        names = await rig.until(lambda: _named(rig, call_id, "agent_told_of_machine"))
        assert "answered_by" in names
        assert not rig.twilio.instructed


@pytest.mark.parametrize("answered_by", ["human", "unknown"])
async def test_person_or_doubt_goes_on(tmp_path, answered_by):
    """Only what is surely a machine is treated as one."""
    async with open_rig(tmp_path) as rig:
        call_id = await _picked_up(rig, on_machine="hang_up")
        await rig.switchboard.machine_detected(DETECTED | {"AnsweredBy": answered_by}, call_id)
        await _named(rig, call_id, "answered_by")
        assert (await rig.record(call_id)).answered_by == answered_by
        assert not [command for command in rig.pool.commands if command[0] == "hang_up"]


async def _named(rig, call_id, name):
    names = await rig.names(call_id)
    return names if name in names else None


async def test_refusal_by_twilio_names_what_to_do(tmp_path):
    """A country that the account may not call: the record says where to permit it."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.answers = [TwilioRefused(400, 21215, "Account not authorized to call +49")]
        with pytest.raises(DialRefused) as caught:
            await rig.dial()
        record = await rig.ended(caught.value.call_id)
        assert "Geo permissions" in record.reason
        assert record.reason.endswith("(21215)")


def test_request_for_a_call_is_answered_before_the_server_drops_the_client():
    """A client that only waits sends nothing, and is cut off after a while."""
    assert 2 * (intake.ANSWER_WITHIN_S + intake.LOOK_EVERY_S) < http.IDLE_READ_S


async def test_few_decisions_are_made_at_a_time(tmp_path, monkeypatch):
    """Ten calls are due at once: none waits for its decision to be written down behind all the others."""
    under_way = most = 0
    ask = dialer.verdict.ask

    async def counted(*arguments):
        nonlocal under_way, most
        if arguments[1].phase != "dial":
            return await ask(*arguments)
        under_way += 1
        most = max(most, under_way)
        try:
            return await ask(*arguments)
        finally:
            under_way -= 1

    async with open_rig(tmp_path, media={"max_calls_per_worker": 10}) as rig:
        rig.twilio.answers = [f"CA{index:032d}" for index in range(10)]
        monkeypatch.setattr(dialer.verdict, "ask", counted)
        numbers = [f"+14155550{index}" for index in range(110, 120)]
        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(partial(rig.dial, to=number))
        assert {call["to"] for call in rig.twilio.created} == set(numbers)
        assert 1 <= most <= dialer.DECIDING_MAX
