"""Calls from the first question to the closed record, over a real store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import trio
import trio.testing

from control import ending, leaving, reconcile, switchboard, warming
from control.routing.callers import UNKNOWN
from control.store import StoreUnavailable, consents, conversations, dialing
from control.store import calls as table
from control.store.records import CallRecord
from control.switchboard import CallNotFound, CallOver, PolicyRefused, TicketRefused
from control.twilio.rest import CallSeen, TwilioRefused, TwilioUncertain
from gateway.link import CallReport
from tests.control.switchboard_rig import (
    AGENT,
    NOW,
    OURS,
    SID,
    THEIRS,
    FakeTwilio,
    name_of,
    open_rig,
    opt_out,
    ticket_of,
    verbs,
)  # fmt: skip


async def _talking(rig, sid=SID):
    """An inbound call whose stream has started; returns its id."""
    call_id = name_of(await rig.switchboard.answer(rig.form(sid)))
    rig.pool.event(call_id, "stream_started")
    await rig.until(lambda: rig.switchboard._office.book.get(call_id).attached)
    return call_id


# ---- inbound -------------------------------------------------------------------------------------


async def test_answer_inbound_commits_record_and_decision_before_the_document(tmp_path):
    """When Twilio has its TwiML, the record and the decision are in the store and a worker is warming."""
    async with open_rig(tmp_path) as rig:
        document = await rig.switchboard.answer(rig.form())
        call_id = name_of(document)
        assert verbs(document) == ["Connect", "Say", "Redirect"]
        record = await rig.record(call_id)
        assert (record.direction, record.status, record.twilio_call_sid) == (
            "inbound",
            "ringing",
            SID,
        )
        assert (record.from_number, record.to_number, record.agent_id) == (THEIRS, OURS, "agt_1")
        assert record.decision["allowed"] is True
        ((phase, decision, _),) = await rig.store.read(table.decisions_of, call_id)
        assert (phase, decision["outcome"]) == ("answer", "allow")
        (plan,) = rig.pool.plans
        assert plan.call_id == call_id
        expected = UNKNOWN | {
            "gw_call_id": call_id,
            "caller_number": THEIRS,
            "called_number": OURS,
            "twilio_call_sid": SID,
            "shop": "Acme",
        }
        assert plan.dynamic_variables | expected == plan.dynamic_variables
        assert rig.switchboard.admit_stream(ticket_of(document)) == call_id


async def test_answer_same_call_again_gives_the_same_document(tmp_path):
    """A repeated or replayed request makes no second record and no second agent leg."""
    async with open_rig(tmp_path) as rig:
        answers = []

        async def ask():
            answers.append(await rig.switchboard.answer(rig.form()))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        answers.append(await rig.switchboard.answer(rig.form()))
        assert len(set(answers)) == 1
        assert len(rig.pool.plans) == 1
        await rig.only_record()


async def test_answer_asker_gone_work_is_finished(tmp_path):
    """The client hung up in the middle: the next one finds the call made."""
    async with open_rig(tmp_path) as rig:
        with trio.move_on_after(0):
            await rig.switchboard.answer(rig.form())
        document = await rig.switchboard.answer(rig.form())
        assert verbs(document) == ["Connect", "Say", "Redirect"]
        assert len(rig.pool.plans) == 1


async def test_answer_ended_call_again_hangs_up(tmp_path):
    """A replay of an old request opens nothing."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
        rig.pool.report(call_id)
        await rig.ended(call_id)
        assert verbs(await rig.switchboard.answer(rig.form())) == ["Hangup"]
        assert len(rig.pool.plans) == 1


async def test_answer_unknown_number_rejects_without_record(tmp_path):
    """Nobody is there: no record, nothing opened upstream, counted."""
    async with open_rig(tmp_path) as rig:
        assert verbs(await rig.switchboard.answer(rig.form(To="+19995550000"))) == ["Reject"]
        assert (await rig.store.read(table.list_calls))[0] == []
        assert rig.pool.plans == []
        assert rig.count("webhooks", "/twilio/voice", "unknown_number") == 1
        assert rig.switchboard.live_counts() == {"inbound": 0, "outbound": 0}


