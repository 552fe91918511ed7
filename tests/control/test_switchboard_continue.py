"""A call goes on after its worker or its agent leg was lost, or ends politely."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from control import warming
from control.store import calls as table
from control.switchboard import TicketRefused
from control.twilio.rest import CallSeen
from tests.control.switchboard_rig import (
    NOW,
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


async def test_continue_after_lost_worker_resumes_with_the_conversation(tmp_path):
    """A crash is a pause: a new agent leg that knows what was said, a new ticket, the same call."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        rig.pool.turn(call_id, 0, "agent", "Hello, how can I help?", heard="Hello, how can")
        rig.pool.turn(call_id, 1, "user", "A table for two")
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
        document = await rig.switchboard.continue_call(rig.form(), call_id)
        assert verbs(document) == ["Connect", "Say", "Redirect"]
        assert rig.switchboard.admit_stream(ticket_of(document)) == call_id
        context = rig.pool.plans[1].dynamic_variables["gw_resume_context"]
        assert context == "Agent: Hello, how can\nCaller: A table for two"
        rig.pool.event(call_id, "stream_started")
        rig.pool.turn(call_id, 0, "agent", "Sorry, for two?")
        rig.pool.report(call_id)
        record = await rig.ended(call_id)
        assert (record.result, record.resumes) == ("completed", 1)
        turns = await rig.store.read(table.turns, call_id)
        assert [turn.text for turn in turns] == [
            "Hello, how can I help?", "A table for two", "Sorry, for two?",
        ]  # fmt: skip


async def test_conversations_of_a_call_are_all_kept_whatever_breaks(tmp_path):
    """A redial, a lost worker, a report: each new conversation is in the record, the newest as its own."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        for name in ("conv_a", "conv_b", "conv_b"):
            rig.pool.event(call_id, "agent_ready", conversation_id=name)
        record = await rig.until(lambda: awaited(_record_if(rig, call_id, "conv_b")))
        assert record.legs["agent"]["earlier_conversation_ids"] == ["conv_a"]
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
        await rig.switchboard.continue_call(rig.form(), call_id)
        rig.pool.event(call_id, "stream_started")
        rig.pool.report(call_id)
        record = await rig.ended(call_id)
        assert record.conversation_id == "conv_1"
        assert record.legs["agent"]["earlier_conversation_ids"] == ["conv_a", "conv_b"]


async def _record_if(rig, call_id, conversation_id):
    record = await rig.record(call_id)
    return record if record.conversation_id == conversation_id else None


async def test_continue_all_workers_dead_waits_for_a_new_one(tmp_path):
    """With a single worker its crash must still be a pause."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        rig.pool.is_down = True
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
        answers = []

        async def ask():
            answers.append(await rig.switchboard.continue_call(rig.form(), call_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            rig.pool.is_down = False
        assert verbs(answers[0])[0] == "Connect"


async def test_continue_no_worker_comes_back_apologises(tmp_path, monkeypatch):
    """The wait is bounded."""
    monkeypatch.setattr(warming, "WORKER_WAIT_S", 0.05)
    monkeypatch.setattr(warming, "WORKER_POLL_S", 0.01)
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        rig.pool.is_down = True
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
        assert verbs(await rig.switchboard.continue_call(rig.form(), call_id)) == ["Say", "Hangup"]
        assert (await rig.ended(call_id)).result == "gateway_fault"


async def test_continue_second_loss_apologises_and_blames_the_gateway(tmp_path):
    """Once is enough."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        for _ in range(2):
            rig.pool.lose(call_id)
            await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
            document = await rig.switchboard.continue_call(rig.form(), call_id)
            rig.pool.event(call_id, "stream_started")
        assert verbs(document) == ["Say", "Hangup"]
        record = await rig.ended(call_id)
        assert (record.result, record.blame, record.resumes) == ("gateway_fault", "gateway", 1)


async def test_continue_agent_leg_dropped_resumes(tmp_path):
    """The agent leg was lost in the middle: one more try."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        rig.pool.report(call_id, "agent_fault", "agent leg closed (1011)", "agent")
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).report)
        assert verbs(await rig.switchboard.continue_call(rig.form(), call_id))[0] == "Connect"
        assert len(rig.pool.plans) == 2


