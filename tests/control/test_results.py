"""After a call: the analysis by webhook or by polling, whichever comes first; prices; each step safe to repeat."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection

from control.clock import Clock
from control.elevenlabs.rest import ElevenLabsRefused, ElevenLabsUnavailable
from control.hooks.elevenlabs import parse_secrets, signed
from control.outbox import GiveUp, OutboxItem, TryAgain
from control.results import ANALYSIS, PRICE, SMS, Results
from control.results.initiation import Initiation
from control.results.service import SPREAD, UNTALKED_POLL_S, UNTALKED_UNFOUND_MAX
from control.retention import erase
from control.store import Store, agents, calls, conversations, messages, outbox, webhooks
from control.store.records import AgentRecord, CallRecord
from control.twilio.errors import TwilioRefused

TENANT = "tnt_default"
CONVERSATION = "conv_1"
DONE: dict[str, Any] = {
    "conversation_id": CONVERSATION,
    "agent_id": "agent_1",
    "status": "done",
    "transcript": [{"role": "agent", "message": "Hello", "time_in_call_secs": 0}],
    "metadata": {"cost": 120},
    "analysis": {
        "transcript_summary": "They talked.",
        "data_collection_results": {
            "seats": {"data_collection_id": "seats", "value": "4"},
            "day": {"data_collection_id": "day", "value": "someday"},
        },
    },
}


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store.open(store_url)
    yield opened
    opened.close()


class Service:
    """ElevenLabs: `answers` in turn; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.found: list[str] = []
        """The newest first."""

    async def get_conversation(self, conversation_id: str) -> dict[str, Any]:
        self.asked.append(conversation_id)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    async def find_conversations(self, variable: str, value: str) -> list[str]:
        assert (variable, value) == ("gw_call_id", "call_1")
        return self.found


class Resource:
    """A call or a message at Twilio."""

    def __init__(self, price: str | None, sid: str = "CA1", status: str = "completed") -> None:
        self.price, self.price_unit, self.sid, self.status = price, "usd", sid, status


class Twilio:
    """Prices of the call in turn; `legs` and `texts` (by SID) as they are then."""

    def __init__(self, *prices: str | None) -> None:
        self.prices = list(prices)
        self.legs: list[Resource] = []
        self.texts: dict[str, Resource] = {}
        self.client = self
        self.calls = self.Calls(self)

    class Calls:
        def __init__(self, twilio: Twilio) -> None:
            self._twilio = twilio

        def __call__(self, sid: str) -> Twilio.Calls:
            return self

        def fetch(self) -> Resource:
            return Resource(self._twilio.prices.pop(0))

        def list(self, *, parent_call_sid: str, limit: int) -> list[Resource]:
            assert parent_call_sid == "CA1"
            return self._twilio.legs[:limit]

    async def of(self, tenant_id: str) -> Any:
        return self

    def messages(self, sid: str) -> Any:
        return SimpleNamespace(fetch=lambda: self._text(sid))

    def _text(self, sid: str) -> Resource:
        if sid not in self.texts:
            raise TwilioRefused(404, 20404, "not found")
        return self.texts[sid]

    async def ask(self, endpoint: str, request: Any) -> Any:
        return request()


def results(store: Store, service: Service, twilio: Twilio | None = None, **more: Any) -> Results:
    return Results(
        store,
        Clock(),
        service,
        twilio or Twilio(),  # type: ignore[arg-type]
        verticals={},
        show=lambda record, timeline, turns: {"id": record.id, "extractions": record.extractions},
        **({"spread": lambda: 1.0} | more),
    )