@pytest.mark.parametrize(
    ("status", "verb"), [("live", "Connect"), ("degraded", "Connect"), ("failed", "Reject")]
)
async def test_answer_only_live_or_degraded_agents(tmp_path, status, verb):
    """An agent that is not provisioned takes no calls."""
    async with open_rig(tmp_path, agent=replace(AGENT, status=status)) as rig:
        assert verbs(await rig.switchboard.answer(rig.form()))[0] == verb


async def test_answer_workers_full_is_busy_and_recorded(tmp_path):
    """The caller hears the busy tone, the record says whose fault it was."""
    async with open_rig(tmp_path) as rig:
        rig.pool.full = True
        document = await rig.switchboard.answer(rig.form())
        assert 'reason="busy"' in document
        record = await rig.only_record()
        assert (record.status, record.result, record.blame) == ("busy", "busy", "gateway")
        assert record.ended_at is not None


async def test_answer_store_away_apologises_and_drops_the_agent_leg(tmp_path, monkeypatch):
    """Without a record there is no call."""
    async with open_rig(tmp_path) as rig:

        async def away(*_args, **_kwargs):
            raise StoreUnavailable("disk full")

        monkeypatch.setattr(rig.store, "write", away)
        assert verbs(await rig.switchboard.answer(rig.form())) == ["Say", "Hangup"]
        assert rig.pool.commands == [("cancel", rig.pool.plans[0].call_id)]
        assert rig.switchboard.live_counts()["inbound"] == 0


async def test_answer_draining_is_busy(tmp_path):
    """No new calls, politely."""
    async with open_rig(tmp_path) as rig:
        await rig.switchboard.drain()
        assert 'reason="busy"' in await rig.switchboard.answer(rig.form())
        assert rig.pool.drained
        assert rig.pool.plans == []


# ---- talk and end --------------------------------------------------------------------------------


async def test_talk_events_and_turns_are_written(tmp_path):
    """Timeline and transcript of the worker end in the store; an amended turn counts last."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
        rig.pool.turn(call_id, 0, "agent", "Hello, Acme here", heard="Hello")
        rig.pool.turn(call_id, 1, "user", "Hi")
        rig.pool.turn(
            call_id, 0, "agent", "Hello, Acme here", heard="Hello, Acme", interrupted=True
        )
        turns = await rig.until(
            lambda: _async(_turns_if(rig, call_id, lambda turns: len(turns) == 2))
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


async def _async(awaitable):
    return await awaitable


async def _turns_if(rig, call_id, test):
    turns = await rig.store.read(table.turns, call_id)
    return turns if test(turns) else None


async def test_end_by_agent_hangs_up_by_rest_before_the_stream_closes(tmp_path):
    """REST first, then the worker may close, then the record."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
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
        call_id = await _talking(rig)
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
        call_id = await _talking(rig)
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
        call_id = await _talking(rig)
        await rig.status(None, "completed", CallDuration="5")
        assert rig.switchboard._office.book.get(call_id) is not None
        rig.pool.report(call_id)
        record = await rig.ended(call_id)
        assert (record.media, record.cost) == ({"frames": 7}, {"duration_s": 5})


async def test_end_report_never_comes_closes_at_the_deadline(tmp_path):
    """A worker that keeps silent does not keep the record open."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
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


# ---- continue ------------------------------------------------------------------------------------


async def test_continue_after_lost_worker_resumes_with_the_conversation(tmp_path):
    """A crash is a pause: a new agent leg that knows what was said, a new ticket, the same call."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
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
        call_id = await _talking(rig)
        for name in ("conv_a", "conv_b", "conv_b"):
            rig.pool.event(call_id, "agent_ready", conversation_id=name)
        record = await rig.until(lambda: _async(_record_if(rig, call_id, "conv_b")))
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
        call_id = await _talking(rig)
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
        call_id = await _talking(rig)
        rig.pool.is_down = True
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
        assert verbs(await rig.switchboard.continue_call(rig.form(), call_id)) == ["Say", "Hangup"]
        assert (await rig.ended(call_id)).result == "gateway_fault"


async def test_continue_second_loss_apologises_and_blames_the_gateway(tmp_path):
    """Once is enough."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
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
        call_id = await _talking(rig)
        rig.pool.report(call_id, "agent_fault", "agent leg closed (1011)", "agent")
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).report)
        assert verbs(await rig.switchboard.continue_call(rig.form(), call_id))[0] == "Connect"
        assert len(rig.pool.plans) == 2


async def test_continue_agent_refused_for_good_apologises(tmp_path):
    """A wrong key is wrong the second time too."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
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
        call_id = await _talking(rig)
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
        call_id = await _talking(rig)
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
        call_id = await _talking(rig)
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
        rig.twilio.known[SID] = CallSeen(SID, "in-progress", OURS, THEIRS, NOW, None)
        rig.expire(call_id)
        record = await rig.ended(call_id)
        assert rig.twilio.ended == [SID]
        assert (record.result, record.blame) == ("gateway_fault", "gateway")


