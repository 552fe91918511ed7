"""After a call: which conversations it had, however they have to be found."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control.elevenlabs.rest import ElevenLabsRefused, ElevenLabsUnavailable
from control.outbox import TryAgain
from control.results import ANALYSIS, Results
from control.results.service import SPREAD, UNTALKED_POLL_S, UNTALKED_UNFOUND_MAX
from control.store import Store, calls, conversations, outbox
from tests.control.results_rig import (
    CONVERSATION,
    DONE,
    Service,
    end_call,
    item_of,
    pushed,
    record_of,
    results,
)


def conversation(conversation_id: str, began_s: int, cost: int, **collected: Any) -> dict[str, Any]:
    found = {name: {"data_collection_id": name, "value": it} for name, it in collected.items()}
    return DONE | {
        "conversation_id": conversation_id,
        "transcript": [{"role": "agent", "message": conversation_id, "time_in_call_secs": 1}],
        "metadata": {"cost": cost, "start_time_unix_secs": began_s},
        "analysis": {"transcript_summary": f"{conversation_id}.", "data_collection_results": found},
    }


EARLIER = conversation("conv_0", 1000, 100, seats="4", day="mon")
LATER = conversation(CONVERSATION, 1060, 20, seats=None, day="tue")
BROKEN = {"agent": {"earlier_conversation_ids": ["conv_0"]}}


async def test_call_of_two_conversations_is_one_result(store: Store) -> None:
    """What the first found out stays unless the second says otherwise; both are paid for."""
    await results(store, Service()).begin(await end_call(store, legs=BROKEN))
    service = Service(EARLIER | {"status": "processing"}, LATER, EARLIER)
    desk = results(store, service)
    with pytest.raises(TryAgain):
        await desk.analyse(item_of(ANALYSIS))
    await desk.analyse(item_of(ANALYSIS))
    record = await record_of(store)
    assert service.asked == [
        "conv_0",
        CONVERSATION,
        "conv_0",
    ]  # what is final is not asked for again
    assert record.extractions == {"seats": 4, "day": "tue"}
    assert record.bill == {"elevenlabs": {"credits": 120}}
    assert record.summary == "conv_0.\n\nconv_1."
    assert record.conversation_id == CONVERSATION
    turns = await store.read(calls.turns, "call_1")
    assert [turn.text for turn in turns] == ["conv_0", CONVERSATION]
    assert turns[1].at_ms - turns[0].at_ms == 60_000
    assert record.analysis is not None
    assert record.analysis["conversations"] == [
        {"conversation_id": "conv_0", "status": "done"},
        {"conversation_id": CONVERSATION, "status": "done"},
    ]
    assert await pushed(store) == ["call.ended", "call.result"]


async def test_webhook_of_an_earlier_conversation_is_the_calls_own(store: Store) -> None:
    """It names our call; polling asks for the other one alone, and finds the order by their beginnings."""
    item = await end_call(store)
    variables = {"dynamic_variables": {"gw_call_id": "call_1"}}
    service = Service(LATER)
    desk = results(store, service)
    assert await desk.take(EARLIER | {"conversation_initiation_client_data": variables}) == "taken"
    await desk.begin(item)
    await desk.analyse(item_of(ANALYSIS))
    assert service.asked == [CONVERSATION]
    assert (await record_of(store)).extractions == {"seats": 4, "day": "tue"}


@pytest.mark.parametrize(
    ("answer", "ago", "status"),
    [
        (ElevenLabsRefused(404, "not_found", "none"), timedelta(hours=1), "unknown"),
        (ElevenLabsUnavailable("down"), timedelta(days=2), "unknown"),
        (EARLIER | {"status": "processing"}, timedelta(days=2), "processing"),
        (EARLIER | {"status": "failed", "analysis": None}, timedelta(), "failed"),
    ],
)
async def test_conversation_that_is_not_to_be_had_does_not_cost_the_other(
    store: Store, answer: Any, ago: timedelta, status: str
) -> None:
    """What is there counts, and the analysis says what is not."""
    await results(store, Service()).begin(await end_call(store, legs=BROKEN))
    await results(store, Service(answer, LATER)).analyse(item_of(ANALYSIS, ago))
    record = await record_of(store)
    assert record.extractions == {"seats": None, "day": "tue"}
    assert record.analysis is not None
    assert record.analysis["status"] == "done"
    assert record.analysis["conversations"][0] == {"conversation_id": "conv_0", "status": status}


async def test_conversation_whose_id_was_lost_is_found_by_our_own(store: Store) -> None:
    """A process died before it wrote the id down."""
    item = await end_call(store, conversation_id=None)
    service = Service(DONE)
    desk = results(store, service)
    await desk.begin(item)
    with pytest.raises(TryAgain):
        await desk.analyse(item_of(ANALYSIS))
    service.found = [CONVERSATION]
    await desk.analyse(item_of(ANALYSIS))
    assert (await record_of(store)).conversation_id == CONVERSATION


async def test_conversation_that_a_killed_process_did_not_write_down_is_found(
    store: Store,
) -> None:
    """The record names another one, of a later agent leg; both are named, and make the result."""
    legs = {"agent": {"unheard": conversations.LOST}}
    item = await end_call(store, legs=legs)
    service = Service(DONE, EARLIER)
    service.found = [CONVERSATION, "conv_0"]
    desk = results(store, service)
    await desk.begin(item)
    await desk.analyse(item_of(ANALYSIS))
    record = await record_of(store)
    assert record.conversation_id == CONVERSATION
    assert record.legs["agent"] == {"earlier_conversation_ids": ["conv_0"]}
    lines = await store.read(calls.events, "call_1")
    found = [line.data for line in lines if line.name == "conversation_found"]
    assert found == [{"conversation_id": "conv_0"}]
    assert record.bill is not None
    assert record.bill["elevenlabs"]["credits"] == 220


async def test_call_that_nobody_answered_may_have_had_a_conversation(store: Store) -> None:
    """Its agent had been waiting when the process died; it is charged for, so the record names it."""
    legs = {"agent": {"unheard": conversations.LOST}}
    item = await end_call(store, conversation_id=None, answered_at=None, legs=legs)
    service = Service(DONE)
    desk = results(store, service)
    await desk.begin(item)
    assert await pushed(store) == ["call.ended"]
    asked = await store.read(outbox.get, ANALYSIS, "call_1")
    assert asked is not None
    assert (asked.due_at - asked.created_at).total_seconds() == UNTALKED_POLL_S
    search = item_of(ANALYSIS)
    with pytest.raises(TryAgain) as caught:
        await desk.analyse(search)
    assert caught.value.latest == search.created_at + UNTALKED_UNFOUND_MAX
    assert caught.value.after_s == UNTALKED_POLL_S
    service.found = [CONVERSATION]
    await desk.analyse(item_of(ANALYSIS))
    record = await record_of(store)
    assert (record.conversation_id, record.legs) == (CONVERSATION, {"agent": {}})
    assert await pushed(store) == ["call.ended", "call.result"]


async def test_calls_that_end_together_are_not_asked_about_together(store: Store) -> None:
    """Neither the first time nor the last one; never sooner than without the spread."""
    legs = {"agent": {"unheard": conversations.LOST}}
    item = await end_call(store, conversation_id=None, answered_at=None, legs=legs)
    spreads = iter((1.02, 1.05, 1.09))
    desk = results(store, Service(), spread=lambda: next(spreads))
    await desk.begin(item)
    first = await store.read(outbox.get, ANALYSIS, "call_1")
    assert first is not None
    assert (first.due_at - first.created_at).total_seconds() == UNTALKED_POLL_S * 1.02
    for factor in (1.05, 1.09):
        search = item_of(ANALYSIS)
        with pytest.raises(TryAgain) as caught:
            await desk.analyse(search)
        assert caught.value.latest == search.created_at + UNTALKED_UNFOUND_MAX * factor
    usual = Results.__init__.__kwdefaults__["spread"]
    drawn = {usual() for _ in range(100)}
    assert len(drawn) > 50
    assert 1 <= min(drawn) <= max(drawn) <= 1 + SPREAD


@pytest.mark.parametrize(("unheard", "ago_s"), [("lost", 150), (None, 3)])
async def test_call_that_had_no_conversation_after_all_is_over(
    store: Store, unheard: str | None, ago_s: float
) -> None:
    """ElevenLabs does not know one in time; or the worker's last word came: there was none, and nobody is asked."""
    legs = {"agent": {"unheard": conversations.UNREPORTED}}
    item = await end_call(store, conversation_id=None, answered_at=None, legs=legs)
    desk = results(store, Service())
    await desk.begin(item)
    agent = {} if unheard is None else {"unheard": unheard}
    await store.write(lambda conn: calls.update(conn, "call_1", legs={"agent": agent}))
    await desk.analyse(item_of(ANALYSIS, timedelta(seconds=ago_s)))
    record = await record_of(store)
    assert (record.analysis, record.legs) == ({"status": "none"}, {"agent": {}})
    assert await pushed(store) == ["call.ended", "call.result"]
