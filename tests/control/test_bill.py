"""A call's bill from what the simulated Twilio says of the call, its legs and its message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import trio

from bench.sim_twilio import Caller, TwilioSim
from control.config import Secret, TwilioSettings
from control.results import bill
from control.store.records import CallRecord
from control.transfer.order import Order
from control.twilio.rest import TwilioRest

ACCOUNT, TOKEN = "AC00000000000000000000000000000a01", "t" * 32
OURS, THEM, PERSON, NOBODY = "+14155550199", "+14155550100", "+14155550123", "+14155550124"
NOW = datetime.now(UTC)


@pytest.fixture
async def sim(nursery: trio.Nursery) -> TwilioSim:
    people = {
        THEM: Caller(answer_after_s=0.05),
        PERSON: Caller(answer_after_s=0.05, hangs_up_after_answer_s=0.6),
        NOBODY: Caller(answer_after_s=0.05, result="busy"),
    }
    made = TwilioSim(ACCOUNT, TOKEN, [OURS], destinations=people)
    await nursery.start(made.run)
    return made


async def test_bill_has_the_call_its_legs_and_its_message(sim: TwilioSim) -> None:
    """Two numbers are tried, a text follows: four parts, each with the price that Twilio has for it."""
    rest = TwilioRest(
        TwilioSettings(account_sid=ACCOUNT, auth_token=Secret(TOKEN), api_base_url=sim.base_url)
    )
    document = f"<Response><Dial>{NOBODY}</Dial><Dial>{PERSON}</Dial></Response>"
    made = await _create(rest, "calls", to=THEM, from_=OURS, twiml=document)
    await sim.calls[made.sid].settled()
    text = await _create(rest, "messages", to=THEM, from_=OURS, body="Hi")
    await sim.post.messages[text.sid].settled.wait()
    nobody, person = sim.calls[made.sid].children

    record = CallRecord("call_1", "outbound", NOW, twilio_call_sid=made.sid)
    record.legs["transfer"] = {"status": "completed"}
    account = bill.Account(record, (text.sid,), is_open=False)
    shown = bill.shown(await bill.charges(rest, account), is_open=False, is_late=False)
    assert [(part["kind"], part["sid"]) for part in shown["parts"]] == [
        ("call", made.sid),
        ("leg", nobody.sid),
        ("leg", person.sid),
        ("message", text.sid),
    ]
    amounts = [part["amount"] for part in shown["parts"]]
    assert amounts == [0.0085, 0.0, 0.0085, 0.0079]
    assert (shown["amount"], shown["currency"], shown["status"]) == (0.0249, "USD", "settled")
    seen = await rest.list_calls(to=PERSON, from_=OURS, since=NOW - timedelta(hours=1))
    assert seen == []  # a leg is never taken for a call that was dialled and whose answer was lost


async def test_bill_has_the_people_of_all_warm_transfers_and_the_legs_of_cold_ones(
    sim: TwilioSim,
) -> None:
    """Two warm transfers and a cold one: each person's call is a part, once, and in Twilio's usage records, too."""
    rest = TwilioRest(
        TwilioSettings(account_sid=ACCOUNT, auth_token=Secret(TOKEN), api_base_url=sim.base_url)
    )
    document = f"<Response><Dial>{PERSON}</Dial></Response>"
    made = await _create(rest, "calls", to=THEM, from_=OURS, twiml=document)
    hangup = "<Response><Hangup/></Response>"
    people = [
        (await _create(rest, "calls", to=to, from_=OURS, twiml=hangup)).sid
        for to in (NOBODY, PERSON)
    ]
    for sid in (made.sid, *people):
        await sim.calls[sid].settled()
    (leg,) = sim.calls[made.sid].children

    record = CallRecord("call_1", "outbound", NOW, twilio_call_sid=made.sid)
    for sid in (*people, leg.sid):
        order = Order("number", PERSON)
        record.legs["transfer"] = order.as_leg(record.legs) | {"call_sid": sid}
    assert record.legs["transfer"]["number"] == 3
    assert record.legs["transfer"]["earlier_call_sids"] == people
    found = await bill.charges(rest, bill.Account(record, (), is_open=False))
    shown = bill.shown(found, is_open=False, is_late=False)
    assert [(part["kind"], part["sid"]) for part in shown["parts"]] == [
        ("call", made.sid),
        *(("leg", sid) for sid in (leg.sid, *people)),
    ]
    assert shown["status"] == "settled"
    records = await rest.ask("usage", rest.client.usage.records.list)
    counts = {one.category: one.count for one in records}
    assert counts["calls-outbound"] == "4"


async def test_bill_of_a_call_that_was_put_through_to_nobody_asks_for_no_legs(
    sim: TwilioSim,
) -> None:
    """One request for most calls."""
    rest = TwilioRest(
        TwilioSettings(account_sid=ACCOUNT, auth_token=Secret(TOKEN), api_base_url=sim.base_url)
    )
    twiml = "<Response><Hangup/></Response>"
    made = await _create(rest, "calls", to=THEM, from_=OURS, twiml=twiml)
    await sim.calls[made.sid].settled()
    before = len(sim.rest.exchanges)
    record = CallRecord("call_1", "outbound", NOW, twilio_call_sid=made.sid)
    await bill.charges(rest, bill.Account(record, (), is_open=False))
    assert len(sim.rest.exchanges) == before + 1


async def _create(rest: TwilioRest, what: str, **fields: Any) -> Any:
    resource = getattr(rest.client, what)
    return await rest.ask("x", partial(resource.create, **fields), repeatable=False)