# ---- tickets -------------------------------------------------------------------------------------


async def test_admit_stream_refusals_are_counted(tmp_path):
    """Unknown, used, and of a call without worker."""
    async with open_rig(tmp_path) as rig:
        document = await rig.switchboard.answer(rig.form())
        ticket = ticket_of(document)
        with pytest.raises(TicketRefused, match="unknown"):
            rig.switchboard.admit_stream("guess")
        rig.switchboard.admit_stream(ticket)
        with pytest.raises(TicketRefused, match="used"):
            rig.switchboard.admit_stream(ticket)
        other = name_of(await rig.switchboard.answer(rig.form("CA" + "2" * 32)))
        stray = rig.tickets.issue(other, 20.0)
        del rig.pool.homes[other]
        with pytest.raises(TicketRefused, match="gone"):
            rig.switchboard.admit_stream(stray)
        counted = [rig.count("tickets_refused", why) for why in ("unknown", "used", "gone")]
        assert counted == [1, 1, 1]


# ---- status and stream callbacks -----------------------------------------------------------------


async def test_stream_status_is_a_line_of_the_timeline(tmp_path):
    """What Twilio says of the stream is kept."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
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


# ---- hang up -------------------------------------------------------------------------------------


async def test_hang_up_talking_goes_through_the_worker(tmp_path):
    """The worker ends the talk in order; the record says who asked."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
        records = []

        async def hang_up():
            records.append(await rig.switchboard.hang_up(call_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up)
            await rig.until(lambda: ("hang_up", call_id) in rig.pool.commands)
            rig.pool.ending(call_id, hang_up=True)
            await rig.until(lambda: rig.twilio.ended)
            rig.pool.report(call_id, reason="hung up by request")
        assert (records[0].status, records[0].reason) == ("completed", "hung up by request")
        with pytest.raises(CallOver):
            await rig.switchboard.hang_up(call_id)


async def test_hang_up_unknown_call_raises(tmp_path):
    """There is no such call."""
    async with open_rig(tmp_path) as rig:
        with pytest.raises(CallNotFound):
            await rig.switchboard.hang_up("call_unknown")


# ---- policy --------------------------------------------------------------------------------------


async def test_check_policy_dials_nothing_and_keeps_the_decision(tmp_path):
    """The decision that such a call would get."""
    async with open_rig(tmp_path) as rig:
        asked = {"agent_id": "agt_1", "to": THEIRS}
        assert (await rig.switchboard.check_policy(**asked))["allowed"] is True
        await opt_out(rig)
        decision = await rig.switchboard.check_policy(**asked)
        assert decision["outcome"] == "deny"
        assert rig.twilio.created == []
        assert rig.count("policy_decisions", "deny", "DNC-INT") == 1


def _express_consent(conn):
    consents.insert_consent(
        conn,
        consents.ConsentRecord(
            id="cns_1",
            e164=THEIRS,
            seller="Default",
            channels=["voice_ai"],
            purposes=["informational"],
            level="express",
            occurred_at=NOW,
            recorded_at=NOW,
            actor="test",
        ),
    )


@pytest.mark.parametrize(
    ("rules", "meaning"),
    [
        (("con_none", "con_written", "con_scope"), {"purpose": "informational"}),
        (("time_fed", "time_cc"), {"called_party": {"timezone": "Europe/London"}}),
        (("time_fed", "time_cc"), {"called_party": {"postcode": "96910", "state": "GU"}}),
    ],
)
async def test_answer_outbound_is_judged_by_the_purpose_and_place_of_the_call(
    tmp_path, rules, meaning
):
    """What the request said of the call holds when it is picked up: it is not taken for another one."""
    place = meaning.get("called_party")
    said = meaning | ({"called_party": place | {"as_of": NOW.isoformat()}} if place else {})
    async with open_rig(tmp_path, rules=rules, before=_express_consent) as rig:
        with pytest.raises(PolicyRefused):
            await rig.dial()
        call_id = (await rig.dial(metadata=said)).id
        document = await rig.switchboard.answer(rig.form(), call_id)
        decisions = await rig.store.read(table.decisions_of, call_id)
        phases = [(phase, decision["outcome"]) for phase, decision, _ in decisions]
        assert phases == [("accept", "allow"), ("dial", "allow"), ("answer", "allow")]
        assert verbs(document)[0] == "Connect"
        (consent,) = await rig.store.read(consents.of_number, "tnt_default", THEIRS)
        assert (consent.last_used_at is not None) is ("con_scope" in rules)


# ---- a former process ----------------------------------------------------------------------------


def _left_open(**columns):
    record = CallRecord(
        "call_old", "outbound", NOW, agent_id="agt_1", from_number=OURS, to_number=THEIRS
    )
    return lambda conn: table.insert(conn, replace(record, **columns))


async def test_start_call_over_at_twilio_is_closed(tmp_path, monkeypatch):
    """The process died while the call ended: Twilio knows how."""
    monkeypatch.setattr(
        FakeTwilio, "fetch_call", _fetch_answering(CallSeen(SID, "no-answer", "", "", NOW, None))
    )
    before = _left_open(status="ringing", twilio_call_sid=SID, dial_state="created")
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
    before = _left_open(status="ringing", twilio_call_sid=SID, dial_state="created")
    async with open_rig(tmp_path, before=before) as rig:
        record = await rig.ended("call_old")
        assert (record.status, record.result, asked) == ("no-answer", "no_answer", [SID] * 3)


async def test_start_call_with_a_name_whose_row_was_left_in_the_dial_queue_is_asked_about(
    tmp_path, monkeypatch
):
    """Killed between the record's flush and the end of its row: nobody dials again, and Twilio says how it ended."""
    monkeypatch.setattr(
        FakeTwilio, "fetch_call", _fetch_answering(CallSeen(SID, "busy", "", "", NOW, None))
    )
    insert_record = _left_open(status="ringing", twilio_call_sid=SID, dial_state="created")

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
    before = _left_open(status="in-progress", twilio_call_sid=SID, dial_state="created")
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


def _fetch_answering(seen):
    async def fetch(_self, _sid):
        return seen

    return fetch


async def test_report_of_a_closed_call_still_names_its_conversation(tmp_path):
    """It came after the end was written; told twice, it is one line, and a report about nobody is dropped."""
    before = _left_open(
        status="completed",
        result="cancelled",
        ended_at=NOW,
        twilio_call_sid=SID,
        dial_state="created",
    )
    async with open_rig(tmp_path, before=before) as rig:
        rig.pool.report("call_nobody", conversation_id="conv_0")

        async def lines():
            return (await rig.names("call_old")).count("reported_late")

        with trio.fail_after(10):
            for count, conversation_ids in enumerate((("conv_1", "conv_1"), ("conv_2",)), 1):
                for conversation_id in conversation_ids:
                    rig.pool.report("call_old", conversation_id=conversation_id)
                while await lines() < count:
                    await trio.sleep(0.01)
        assert (await rig.record("call_old")).conversation_id == "conv_1"
        assert await lines() == 2


async def test_report_of_a_closed_call_waits_for_the_store_and_its_file_with_it(
    tmp_path, monkeypatch
):
    """A worker left it on the disk, and the store goes away when it is read: it is written later, and only then is it removed."""
    before = _left_open(
        status="completed",
        result="cancelled",
        ended_at=NOW,
        twilio_call_sid=SID,
        dial_state="created",
    )
    spool, keep, tries = tmp_path / "w1.spool", ending.late.keep, []

    def keep_at_last(conn, report):
        tries.append(spool.exists())
        if len(tries) < 4:
            raise StoreUnavailable("away")
        return keep(conn, report)

    spool.touch()
    monkeypatch.setattr(ending.late, "keep", keep_at_last)
    monkeypatch.setattr(ending, "LATE_REPORT_AGAIN_S", (0.1, 0.1, 0.1))
    monkeypatch.setattr(switchboard, "FLUSH_EVERY_S", 0.01)
    async with open_rig(tmp_path, before=before) as rig:
        rig.pool.report("call_old", conversation_id="conv_1")
        rig.pool.spool_read(spool)
        await rig.until(lambda: not spool.exists())
        assert tries == [True] * 4
        assert (await rig.record("call_old")).conversation_id == "conv_1"


async def test_file_of_a_report_that_could_not_be_written_stays_for_the_next_process(
    tmp_path, monkeypatch
):
    """The store was away for too long. Told again, it costs nothing."""
    spool, tries = tmp_path / "w1.spool", []

    def keep_never(_conn, report):
        tries.append(report.call_id)
        raise StoreUnavailable("away")

    spool.touch()
    monkeypatch.setattr(ending.late, "keep", keep_never)
    monkeypatch.setattr(ending, "LATE_REPORT_AGAIN_S", (0.01,))
    async with open_rig(tmp_path) as rig:
        rig.pool.report("call_old", conversation_id="conv_1")
        rig.pool.spool_read(spool)
        await rig.until(lambda: len(tries) == 2)
        await rig.switchboard._write_down()
        await rig.switchboard._write_down()
        assert spool.exists()


async def test_call_closed_before_its_worker_has_reported_may_miss_a_conversation(tmp_path):
    """Until the worker's last word has come, with a conversation or without one."""
    async with open_rig(tmp_path) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        await rig.status(None, "completed")
        rig.expire(call_id)
        record = await rig.ended(call_id)
        assert record.legs["agent"] == {"unheard": "unreported"}
        rig.pool.report(call_id, "cancelled", attached=False, conversation_id=None)
        await rig.until(lambda: _is_heard(rig, call_id))
        assert (await rig.record(call_id)).conversation_id is None


@pytest.mark.parametrize("comes", ["before the end", "behind the end", "behind the record"])
async def test_conversation_that_was_ended_before_it_had_a_name_is_looked_for(tmp_path, comes):
    """The worker's report says that one was begun; until its name is found the record may miss it."""
    async with open_rig(tmp_path) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        said = {"attached": False, "conversation_id": None, "is_unnamed": True}
        if comes == "before the end":
            rig.pool.report(call_id, "cancelled", **said)
            await rig.status(None, "completed")
        else:
            await rig.status(None, "completed")
            rig.expire(call_id)
            if comes == "behind the record":
                await rig.ended(call_id)
            rig.pool.report(call_id, "cancelled", **said)
        record = await rig.ended(call_id)
        await trio.testing.wait_all_tasks_blocked(0.1)
        agent = (await rig.record(call_id)).legs["agent"]
        assert agent["unheard"] in ("unnamed", "unreported")
        assert "is_unnamed" not in agent
        assert conversations.may_miss_one(record)


async def _is_heard(rig, call_id):
    return (await rig.record(call_id)).legs["agent"] == {}


@pytest.mark.parametrize("dies", ["worker", "control"])
async def test_call_of_a_process_that_died_may_miss_a_conversation(tmp_path, dies):
    """Whatever was told since."""
    before = _left_open(twilio_call_sid=SID, dial_state="created") if dies == "control" else None
    async with open_rig(tmp_path, before=before) as rig:
        if dies == "worker":
            call_id = name_of(await rig.switchboard.answer(rig.form()))
            rig.pool.lose(call_id)
            await rig.until(lambda: rig.pool.holds(call_id))
            rig.pool.report(call_id, "cancelled", attached=False)
        else:
            call_id = "call_old"
        await rig.status(call_id, "completed")
        record = await rig.ended(call_id)
        assert record.legs["agent"]["unheard"] == "lost"


@pytest.mark.parametrize(
    ("warm", "status", "may_miss"),
    [("answer", "busy", False), ("answer", "completed", True), ("ringing", "busy", True)],
)
async def test_call_that_nobody_answered_misses_no_conversation_where_agents_wait_for_the_answer(
    tmp_path, monkeypatch, warm, status, may_miss
):
    """Else its message would wait until a conversation is found that there never was."""
    seen = CallSeen(SID, status, "", "", NOW, None)
    monkeypatch.setattr(FakeTwilio, "fetch_call", _fetch_answering(seen))
    before = _left_open(twilio_call_sid=SID, dial_state="created")
    async with open_rig(tmp_path, before=before, media={"warm_outbound": warm}) as rig:
        await rig.status("call_old", status)
        record = await rig.ended("call_old")
        assert ("unheard" in (record.legs.get("agent") or {})) is may_miss


async def test_start_last_word_of_a_worker_that_outlived_goes_before_twilios(tmp_path, monkeypatch):
    """It tells again what the former process may not have written down: the call was a talk, and had two agent legs."""
    monkeypatch.setattr(
        FakeTwilio, "fetch_call", _fetch_answering(CallSeen(SID, "completed", "", "", NOW, None))
    )
    before = _left_open(status="ringing", twilio_call_sid=SID, dial_state="created")
    async with open_rig(tmp_path, before=before, outlived=True) as rig:
        rig.pool.event("call_old", "stream_started")
        rig.pool.report("call_old", reason="agent ended the call")
        record = await rig.ended("call_old")
        assert (record.result, record.reason) == ("completed", "agent ended the call")
        assert record.legs["agent"]["unheard"] == "lost"


async def test_report_behind_the_end_leaves_other_legs_in_doubt(tmp_path):
    """The call is closed and not written yet: what another leg may have had is not settled by this report."""
    async with open_rig(tmp_path) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.pool.holds(call_id))
        office = rig.switchboard._office
        call = office.book.get(call_id)
        rig.switchboard._ending.close(call)
        rig.switchboard._ending._reported(call, _report(call_id))
        record = await rig.ended(call_id)
        assert record.legs["agent"]["unheard"] == "lost"


