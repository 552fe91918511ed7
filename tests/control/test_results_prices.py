"""After a call: what Twilio asks for it, for its legs and its messages, once that has settled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from control.clock import Clock
from control.outbox import OutboxItem, TryAgain
from control.results import PRICE, SMS
from control.store import Store, calls, messages, outbox
from tests.control.results_rig import (
    TENANT,
    Resource,
    Service,
    Twilio,
    end_call,
    item_of,
    pushed,
    record_of,
    results,
)

CALL_PART = {"kind": "call", "sid": "CA1", "amount": 0.0085}


async def twilios_bill(store: Store) -> dict[str, Any]:
    bill = (await record_of(store)).bill
    assert bill is not None
    return dict(bill["twilio"])


async def test_price_is_asked_for_until_it_has_settled(store: Store) -> None:
    """Null at first; negative at Twilio, positive here; unknown after a day."""
    await end_call(store)
    desk = results(store, Service(), Twilio(None, "-0.00850", None))
    with pytest.raises(TryAgain):
        await desk.price(item_of(PRICE))
    await desk.price(item_of(PRICE))
    assert await pushed(store) == ["call.cost"]
    settled = {"amount": 0.0085, "currency": "USD", "status": "settled", "parts": [CALL_PART]}
    assert await twilios_bill(store) == settled
    await desk.price(item_of(PRICE, timedelta(days=2)))
    assert (await twilios_bill(store))["status"] == "unknown"


async def test_price_has_the_legs_that_were_dialled_from_the_call(store: Store) -> None:
    """A transfer's leg settles later than the call; one that nobody answered never has a price."""
    await end_call(store, legs={"transfer": {"status": "completed"}})
    twilio = Twilio("-0.00850", "-0.00850")
    twilio.legs = [Resource(None, "CA3"), Resource(None, "CA2", "no-answer")]  # the newest first
    desk = results(store, Service(), twilio)
    with pytest.raises(TryAgain):
        await desk.price(item_of(PRICE))
    waiting = await twilios_bill(store)
    assert (waiting["amount"], waiting["status"]) == (0.0085, "pending")
    assert await pushed(store) == []
    twilio.legs[0].price = "-0.01400"
    await desk.price(item_of(PRICE))
    bill = await twilios_bill(store)
    assert (bill["amount"], bill["status"]) == (0.0225, "settled")
    assert bill["parts"] == [
        CALL_PART,
        {"kind": "leg", "sid": "CA2", "amount": None},
        {"kind": "leg", "sid": "CA3", "amount": 0.014},
    ]
    assert await pushed(store) == ["call.cost"]


async def test_price_has_the_message_that_the_call_led_to(store: Store) -> None:
    """It waits for the analysis, which may ask for a message, and for the message's own price."""
    await results(store, Service()).begin(await end_call(store))
    twilio = Twilio(*["-0.00850"] * 4)
    desk = results(store, Service(), twilio)
    with pytest.raises(TryAgain):
        await desk.price(item_of(PRICE))  # the analysis is pending
    now = Clock().now()
    await store.write(calls.update, "call_1", analysis={"status": "done"})
    await store.write(
        outbox.add, kind=SMS, key="call_1", tenant_id=TENANT, due_at=now + timedelta(hours=1)
    )
    with pytest.raises(TryAgain):
        await desk.price(item_of(PRICE))  # the message is to be sent
    item = await store.read(outbox.get, SMS, "call_1")
    assert item is not None
    await store.write(_is_done, item)
    text = messages.MessageRecord(
        *("msg_1", TENANT, "outbound", "+15550100001", "+15550100002", "Hi", 1, "sent", now, now),
        call_id="call_1",
        twilio_sid="SM1",
    )
    await store.write(messages.insert, text)
    twilio.texts["SM1"] = Resource(None, "SM1", "delivered")
    with pytest.raises(TryAgain):
        await desk.price(item_of(PRICE))
    twilio.texts["SM1"].price = "-0.00790"
    await desk.price(item_of(PRICE))
    bill = await twilios_bill(store)
    assert (bill["amount"], bill["status"]) == (0.0164, "settled")
    assert bill["parts"][1] == {"kind": "message", "sid": "SM1", "amount": 0.0079}


async def test_price_that_is_known_in_part_after_a_day_says_so(store: Store) -> None:
    """The call settled, its message never did; a message deleted at Twilio is not waited for."""
    await end_call(store)
    now = Clock().now()
    twilio = Twilio("-0.00850", "-0.00850")
    twilio.texts["SM1"] = Resource(None, "SM1", "sent")
    text = messages.MessageRecord(
        *("msg_1", TENANT, "outbound", "+15550100001", "+15550100002", "Hi", 1, "sent", now, now),
        call_id="call_1",
        twilio_sid="SM1",
    )
    await store.write(messages.insert, text)
    desk = results(store, Service(), twilio)
    await desk.price(item_of(PRICE, timedelta(days=2)))
    bill = await twilios_bill(store)
    assert (bill["amount"], bill["status"]) == (0.0085, "partial")
    del twilio.texts["SM1"]
    await desk.price(item_of(PRICE))
    assert (await twilios_bill(store))["status"] == "settled"


def _is_done(conn: Connection, item: OutboxItem) -> None:
    conn.execute(outbox.table.update().where(outbox.table.c.id == item.id).values(status="done"))