async def test_continue_agent_refused_for_good_apologises(tmp_path):
    """A wrong key is wrong the second time too."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        rig.pool.report(call_id, "agent_fault", "agent leg signed URL was refused (401)", "agent")
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).report)
        assert verbs(await rig.switchboard.continue_call(rig.form(), call_id)) == ["Say", "Hangup"]
        record = await rig.ended(call_id)
        assert (record.result, record.blame) == ("agent_fault", "agent")
        assert record.reason.endswith("(401)")
        assert len(rig.pool.plans) == 1


async def test_continue_stream_never_came_gets_one_new_ticket(tmp_path):
    """The agent leg is warm: the second stream joins it."""
    async with open_rig(tmp_path) as rig:
        first = await rig.switchboard.answer(rig.form())
        call_id = name_of(first)
        second = await rig.switchboard.continue_call(rig.form(), call_id)
        assert ticket_of(second) != ticket_of(first)
        assert len(rig.pool.plans) == 1
        with pytest.raises(TicketRefused, match="expired"):
            rig.switchboard.admit_stream(ticket_of(first))
        third = await rig.switchboard.continue_call(rig.form(), call_id)
        assert verbs(third) == ["Say", "Hangup"]


async def test_continue_waits_for_the_workers_last_word(tmp_path):
    """Twilio asks before the report is here; its result decides."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        answers = []

        async def ask():
            answers.append(await rig.switchboard.continue_call(rig.form(), call_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            rig.pool.report(call_id)
        assert verbs(answers[0]) == ["Hangup"]


@pytest.mark.parametrize("call_id", ["call_unknown", None])
async def test_continue_unknown_call_hangs_up(tmp_path, call_id):
    """Not ours."""
    async with open_rig(tmp_path) as rig:
        assert verbs(await rig.switchboard.continue_call(rig.form(), call_id)) == ["Hangup"]


async def test_continue_foreign_sid_hangs_up(tmp_path):
    """Our call id with somebody else's call is nobody's call."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        form = rig.form("CA" + "9" * 32)
        assert verbs(await rig.switchboard.continue_call(form, call_id)) == ["Hangup"]
        assert rig.switchboard._office.book.get(call_id) is not None


async def test_lost_worker_before_the_stream_prepares_elsewhere_at_once(tmp_path):
    """The ticket names the call, not the worker: the caller notices nothing."""
    async with open_rig(tmp_path) as rig:
        document = await rig.switchboard.answer(rig.form())
        call_id = name_of(document)
        rig.pool.lose(call_id)
        await rig.until(lambda: len(rig.pool.plans) == 2)
        assert rig.switchboard.admit_stream(ticket_of(document)) == call_id


async def test_agent_failed_before_the_stream_is_tried_again(tmp_path):
    """A busy agent service at the first ring need not be heard by the caller."""
    async with open_rig(tmp_path) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        rig.pool.report(call_id, "agent_fault", "agent leg refused (429)", "agent", attached=False)
        await rig.until(lambda: len(rig.pool.plans) == 2)
        assert "resumed" in await rig.names(call_id)


async def test_lost_call_that_nobody_continues_is_ended(tmp_path):
    """Twilio still has the call but never asked: it is ended from here, with the blame."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
        rig.twilio.known[SID] = CallSeen(SID, "in-progress", OURS, THEIRS, NOW, None)
        rig.expire(call_id)
        record = await rig.ended(call_id)
        assert rig.twilio.ended == [SID]
        assert (record.result, record.blame) == ("gateway_fault", "gateway")
