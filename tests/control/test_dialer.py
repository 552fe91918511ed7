"""Outbound calls: decided, intended, dialled exactly once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import trio

from control import dialer, http
from control.dialing import desk, intake, pump
from control.store import StoreUnavailable
from control.store import calls as table
from control.switchboard import AgentNotFound, AgentNotLive, DialRefused, NotAdmitted, PolicyRefused
from control.twilio.rest import TwilioRefused, TwilioUnreachable
from tests.control.switchboard_rig import AGENT, OURS, SID, THEIRS, open_rig, opt_out


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
