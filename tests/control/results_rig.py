"""What follows a call, on its own: the store as the call left it, ElevenLabs and Twilio played by fakes."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from control.clock import Clock
from control.outbox import OutboxItem
from control.results import Results
from control.store import Store, agents, calls, outbox, webhooks
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
    """A call of one agent, with a customer's webhook, ends; returns the item that this has left."""
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
    """The names of all events that were laid down for the customer, in order."""
    found, _ = await store.read(webhooks.list_deliveries, "whk_1")
    return [one.event for one in reversed(found)]
