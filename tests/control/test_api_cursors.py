"""A cursor is good for the list, the filters and the tenant that it was given for, and for no other.

The cases are made from the OpenAPI document, so that a new list is tried without being named here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from control.store import agents, calls, tenant_keys, tenants, webhooks
from control.store.records import TenantKeyRecord, TenantRecord
from control.store.webhooks import WebhookRecord
from control.tenants import keys
from tests.control.api_rig import NOW, Rig, agent, call, open_rig

ALICE = "tnt_alice"
ALICES_KEY = "tdm_alice"
IDS = {"tenant_id": ALICE, "webhook_id": "wh_1", "e164": "+15550107777"}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_rig() as opened:
        yield opened


async def _fill(rig: Rig) -> None:
    """Two agents and two calls of Alice's, and what lists below her and a webhook need."""
    digest = keys.digest(ALICES_KEY)
    key = TenantKeyRecord("key_1", ALICE, "crm", digest, ALICES_KEY, [keys.TENANT], NOW)
    hook = WebhookRecord("wh_1", ALICE, "https://example.com/h", ["*"], "sealed", NOW, NOW)
    await rig.store.write(tenants.add, TenantRecord(ALICE, "Alice", "active", NOW, NOW))
    await rig.store.write(tenant_keys.insert, key)
    await rig.store.write(webhooks.insert, hook)
    for number in (1, 2):
        await rig.store.write(agents.insert, agent(number, tenant_id=ALICE))
        await rig.store.write(calls.insert, call(number, tenant_id=ALICE))


async def _cursor(rig: Rig, path: str, **more: Any) -> str:
    cursor: str = (
        await rig.ask("GET", f"{path}{'&' if '?' in path else '?'}limit=1", **more)
    ).json["next_cursor"]
    assert cursor
    return cursor


def _lists(document: dict[str, Any]) -> list[str]:
    return [
        path
        for path, methods in document["paths"].items()
        if any(given["name"] == "cursor" for given in methods.get("get", {}).get("parameters", ()))
    ]


async def test_cursor_of_another_list_is_422_at_each_list(rig: Rig) -> None:
    """It was taken for a key of that list: items were left out, or came twice, and nobody was told."""
    await _fill(rig)
    document = (await rig.ask("GET", "/openapi.json", key=None)).json
    lists = _lists(document)
    assert len(lists) >= 12
    cursors = {path: await _cursor(rig, path) for path in ("/v2/agents", "/v2/calls")}
    for path in lists:
        filled = re.sub(r"{(\w+)}", lambda found: IDS[found[1]], path)
        for of, cursor in cursors.items():
            answered = await rig.ask("GET", f"{filled}?cursor={cursor}")
            if of == path:
                assert [item["id"][-5:] for item in answered.json["items"]] == ["_0001"]
            else:
                assert (answered.status, answered.fields()) == (422, ["cursor"]), path
                assert "first page" in answered.problem()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("", "&direction=outbound"),
        ("&direction=outbound", ""),
        ("&direction=outbound", "&direction=outbound&status=queued"),
        ("&to=%2B15550100456", "&from=%2B15550100456"),
        ("&until=2030-01-01T00:00:00Z", "&until=2030-01-01T00:00:01Z"),
        ("", f"&tenant_id={ALICE}"),
    ],
)
async def test_cursor_of_other_filters_is_422(rig: Rig, given: str, asked: str) -> None:
    """A filter that was added, left out, exchanged or changed between two pages."""
    await _fill(rig)
    cursor = await _cursor(rig, f"/v2/calls?{given[1:]}")
    answered = await rig.ask("GET", f"/v2/calls?cursor={cursor}{asked}")
    assert (answered.status, answered.fields()) == (422, ["cursor"])
    assert (await rig.ask("GET", f"/v2/calls?cursor={cursor}{given}")).status == 200


async def test_same_filters_in_other_words_and_another_size_of_page_go_on(rig: Rig) -> None:
    """One moment in two time zones, filters in another order, a larger page: the same list."""
    await _fill(rig)
    one = "until=2030-01-01T00:00:00Z&direction=outbound"
    other = "direction=outbound&until=2030-01-01T02:00:00%2B02:00"
    cursor = await _cursor(rig, f"/v2/calls?{one}")
    page = (await rig.ask("GET", f"/v2/calls?{other}&limit=9&cursor={cursor}")).json
    assert [item["id"] for item in page["items"]] == ["call_0001"]


async def test_cursor_of_all_tenants_is_422_with_a_tenants_key(rig: Rig) -> None:
    """The operator's list is not the tenant's, and the tenant's is not the operator's."""
    await _fill(rig)
    operators = await _cursor(rig, "/v2/agents")
    alices = await _cursor(rig, "/v2/agents", key=ALICES_KEY)
    for cursor, key in ((operators, {"key": ALICES_KEY}), (alices, {})):
        answered = await rig.ask("GET", f"/v2/agents?cursor={cursor}", **key)
        assert (answered.status, answered.fields()) == (422, ["cursor"])
