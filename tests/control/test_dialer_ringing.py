"""An outbound call from ringing to its answer, and the statuses that tell of it."""

from __future__ import annotations

import pytest

from tests.control.switchboard_rig import (
    SID,
    answered,
    name_of,
    open_rig,
    opt_out,
    ticket_of,
    verbs,
)


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
        document = await rig.switchboard.answer(answered(), call_id)
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
        assert verbs(await rig.switchboard.answer(answered(), call_id)) == ["Say", "Hangup"]
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
        first = await rig.switchboard.answer(answered(), call_id)
        assert await rig.switchboard.answer(answered(), call_id) == first
        assert name_of(first) == call_id
        assert len(rig.pool.plans) == 1


async def test_answer_foreign_sid_hangs_up(tmp_path):
    """Our id in somebody else's call."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        document = await rig.switchboard.answer(answered("CA" + "9" * 32), call_id)
        assert verbs(document) == ["Hangup"]
        assert rig.pool.plans == []


async def test_answer_workers_full_apologises(tmp_path):
    """Somebody picked up and nobody can talk to them: say so, and the record says why."""
    async with open_rig(tmp_path) as rig:
        call_id = (await rig.dial()).id
        rig.pool.full = True
        assert verbs(await rig.switchboard.answer(answered(), call_id)) == ["Say", "Hangup"]
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
