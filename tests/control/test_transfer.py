"""Calls that go to a person: by routes, by request; and what becomes of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
import trio

from control.calls import from_record
from control.refusals import CallOver, DialRefused, PolicyRefused, Refusal
from control.routing import callers
from control.store import calls as table
from control.store.records import CallRecord
from control.store.routes import Acquaintance
from control.transfer import service, warm
from control.transfer.order import Order, call_sids
from control.twilio.rest import TwilioRefused, TwilioUncertain
from tests.control.switchboard_rig import AGENT, OURS, SID, THEIRS, open_rig, opt_out, verbs

PERSON = "+14155550123"
TO_PERSON = {"to": {"number": PERSON, "timeout_s": 20}}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Real threads and sockets are in play here; nobody waits for seconds."""
    monkeypatch.setattr(service, "DRAIN_S", 0.05)


def routed(*routes):
    return replace(AGENT, routes=list(routes))


def element(document, path):
    found = ElementTree.fromstring(document.encode()).find(path)
    assert found is not None, document
    return found


@asynccontextmanager
async def talking(tmp_path, **options):
    """A rig with an inbound call whose agent talks with the caller: (rig, call id)."""
    async with open_rig(tmp_path, **options) as rig:
        await rig.switchboard.answer(rig.form())
        call_id = (await rig.only_record()).id
        rig.pool.event(call_id, "stream_started")
        call = rig.switchboard._office.book.get(call_id)
        await rig.until(lambda: call.attached)
        yield rig, call_id


async def hand_over(rig, call_id, nursery, order):
    """Start a transfer and let the worker finish its sentence; the outcome is in the list."""
    outcome = []

    async def start():
        try:
            outcome.append(await rig.switchboard.transfer(call_id, order))
        except Refusal as error:
            outcome.append(error)

    nursery.start_soon(start)
    await rig.until(lambda: outcome or ("drain", call_id) in rig.pool.commands)
    if not outcome:
        rig.pool.ending(call_id, hang_up=True)
        await rig.until(lambda: outcome)
    return outcome[0]


# ---- routes --------------------------------------------------------------------------------------


async def test_route_to_a_person_dials_without_an_agent_and_records_it(tmp_path):
    """No agent leg is paid for; the person rings on while the caller does."""
    async with open_rig(tmp_path, agent=routed(TO_PERSON)) as rig:
        document = await rig.switchboard.answer(rig.form())
        record = await rig.only_record()
        dial = element(document, "Dial")
        assert (dial.attrib["timeout"], dial.attrib["answerOnBridge"]) == ("20", "true")
        assert dial.attrib["action"].startswith(
            f"https://gw.example.com/twilio/dial?call_id={record.id}"
        )
        assert "callerId" not in dial.attrib
        assert element(document, "Dial/Number").text == PERSON
        assert rig.pool.plans == []
        leg = record.legs["transfer"]
        assert (leg["status"], leg["by"], leg["to"]) == ("dialling", "route", {"number": PERSON})
        assert record.legs["route"]["reason"] == "agent's route 1: always"
        phases = [row[0] for row in await rig.store.read(table.decisions_of, record.id)]
        assert "answer" in phases
        await rig.switchboard.leg_status(
            {"CallSid": "CAchild", "ParentCallSid": SID, "CallStatus": "in-progress"}, record.id
        )
        form = rig.form(CallStatus="in-progress", DialCallStatus="completed", DialCallDuration="42")
        assert verbs(await rig.switchboard.dial_done(form, record.id)) == ["Hangup"]
        await rig.status(None, "completed", CallDuration="43")
        record = await rig.ended(record.id)
        assert (record.result, record.status) == ("completed", "completed")
        assert record.answered_at is not None
        assert record.legs["transfer"]["duration_s"] == 42
        assert record.legs["transfer"]["status"] == "completed"


