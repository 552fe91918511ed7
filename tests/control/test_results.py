"""After a call: the analysis by webhook or by polling, whichever comes first, until it is there or given up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control.clock import Clock
from control.elevenlabs.rest import ElevenLabsUnavailable
from control.outbox import GiveUp, TryAgain
from control.results import ANALYSIS, PRICE
from control.retention import erase
from control.store import Store, calls, conversations, outbox
from tests.control.results_rig import (
    CONVERSATION,
    DONE,
    TENANT,
    Service,
    end_call,
    item_of,
    pushed,
    record_of,
    results,
)


async def test_end_of_a_call_asks_for_what_follows_in_its_own_transaction(store: Store) -> None:
    """The item is there with the record; begun twice, everything is asked for once."""
    item = await end_call(store)
    desk = results(store, Service())
    for _ in range(2):
        await desk.begin(item)
    analysis = await store.read(outbox.get, ANALYSIS, "call_1")
    price = await store.read(outbox.get, PRICE, "call_1")
    assert analysis is not None
    assert price is not None
    assert analysis.due_at - item.created_at >= timedelta(seconds=2)
    assert (await record_of(store)).analysis == {"status": "pending"}
    assert await pushed(store) == ["call.ended"]


async def test_polling_takes_the_analysis_when_it_is_there(store: Store) -> None:
    """Errors and `processing` mean again; what does not fit its field is kept raw."""
    await results(store, Service()).begin(await end_call(store))
    service = Service(ElevenLabsUnavailable("503"), DONE | {"status": "processing"}, DONE)
    desk = results(store, service)
    for _ in range(2):
        with pytest.raises(TryAgain):
            await desk.analyse(item_of(ANALYSIS))
    await desk.analyse(item_of(ANALYSIS))
    await desk.analyse(item_of(ANALYSIS))  # again: what is there is not asked for
    record = await record_of(store)
    assert record.summary == "They talked."
    assert record.extractions == {"seats": 4, "day": None}
    assert record.extraction_problems == {"day": {"error": "not one of mon, tue", "raw": "someday"}}
    assert record.bill == {"elevenlabs": {"credits": 120}}
    assert [turn.text for turn in await store.read(calls.turns, "call_1")] == ["Hello"]
    assert len(service.asked) == 3
    assert await pushed(store) == ["call.ended", "call.result"]


async def test_webhook_that_came_first_ends_the_polling(store: Store) -> None:
    """Taken once; the service is not asked; the waiting item is hastened."""
    item = await end_call(store)
    service = Service()
    desk = results(store, service)
    await desk.begin(item)
    assert await desk.take(DONE) == "taken"
    assert await desk.take(DONE) == "repeated"
    waiting = await store.read(outbox.get, ANALYSIS, "call_1")
    assert waiting is not None
    assert waiting.due_at <= Clock().now()
    await desk.analyse(item_of(ANALYSIS))
    analysis = (await record_of(store)).analysis
    assert analysis is not None
    assert (analysis["status"], analysis["source"], service.asked) == ("done", "webhook", [])


async def test_call_is_said_to_be_over_when_nothing_more_will_be_found_out(store: Store) -> None:
    """With the analysis; for a call without a conversation at its end."""
    over: list[str] = []
    desk = results(store, Service(DONE), on_over=over.append)
    await desk.begin(await end_call(store))
    assert over == []
    await desk.analyse(item_of(ANALYSIS))
    assert over == ["call_1"]


async def test_call_without_a_talk_is_over_at_its_end(store: Store) -> None:
    """Nothing is waited for."""
    over: list[str] = []
    desk = results(store, Service(), on_over=over.append)
    await desk.begin(await end_call(store, conversation_id=None, answered_at=None))
    assert over == ["call_1"]


async def test_analysis_of_a_call_that_was_erased_meanwhile_is_not_kept(store: Store) -> None:
    """Neither a webhook nor polling brings the texts back; the customer is told that nothing more comes."""
    item = await end_call(store)
    service = Service(DONE)
    desk = results(store, service)
    await desk.begin(item)
    await store.write(erase.texts, "call_1", "asked for by admin", Clock().now())
    await desk.take(DONE)
    await desk.analyse(item_of(ANALYSIS))
    record = await record_of(store)
    assert (record.summary, record.extractions, service.asked) == (None, {}, [])
    assert record.analysis == {"status": "failed", "reason": "the call was erased"}
    assert await store.read(calls.turns, "call_1") == []
    kept = await store.read(conversations.get, CONVERSATION)
    assert kept is not None
    assert kept.data == {}
    assert await pushed(store) == ["call.result"]


async def test_webhook_before_the_end_of_the_call_waits_for_it(store: Store) -> None:
    """It names our call, whose record does not yet know the conversation."""
    variables = {"dynamic_variables": {"gw_call_id": "call_1"}}
    item = await end_call(store, conversation_id=None)
    desk = results(store, Service())
    told = DONE | {"conversation_initiation_client_data": variables}
    assert await desk.take(told) == "taken"
    await desk.begin(item)
    await desk.analyse(item_of(ANALYSIS))
    record = await record_of(store)
    assert (record.conversation_id, record.summary) == (CONVERSATION, "They talked.")


async def test_webhook_of_a_call_that_is_not_ours_is_kept(store: Store) -> None:
    """And changes no call."""
    assert await results(store, Service()).take(DONE) == "unknown"
    kept = await store.read(conversations.get, CONVERSATION)
    assert kept is not None
    assert (kept.call_id, kept.tenant_id) == (None, TENANT)


@pytest.mark.parametrize(
    ("answer", "ago"),
    [(DONE | {"status": "processing"}, timedelta(days=2)), (None, timedelta(days=2))],
)
async def test_analysis_that_never_comes_is_given_up(
    store: Store, answer: Any, ago: timedelta
) -> None:
    """The result goes out without it, and says so."""
    await results(store, Service()).begin(await end_call(store))
    service = Service(ElevenLabsUnavailable("down") if answer is None else answer)
    await results(store, service).analyse(item_of(ANALYSIS, ago))
    analysis = (await record_of(store)).analysis
    assert analysis is not None
    assert analysis["status"] == "failed"
    assert await pushed(store) == ["call.ended", "call.result"]


async def test_call_without_a_conversation_has_its_result_at_once(store: Store) -> None:
    """Nobody picked up, or policy refused it."""
    item = await end_call(store, conversation_id=None, answered_at=None)
    await results(store, Service()).begin(item)
    assert (await record_of(store)).analysis == {"status": "none"}
    assert await pushed(store) == ["call.ended", "call.result"]
    assert await store.read(outbox.get, ANALYSIS, "call_1") is None


async def test_call_that_is_not_there_is_given_up(store: Store) -> None:
    """Nothing to go on with."""
    with pytest.raises(GiveUp):
        await results(store, Service()).analyse(item_of(ANALYSIS))
