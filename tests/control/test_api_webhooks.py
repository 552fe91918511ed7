"""`/v2/webhooks`, their deliveries, and `/v2/messages`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from control.store import messages, outbox, webhooks
from control.webhooks_out import events
from tests.control.api_rig import Rig, open_rig

URL = "https://crm.example.com/hooks"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def made(rig: Rig, **more: Any) -> dict[str, Any]:
    answered = await rig.ask("POST", "/v2/webhooks", {"url": URL} | more)
    assert answered.status == 201
    found: dict[str, Any] = answered.json
    return found


async def delivery_of(rig: Rig, webhook_id: str, **columns: Any) -> webhooks.DeliveryRecord:
    await rig.store.write(
        events.emit,
        event="call.result",
        key="call_1",
        tenant_id="tnt_default",
        data=dict,
        now=rig.clock.now(),
        call_id="call_1",
    )
    (record,), _ = await rig.store.read(webhooks.list_deliveries, webhook_id)
    if columns:
        await rig.store.write(webhooks.update_delivery, record.id, **columns)
    return record


async def test_webhook_is_made_and_its_secret_shown_once(rig: Rig) -> None:
    """The answer has the secret; what is kept is sealed; no later answer has it."""
    answer = await made(rig, events=["call.result", "call.result"])
    assert answer["secret"].startswith("whsec_")
    assert answer["events"] == ["call.result"]
    record = await rig.store.read(webhooks.get, answer["id"])
    assert record is not None
    assert record.secret == f"sealed {answer['id']}"
    assert rig.after.sealed == {answer["id"]: answer["secret"]}
    shown = (await rig.ask("GET", f"/v2/webhooks/{answer['id']}")).json
    assert "secret" not in shown
    assert (await rig.ask("GET", "/v2/webhooks")).json["items"] == [shown]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": "http://crm.example.com/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "https://localhost/"}, "url"),
        ({"url": "no url"}, "url"),
        ({"url": URL, "events": ["call.won"]}, "events"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "secret": "mine"}, "secret"),
    ],
)
async def test_webhook_that_is_wrong_names_the_field(
    rig: Rig, body: dict[str, Any], field: str
) -> None:
    """And nothing is kept."""
    answered = await rig.ask("POST", "/v2/webhooks", body)
    assert (answered.status, answered.fields()) == (422, [field])
    assert (await rig.ask("GET", "/v2/webhooks")).json["items"] == []


async def test_webhook_is_changed_switched_off_and_removed(rig: Rig) -> None:
    """Only what is given changes; a target that is off gets no event; removed, its deliveries go too."""
    webhook_id = (await made(rig))["id"]
    path = f"/v2/webhooks/{webhook_id}"
    await delivery_of(rig, webhook_id)
    changed = await rig.ask("PATCH", path, {"enabled": False, "description": "CRM"})
    assert (changed.json["enabled"], changed.json["url"]) == (False, URL)
    assert (await rig.ask("PATCH", path, {"url": None})).fields() == ["url"]
    assert (await rig.ask("PATCH", path, {"url": "https://10.0.0.1/"})).fields() == ["url"]
    assert (await rig.ask("DELETE", path)).status == 204
    assert (await rig.ask("DELETE", path)).status == 404
    assert (await rig.ask("GET", path)).status == 404
    assert (await rig.ask("GET", path + "/deliveries")).status == 404
    assert await rig.store.read(outbox.counts) == {}


async def test_dead_letter_is_listed_and_replayed_with_its_id(rig: Rig) -> None:
    """409 while it is still being tried."""
    webhook_id = (await made(rig))["id"]
    record = await delivery_of(rig, webhook_id)
    path = f"/v2/webhooks/{webhook_id}/deliveries"
    assert (await rig.ask("POST", f"{path}/{record.id}/replay")).status == 409
    await rig.store.write(webhooks.update_delivery, record.id, status="dead", last_error="HTTP 500")
    (shown,) = (await rig.ask("GET", path + "?status=dead")).json["items"]
    assert (shown["id"], shown["last_error"]) == (record.id, "HTTP 500")
    replayed = await rig.ask("POST", f"{path}/{record.id}/replay")
    assert replayed.status == 202
    assert (replayed.json["status"], replayed.json["event_id"]) == ("pending", record.event_id)
    assert rig.after.woken == 1
    assert (await rig.ask("POST", f"{path}/dlv_none/replay")).status == 404
    assert (await rig.ask("GET", path + "?status=lost")).fields() == ["status"]


async def test_messages_are_listed_by_side_call_and_direction(rig: Rig) -> None:
    """Filters hold together."""
    now = rig.clock.now()
    for number, direction, call_id in ((1, "inbound", None), (2, "outbound", "call_1")):
        record = messages.MessageRecord(
            id=f"msg_{number}",
            tenant_id="tnt_default",
            direction=direction,
            from_number="+15550100001",
            to_number="+15550100002",
            body="Hi",
            segments=1,
            status="received",
            created_at=now,
            updated_at=now,
            call_id=call_id,
        )
        await rig.store.write(messages.insert, record)

    async def ids(query: str) -> list[str]:
        return [one["id"] for one in (await rig.ask("GET", "/v2/messages" + query)).json["items"]]

    assert await ids("") == ["msg_2", "msg_1"]
    assert await ids("?direction=inbound") == ["msg_1"]
    assert await ids("?call_id=call_1") == ["msg_2"]
    assert await ids("?number=%2B15550100002&direction=outbound") == ["msg_2"]
    assert await ids("?number=%2B15550100003") == []