@pytest.mark.parametrize(
    ("otherwise", "expected"),
    [
        ("agent", ["Connect", "Say", "Redirect"]),
        ("hangup", ["Hangup"]),
        ("Sorry.", ["Say", "Hangup"]),
    ],
)
async def test_person_who_does_not_answer_leaves_the_caller_to_what_was_asked(
    tmp_path, otherwise, expected
):
    """Back to the agent, an excuse, or the end."""
    route = {"to": {"number": PERSON, "otherwise": otherwise}}
    async with open_rig(tmp_path, agent=routed(route)) as rig:
        await rig.switchboard.answer(rig.form())
        call_id = (await rig.only_record()).id
        form = rig.form(CallStatus="in-progress", DialCallStatus="no-answer")
        assert verbs(await rig.switchboard.dial_done(form, call_id)) == expected
        if otherwise == "agent":
            (plan,) = rig.pool.plans
            assert "nobody answered" in plan.dynamic_variables["gw_resume_context"]
        else:
            await rig.status(None, "completed")
            assert (await rig.ended(call_id)).result == "no_answer"


async def test_opted_out_person_is_not_dialled_and_the_agent_takes_the_call(tmp_path):
    """Policy is asked as for a transfer; the record says why the route was not taken."""
    async with open_rig(tmp_path, agent=routed(TO_PERSON)) as rig:
        await opt_out(rig, PERSON)
        document = await rig.switchboard.answer(rig.form())
        assert verbs(document) == ["Connect", "Say", "Redirect"]
        route = (await rig.only_record()).legs["route"]
        assert route["target"] == "agent"
        assert route["refused"]["outcome"] == "deny"


async def test_message_is_said_and_recorded_and_the_recording_reaches_the_closed_record(tmp_path):
    """The recording is ready after the call: it still finds its record."""
    route = {"to": {"message": "We are <closed>.", "record": {"max_s": 30}}}
    async with open_rig(tmp_path, agent=routed(route)) as rig:
        document = await rig.switchboard.answer(rig.form())
        call_id = (await rig.only_record()).id
        assert element(document, "Say").text == "We are <closed>."
        assert element(document, "Record").attrib["maxLength"] == "30"
        assert verbs(await rig.switchboard.message_left(rig.form(), call_id)) == ["Say", "Hangup"]
        await rig.status(None, "completed")
        assert (await rig.ended(call_id)).result == "completed"
        recording = {
            "RecordingSid": "RE1",
            "RecordingUrl": "https://x/RE1",
            "RecordingDuration": "7",
        }
        await rig.switchboard.message_recorded(rig.form(**recording), call_id)
        legs = (await rig.record(call_id)).legs
        assert legs["voicemail"]["duration_s"] == 7
        assert legs["route"]["target"] == "message"


@pytest.mark.parametrize(
    ("to", "expected", "result"),
    [
        ({"refusal": "Not today."}, ["Say", "Hangup"], None),
        ({"reject": "busy"}, ["Reject"], "busy"),
        ({"reject": "rejected"}, ["Reject"], "cancelled"),
    ],
)
async def test_refusal_is_polite_or_free_of_charge(tmp_path, to, expected, result):
    """A refusal is said; a reject is not even answered."""
    async with open_rig(tmp_path, agent=routed({"to": to})) as rig:
        assert verbs(await rig.switchboard.answer(rig.form())) == expected
        assert (await rig.only_record()).result == result


async def test_sip_caller_finds_the_number_in_the_address_and_shows_ours(tmp_path):
    """A SIP domain's call names our number in its user part; a SIP caller has no number to show."""
    async with open_rig(tmp_path, agent=routed(TO_PERSON)) as rig:
        form = rig.form(From="sip:alice@pbx.example.com", To=f"sip:{OURS[1:]}@acme.sip.twilio.com")
        dial = element(await rig.switchboard.answer(form), "Dial")
        assert dial.attrib["callerId"] == OURS
        record = await rig.only_record()
        assert (record.from_number, record.to_number) == ("sip:alice@pbx.example.com", OURS)