def _report(call_id):
    named = {"conversation_id": "conv_2", "stream_sid": None, "twilio_call_sid": SID}
    ended = {"result": "cancelled", "blame": None, "reason": "the call is over", "at_ms": 5000}
    return CallReport(call_id, attached=False, media={}, legs={"agent": {}}, **ended, **named)


@pytest.mark.parametrize("answered_at", [None, NOW])
async def test_start_call_whose_end_was_known_is_closed_at_once(tmp_path, monkeypatch, answered_at):
    """The former process had written down Twilio's last word, and died before it closed the record."""
    monkeypatch.setattr(
        FakeTwilio, "fetch_call", _fetch_answering(CallSeen(SID, "completed", "", "", NOW, 5))
    )
    before = _left_open(
        direction="inbound", status="completed", twilio_call_sid=SID, answered_at=answered_at
    )
    async with open_rig(tmp_path, before=before) as rig:
        record = await rig.ended("call_old")
        assert record.status == "completed"
        assert (record.result == "gateway_fault") == (answered_at is not None)


async def test_start_intent_never_sent_is_closed(tmp_path):
    """Nothing was dialled, and nothing will be."""
    async with open_rig(tmp_path, before=_left_open(dial_state="intent")) as rig:
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
        FakeTwilio, "fetch_call", _fetch_answering(CallSeen(SID, "in-progress", "", "", NOW, None))
    )

    def before(conn):
        _left_open(status="in-progress", twilio_call_sid=SID, answered_at=NOW)(conn)
        table.upsert_turn(conn, "call_old", 0, "user", "Hello?", 1)

    async with open_rig(tmp_path, before=before) as rig:
        document = await rig.switchboard.continue_call(rig.form(), "call_old")
        assert verbs(document)[0] == "Connect"
        assert rig.pool.plans[0].dynamic_variables["gw_resume_context"] == "Caller: Hello?"


async def test_overdue_twilio_unreachable_keeps_asking(tmp_path, monkeypatch):
    """A record is not closed on a guess."""
    async with open_rig(tmp_path) as rig:
        asked = []

        async def away(_sid):
            asked.append(_sid)
            raise TwilioUncertain("no answer")

        monkeypatch.setattr(rig.twilio, "fetch_call", away)
        call_id = await _talking(rig)
        rig.expire(call_id)
        await rig.until(lambda: asked)
        call = rig.switchboard._office.book.get(call_id)
        await rig.until(lambda: call.deadline_s > trio.current_time() + reconcile.ASK_AGAIN_S - 5)
        assert not call.closing


# ---- drain ---------------------------------------------------------------------------------------


async def test_drain_ends_what_does_not_end_by_itself(tmp_path):
    """After the deadline Twilio is told, and the record says that it was us."""
    async with open_rig(tmp_path) as rig:
        call_id = await _talking(rig)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leaving, "DRAIN_MARGIN_S", 0.1)
            await rig.switchboard.drain()
        assert rig.twilio.ended == [SID]
        record = await rig.record(call_id)
        assert (record.result, record.blame) == ("drained", "gateway")
        assert rig.switchboard.live_counts()["inbound"] == 0
