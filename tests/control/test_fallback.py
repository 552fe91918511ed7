"""No agent is left for a caller: the agent's fallback, what the record says of it, and what is refused."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from control.transfer.fallback import Fallback, outcome_of
from control.warming import REGRET
from tests.control.switchboard_rig import AGENT, OURS, SID, open_rig, opt_out, verbs
from tests.control.test_transfer import element

PERSON = "+14155550123"


@asynccontextmanager
async def lost(tmp_path, fallback, **options):
    """A call whose agent was refused for good in mid-talk: (rig, call id)."""
    settings = {} if fallback is None else {"fallback": fallback}
    async with open_rig(tmp_path, agent=replace(AGENT, settings=settings), **options) as rig:
        await rig.switchboard.answer(rig.form())
        call_id = (await rig.only_record()).id
        rig.pool.event(call_id, "stream_started")
        call = rig.switchboard._office.book.get(call_id)
        await rig.until(lambda: call.attached)
        rig.pool.report(call_id, "agent_fault", "out of credit (402)", "agent")
        await rig.until(lambda: call.report is not None)
        yield rig, call_id


async def go_on(rig, call_id):
    return await rig.switchboard.continue_call({"CallSid": SID}, call_id)


async def dial_done(rig, call_id, status, **more):
    form = {"CallSid": SID, "DialCallStatus": status, "CallStatus": "in-progress"} | more
    return await rig.switchboard.dial_done(form, call_id)


async def connected(rig, call_id):
    leg = {"CallSid": "CA" + "9" * 32, "ParentCallSid": SID, "CallStatus": "in-progress"}
    await rig.switchboard.leg_status(leg, call_id)


async def test_lost_agent_with_a_number_puts_the_caller_through(tmp_path):
    """Policy is asked as for a transfer; the record says who was reached, and what had happened."""
    async with lost(tmp_path, {"number": PERSON, "timeout_s": 20}) as (rig, call_id):
        document = await go_on(rig, call_id)
        assert verbs(document) == ["Dial"]
        dial = element(document, "Dial")
        assert dial.attrib["timeout"] == "20"
        assert element(document, "Dial/Number").text == PERSON
        await connected(rig, call_id)
        assert verbs(await dial_done(rig, call_id, "completed", DialCallDuration="9")) == ["Hangup"]
        await rig.status(call_id, "completed")
        record = await rig.ended(call_id)
        assert (record.result, record.blame) == ("fallback", "agent")
        assert record.reason == "out of credit (402); the caller was put through"
        assert record.legs["fallback"]["to"] == {"number": PERSON}
        assert record.legs["fallback"]["cause"]["result"] == "agent_fault"
        leg = record.legs["transfer"]
        assert (leg["by"], leg["status"], leg["duration_s"]) == ("fallback", "completed", 9)
        assert leg["decision"]["allowed"] is True
        assert "fallback" in await rig.names(call_id)


async def test_caller_who_hangs_up_on_the_person_was_put_through_all_the_same(tmp_path):
    """Twilio's last word comes without the end of <Dial>."""
    async with lost(tmp_path, {"sip": "sip:desk@example.com"}) as (rig, call_id):
        assert element(await go_on(rig, call_id), "Dial/Sip").text == "sip:desk@example.com"
        await connected(rig, call_id)
        await rig.status(call_id, "completed")
        record = await rig.ended(call_id)
        assert record.result == "fallback"
        assert record.legs["transfer"]["status"] == "completed"


@pytest.mark.parametrize("status", ["no-answer", "busy", "failed"])
async def test_person_who_does_not_answer_is_followed_by_the_regret(tmp_path, status):
    """The result is what it would have been without a fallback."""
    async with lost(tmp_path, {"number": PERSON}) as (rig, call_id):
        await go_on(rig, call_id)
        document = await dial_done(rig, call_id, status)
        assert element(document, "Say").text == REGRET
        await rig.status(call_id, "completed")
        record = await rig.ended(call_id)
        assert (record.result, record.blame) == ("agent_fault", "agent")
        assert record.reason == f"out of credit (402); fallback: {status}"


async def test_fallback_message_is_said_and_ends_the_call(tmp_path):
    """Nobody is dialled."""
    async with lost(tmp_path, {"message": "Please write to us."}) as (rig, call_id):
        document = await go_on(rig, call_id)
        assert verbs(document) == ["Say", "Hangup"]
        assert element(document, "Say").text == "Please write to us."
        record = await rig.ended(call_id)
        assert (record.result, record.blame) == ("fallback", "agent")


async def test_without_a_fallback_the_caller_hears_the_regret(tmp_path):
    """As ever."""
    async with lost(tmp_path, None) as (rig, call_id):
        assert element(await go_on(rig, call_id), "Say").text == REGRET
        assert (await rig.ended(call_id)).result == "agent_fault"


async def test_fallback_that_policy_refuses_is_not_dialled(tmp_path):
    """Somebody on the opt-out list is not called, for whatever reason."""
    async with lost(tmp_path, {"number": PERSON}) as (rig, call_id):
        await opt_out(rig, PERSON)
        assert element(await go_on(rig, call_id), "Say").text == REGRET
        record = await rig.ended(call_id)
        assert record.result == "agent_fault"
        assert "transfer" not in record.legs
        assert "transfer_refused" in await rig.names(call_id)


async def test_fallback_to_our_own_number_is_not_dialled(tmp_path):
    """It would come back to the agent that is lost, and again, and again."""
    async with lost(tmp_path, {"number": OURS}) as (rig, call_id):
        assert element(await go_on(rig, call_id), "Say").text == REGRET


async def test_resume_comes_before_the_fallback(tmp_path):
    """One more agent is tried first; when it fails, too, the person is dialled."""
    async with open_rig(
        tmp_path, agent=replace(AGENT, settings={"fallback": {"number": PERSON}})
    ) as rig:
        await rig.switchboard.answer(rig.form())
        call_id = (await rig.only_record()).id
        call = rig.switchboard._office.book.get(call_id)
        for tries, expected in enumerate((["Connect", "Say", "Redirect"], ["Dial"]), 1):
            rig.pool.event(call_id, "stream_started", 1000 * tries)
            await rig.until(lambda: call.attached)
            rig.pool.report(call_id, "agent_fault", "went away (1006)", "agent")
            await rig.until(lambda: call.report is not None)
            assert verbs(await go_on(rig, call_id)) == expected
        assert call.resumes == 1


def test_outcome_of_a_call_without_a_fallback_is_its_own():
    """Ordinary transfers are none of its business."""
    assert outcome_of({}) is None
    assert outcome_of({"transfer": {"status": "connected", "by": "agent"}}) is None


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"number": PERSON, "message": "Hello"},
        {"number": "123"},
        {"sip": "desk"},
        {"message": ""},
        {"number": PERSON, "timeout_s": 1},
        {"client": "ada"},
    ],
)
def test_fallback_of_another_shape_is_refused(given):
    """Exactly one destination, and one that can be had."""
    with pytest.raises(ValueError, match="Fallback"):
        Fallback.model_validate(given)