async def test_caller_is_introduced_to_the_agent(tmp_path):
    """Name and place from Twilio, the past from our own records; all of it cleaned and cut."""

    def before(conn):
        for number in range(2):
            record = CallRecord(
                id=f"call_0{number}",
                direction="inbound",
                created_at=datetime(2026, 11, 20 + number, 9, tzinfo=UTC),
                ended_at=datetime(2026, 11, 20 + number, 9, 5, tzinfo=UTC),
                from_number=THEIRS,
                to_number=OURS,
                summary=f"Talk {number}.",
            )
            table.insert(conn, record)

    async with open_rig(tmp_path, before=before) as rig:
        form = rig.form(CallerName="ADA\n{{x}} " + "L" * 200, FromCity="LONDON", FromCountry="GB")
        await rig.switchboard.answer(form)
        given = rig.pool.plans[0].dynamic_variables
        assert given["caller_name"].startswith("ADA ((x)) LLL")
        assert len(given["caller_name"]) == callers.NAME_MAX_CHARS
        assert (given["caller_city"], given["caller_country"], given["caller_state"]) == (
            "LONDON",
            "GB",
            "",
        )
        assert (given["earlier_calls"], given["last_call_summary"]) == (2, "Talk 1.")
        assert given["last_call_at"] == "2026-11-21T09:00:00+00:00"


@pytest.mark.parametrize("said", ["anonymous", "+266696687", "sip:anonymous@anonymous.invalid"])
async def test_caller_who_withholds_the_number_is_told_nothing_of_others(tmp_path, said):
    """Everybody who does so has the same caller id: what one of them said is not for the next one."""

    def before(conn):
        for number, caller in enumerate(("anonymous", "+266696687", said)):
            record = CallRecord(
                id=f"call_0{number}",
                direction="inbound",
                created_at=datetime(2026, 11, 20, 9, tzinfo=UTC),
                ended_at=datetime(2026, 11, 20, 9, 5, tzinfo=UTC),
                from_number=caller,
                to_number=OURS,
                summary="About a divorce.",
            )
            table.insert(conn, record)

    async with open_rig(tmp_path, before=before) as rig:
        await rig.switchboard.answer(rig.form(From=said))
        given = rig.pool.plans[0].dynamic_variables
        assert (given["earlier_calls"], given["last_call_summary"]) == (0, "")
        assert not given["caller_number"].startswith("+")


def test_documented_variables_are_those_that_are_given():
    """The list of names in the documents is the list of names in use."""
    assert set(callers.variables({}, Acquaintance())) == set(callers.NAMES) == set(callers.UNKNOWN)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("sip:+14155550100@d.sip.twilio.com;transport=tls", "+14155550100"),
        ("sips:14155550100@d", "+14155550100"),
        ("sip:alice@d", "sip:alice@d"),
        ("client:bob", "client:bob"),
        ("+14155550100", "+14155550100"),
        ("", ""),
    ],
)
def test_number_in_a_sip_address_is_found(text, number):
    """Only a user part of digits is a number."""
    assert callers.address_of(text) == number


# ---- transfers -----------------------------------------------------------------------------------


async def test_transfer_lets_the_agent_finish_then_tells_twilio_then_closes_the_stream(tmp_path):
    """In this order: Twilio would otherwise apologise to somebody who is being put through."""
    async with talking(tmp_path) as (rig, call_id), trio.open_nursery() as nursery:
        order = Order("number", PERSON, announce="One moment.")
        record = await hand_over(rig, call_id, nursery, order)
        ((sid, document),) = rig.twilio.instructed
        assert sid == SID
        assert verbs(document) == ["Say", "Dial"]
        assert "answerOnBridge" not in element(document, "Dial").attrib
        await rig.until(lambda: ("close", call_id) in rig.pool.commands)
        assert rig.twilio.ended == []
        assert record.legs["transfer"]["status"] == "dialling"
        rig.pool.report(call_id)
        form = rig.form(CallStatus="in-progress", DialCallStatus="completed", DialCallDuration="9")
        assert verbs(await rig.switchboard.dial_done(form, call_id)) == ["Hangup"]
        await rig.status(None, "completed")
        record = await rig.ended(call_id)
        assert (record.result, record.reason) == ("completed", "the caller was put through")
        assert record.legs["transfer"]["duration_s"] == 9
        assert "agent" in record.legs
        nursery.cancel_scope.cancel()