async def end_call(store: Store, **more: Any) -> OutboxItem:
    now = Clock().now()
    fields = {"seats": {"type": "integer"}, "day": {"type": "string", "enum": ["mon", "tue"]}}
    agent = AgentRecord(
        "agt_1", "Desk", now, now, elevenlabs_agent_id="agent_1", extractions=fields
    )
    given = {"conversation_id": CONVERSATION, "twilio_call_sid": "CA1", "answered_at": now} | more
    record = CallRecord("call_1", "inbound", now, agent_id="agt_1", ended_at=now, **given)
    await store.write(agents.insert, agent)
    await store.write(
        webhooks.insert,
        webhooks.WebhookRecord("whk_1", TENANT, "https://x.example/", ["*"], "s", now, now),
    )
    await store.write(calls.insert, record)
    item = await store.read(outbox.get, "after_call", "call_1")
    assert item is not None
    return item


def item_of(kind: str, ago: timedelta = timedelta()) -> OutboxItem:
    then = Clock().now() - ago
    return OutboxItem("obx_1", TENANT, kind, "call_1", then, then, then)


async def record_of(store: Store) -> CallRecord:
    record = await store.read(calls.get, "call_1")
    assert record is not None
    return record


async def pushed(store: Store) -> list[str]:
    found, _ = await store.read(webhooks.list_deliveries, "whk_1")
    return [one.event for one in reversed(found)]


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


async def test_call_that_is_not_there_is_given_up(store: Store) -> None:
    """Nothing to go on with."""
    with pytest.raises(GiveUp):
        await results(store, Service()).analyse(item_of(ANALYSIS))


# ---- the signature -------------------------------------------------------------------------------

BODY = (
    b'{"type":"post_call_transcription","event_timestamp":1760000000,"data":{"agent_id":"agent_x",'
    b'"conversation_id":"conv_x","status":"done"}}'
)
T = 1760000000
V0 = "0ecc5d9a7e0eddd02c1d6582af076920a8cb0c1a021889bae0c4c39287c479bf"


@pytest.mark.parametrize(
    ("header", "now_s", "good"),
    [
        (f"t={T},v0={V0}", T + 5, True),
        (f"t={T}, v0={V0}, v1=later", T + 5, True),
        (f"t={T},v0=00,v0={V0}", T + 5, True),
        (f"t={T},v0={V0}", T + 1799, True),
        (f"t={T},v0={V0}", T + 1801, False),
        (f"t={T},v0={V0}", T - 301, False),
        (f"t={T + 1},v0={V0}", T, False),
        (f"t={T},t={T},v0={V0}", T, False),
        (f"v0={V0}", T, False),
        (f"t={T}", T, False),
        ("t=x,v0=y", T, False),
        ("t=\u00b2,v0=y", T, False),
        ("", T, False),
        (None, T, False),
    ],
)
def test_signature_is_checked_with_its_age(header: str | None, now_s: float, good: bool) -> None:
    """Against a fixed vector; thirty minutes back, five ahead."""
    assert signed(header, BODY, parse_secrets("newer, wsec_test"), now_s) is good
    assert not signed(header, BODY, parse_secrets("other"), now_s)
    assert not signed(header, BODY, (), now_s)
    assert not signed(header, BODY + b" ", parse_secrets("wsec_test"), now_s)


# ---- calls that ElevenLabs carries ---------------------------------------------------------------


async def test_native_call_begins_with_the_agents_own_variables(store: Store) -> None:
    """As a call of ours would: place, own words, and every variable of a caller, known or not."""
    now = Clock().now()
    agent = AgentRecord(
        "agt_1", "Desk", now, now, status="live", elevenlabs_agent_id="agent_1",
        number_e164="+14155550199", variables={"office": "Main", "location": "Upstairs"},
    )  # fmt: skip
    await store.write(agents.insert, agent)
    asked = {"caller_id": "+14155550100", "agent_id": "agent_1", "called_number": "+14155550199"}
    told = await Initiation(store).data(asked)
    assert told is not None
    variables = told["dynamic_variables"]
    assert (variables["office"], variables["location"]) == ("Main", "Upstairs")
    assert (variables["caller_number"], variables["earlier_calls"]) == ("+14155550100", 0)
