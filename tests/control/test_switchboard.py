"""The switchboard is asked: documents for Twilio, tickets for streams, decisions of the policy, hang-ups."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from control.routing.callers import UNKNOWN
from control.store import StoreUnavailable, consents
from control.store import calls as table
from control.switchboard import CallNotFound, CallOver, PolicyRefused, TicketRefused
from tests.control.switchboard_rig import (
    AGENT,
    NOW,
    OURS,
    SID,
    THEIRS,
    name_of,
    open_rig,
    opt_out,
    talking,
    ticket_of,
    verbs,
)

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
        call_id = await talking(rig)
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


# ---- hang up -------------------------------------------------------------------------------------


async def test_hang_up_talking_goes_through_the_worker(tmp_path):
    """The worker ends the talk in order; the record says who asked."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
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