async def test_caller_whom_nobody_answers_is_back_with_an_agent_who_knows(tmp_path):
    """The new agent leg gets the talk so far and what happened; it counts as no repair."""
    async with talking(tmp_path) as (rig, call_id), trio.open_nursery() as nursery:
        rig.pool.turn(call_id, 0, "user", "A person, please.")
        await hand_over(rig, call_id, nursery, Order("number", PERSON))
        rig.pool.report(call_id)
        form = rig.form(CallStatus="in-progress", DialCallStatus="busy")
        document = await rig.switchboard.dial_done(form, call_id)
        assert verbs(document) == ["Connect", "Say", "Redirect"]
        context = rig.pool.plans[1].dynamic_variables["gw_resume_context"]
        assert context.startswith("Caller: A person, please.")
        assert "the line was busy" in context
        record = await rig.record(call_id)
        assert record.resumes == 0
        nursery.cancel_scope.cancel()


async def test_transfer_that_policy_forbids_changes_nothing(tmp_path):
    """The talk goes on; the decision is kept and handed to whoever asked."""
    async with talking(tmp_path) as (rig, call_id):
        await opt_out(rig, PERSON)
        with pytest.raises(PolicyRefused) as refused:
            await rig.switchboard.transfer(call_id, Order("number", PERSON))
        assert refused.value.decision["outcome"] == "deny"
        assert rig.twilio.instructed == []
        assert ("drain", call_id) not in rig.pool.commands
        assert len(await rig.store.read(table.decisions_of, call_id)) == 2


async def test_transfer_that_twilio_refuses_brings_the_caller_back(tmp_path):
    """The agent has let go already: Twilio runs the verbs behind the stream and asks how to go on."""
    async with talking(tmp_path) as (rig, call_id), trio.open_nursery() as nursery:
        rig.twilio.instruct_answers = [TwilioRefused(400, 13223, "Invalid phone number")]
        outcome = await hand_over(rig, call_id, nursery, Order("number", PERSON))
        assert isinstance(outcome, DialRefused)
        rig.pool.report(call_id)
        document = await rig.switchboard.continue_call(rig.form(), call_id)
        assert verbs(document) == ["Connect", "Say", "Redirect"]
        assert "13223" in rig.pool.plans[1].dynamic_variables["gw_resume_context"]
        assert (await rig.record(call_id)).ended_at is None
        nursery.cancel_scope.cancel()


async def test_transfer_of_a_call_that_does_not_talk_is_a_conflict(tmp_path):
    """Before the stream, during another transfer, after the end."""
    async with open_rig(tmp_path) as rig:
        await rig.switchboard.answer(rig.form())
        call_id = (await rig.only_record()).id
        with pytest.raises(CallOver, match="does not talk"):
            await rig.switchboard.transfer(call_id, Order("number", PERSON))


async def test_late_callback_of_a_former_person_is_not_taken_for_the_next_ones(
    tmp_path, monkeypatch
):
    """It comes while the next person's call is being made and has no SID yet; both stay in the record."""
    called = [("CAfirst", trio.Event()), ("CAsecond", trio.Event())]
    waiting = list(called)

    async def ring_person(twilio, **asked):
        sid, may_answer = waiting.pop(0)
        await may_answer.wait()
        return sid

    monkeypatch.setattr(warm, "ring_person", ring_person)
    order = Order("number", PERSON, is_warm=True)
    async with talking(tmp_path) as (rig, call_id), trio.open_nursery() as nursery:
        call = rig.switchboard._office.book.get(call_id)
        called[0][1].set()
        await rig.switchboard.transfer(call_id, order)
        busy = {"CallSid": "CAfirst", "CallStatus": "busy"}
        await rig.switchboard.leg_status(busy, call_id)
        assert call.legs["transfer"]["status"] == "busy"
        nursery.start_soon(rig.switchboard.transfer, call_id, order)
        await rig.until(lambda: not waiting)
        await rig.switchboard.leg_status(busy, call_id)
        leg = call.legs["transfer"]
        assert (leg["status"], leg.get("call_sid")) == ("ringing", None)
        called[1][1].set()
        await rig.until(lambda: call.legs["transfer"].get("call_sid"))
        assert call_sids(call.legs) == ["CAfirst", "CAsecond"]
        nursery.cancel_scope.cancel()


async def test_person_of_a_former_transfer_whose_answer_was_lost_is_not_taken_for_the_next_one(
    tmp_path, monkeypatch
):
    """Its first callback comes when the next person rings already: nobody waits for it, and it stays in the record."""
    second_may_answer, asked = trio.Event(), []

    async def ring_person(twilio, **parameters):
        asked.append(parameters["status_callback"])
        if len(asked) == 1:
            raise TwilioUncertain("no answer")
        await second_may_answer.wait()
        return "CAsecond"

    monkeypatch.setattr(warm, "ring_person", ring_person)
    monkeypatch.setattr(warm, "RING_MARGIN_S", 0.0)
    order = Order("number", PERSON, is_warm=True, timeout_s=0)
    async with talking(tmp_path) as (rig, call_id), trio.open_nursery() as nursery:
        call = rig.switchboard._office.book.get(call_id)
        await rig.switchboard.transfer(call_id, order)
        await rig.until(lambda: call.legs["transfer"]["status"] == "no-answer")
        nursery.start_soon(rig.switchboard.transfer, call_id, replace(order, timeout_s=60))
        await rig.until(lambda: len(asked) == 2)
        numbers = [parse_qs(urlsplit(url).query)["transfer"] for url in asked]
        assert numbers == [["1"], ["2"]]
        late = {"CallSid": "CAfirst", "CallStatus": "in-progress", "transfer": "1"}
        await rig.switchboard.leg_status(late, call_id)
        leg = call.legs["transfer"]
        assert (leg["status"], leg.get("call_sid"), rig.twilio.ended) == (
            "ringing",
            None,
            ["CAfirst"],
        )
        second_may_answer.set()
        await rig.until(lambda: call.legs["transfer"].get("call_sid"))
        own = {"CallSid": "CAsecond", "CallStatus": "busy", "transfer": "2"}
        await rig.switchboard.leg_status(own, call_id)
        assert call.legs["transfer"]["status"] == "busy"
        assert call_sids(call.legs) == ["CAfirst", "CAsecond"]
        nursery.cancel_scope.cancel()


async def test_caller_who_hangs_up_while_it_rings_closes_transfer_and_record(tmp_path):
    """Nothing is left open behind the caller's back."""
    async with talking(tmp_path) as (rig, call_id), trio.open_nursery() as nursery:
        await hand_over(rig, call_id, nursery, Order("number", PERSON))
        rig.pool.report(call_id)
        await rig.status(None, "completed")
        record = await rig.ended(call_id)
        assert record.legs["transfer"]["status"] == "canceled"
        nursery.cancel_scope.cancel()


async def test_hang_up_by_request_reaches_a_call_that_is_with_a_person(tmp_path):
    """Whoever holds the caller, the operator's word ends the call."""
    async with talking(tmp_path) as (rig, call_id), trio.open_nursery() as nursery:
        await hand_over(rig, call_id, nursery, Order("number", PERSON))
        rig.pool.report(call_id)
        await rig.until(lambda: not rig.pool.homes)
        await rig.switchboard.hang_up(call_id)
        assert rig.twilio.ended == [SID]
        assert (await rig.ended(call_id)).result == "cancelled"
        nursery.cancel_scope.cancel()


async def test_restarted_daemon_knows_where_the_caller_is(tmp_path):
    """The state is in the record: the next process answers <Dial>'s question as this one would."""
    async with open_rig(tmp_path, agent=routed(TO_PERSON)) as rig:
        await rig.switchboard.answer(rig.form())
        record = await rig.only_record()
        call = from_record(record, routed(TO_PERSON))
        assert call.away
        assert call.legs["transfer"]["otherwise"] == "agent"
        over = replace(record, legs={"transfer": {"status": "completed"}})
        assert not from_record(over, AGENT).away
