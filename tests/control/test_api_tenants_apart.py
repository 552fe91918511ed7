"""Tenants see nothing of each other: every route of the OpenAPI document is tried with another tenant's key.

The cases are made from the document, so a new route is tried without being named here; it fails the test
when it takes an id that `THEIRS` does not know, or makes something without saying whose it is.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection, select

from control.numbers import Numbers
from control.store import (
    Store,
    agents,
    calls,
    consents,
    filings,
    opt_outs,
    tenant_keys,
    tenants,
    webhooks,
)
from control.store import numbers as stored_numbers
from control.store.consents import ConsentRecord
from control.store.filings import FilingRecord
from control.store.numbers import NumberRecord
from control.store.records import AgentNumberRecord, OptOutRecord, TenantKeyRecord, TenantRecord
from control.store.tables import metadata
from control.store.webhooks import DeliveryRecord, WebhookRecord
from control.tenants import keys
from control.urls import PublicUrls
from tests.control.api_rig import NOW, Answered, FakeClock, Rig, agent, call

ALICE, BOB = "tnt_alice", "tnt_bob"
BOBS_KEY = "tdm_bob"
NUMBER = "+15550107777"
CUSTOMER = "+15550108888"

THEIRS = {
    "tenant_id": ALICE,
    "agent_id": "agt_alice",
    "call_id": "call_alice",
    "key_id": "key_alice",
    "number_id": "num_alice",
    "number": NUMBER,
    "e164": NUMBER,
    "webhook_id": "whk_alice",
    "delivery_id": "dlv_alice",
    "filing_id": "flg_alice",
    "consent_id": "cns_alice",
}
"""What Alice has, by the name of the path's parameter."""
NOBODYS = {
    "number": "+15550109990",
    "e164": "+15550109990",
}
"""Of the same shape, and nobody has it; ids have `none` for `alice`."""
MARKS = ("alice", NUMBER, CUSTOMER)
"""Texts that are in nothing that Bob may see."""
QUERIES = {"searchNumbers": {"country": "US"}, "listRegulations": {"country": "DE"}}
"""Parameters without which a list is refused."""
BODIES: dict[str, dict[str, Any]] = {
    "addAgentNumber": {"e164": "+15550107778"},
    "checkPolicy": {"agent_id": "agt_alice", "to": CUSTOMER},
    "initiateCall": {"agent_id": "agt_alice", "to": CUSTOMER},
    "closeTenant": {"confirm": "alice"},
}
"""Bodies of routes whose example does not do, or that name something of Alice's."""
ADMINS = frozenset({"createTenant", "getPolicyStop", "putPolicyStop"})
"""Routes without a tenant in their path that are for the admin key alone, and say so by 404."""
METHODS = ("get", "post", "patch", "put", "delete")


def alices_consent() -> ConsentRecord:
    return ConsentRecord(
        id="cns_alice",
        e164=CUSTOMER,
        seller="alice",
        channels=["sms"],
        purposes=["survey"],
        level="express",
        occurred_at=NOW,
        recorded_at=NOW,
        actor="alice",
        tenant_id=ALICE,
    )


def alices(conn: Connection) -> None:
    """One of everything that the API can name by an id."""
    for tenant_id in (ALICE, BOB):
        name = tenant_id.removeprefix("tnt_")
        limits = {"requests_per_s": 10_000}
        tenants.add(conn, TenantRecord(tenant_id, name, "active", NOW, NOW, limits=limits))
    for key, tenant_id in (("tdm_alice", ALICE), (BOBS_KEY, BOB)):
        key_id = key.replace("tdm", "key")
        scopes = [keys.TENANT]
        tenant_keys.insert(
            conn,
            TenantKeyRecord(key_id, tenant_id, key, keys.digest(key), key[:10], scopes, NOW),
        )
    consents.insert_consent(conn, alices_consent())
    agents.insert(conn, agent(id="agt_alice", tenant_id=ALICE, name="alice", number_e164=NUMBER))
    agents.add_number(
        conn,
        AgentNumberRecord("num_alice", "agt_alice", NOW, NOW, tenant_id=ALICE, status="live"),
    )
    stored_numbers.begin(
        conn,
        NumberRecord(
            id="num_alice",
            tenant_id=ALICE,
            e164=NUMBER,
            status="active",
            created_at=NOW,
            updated_at=NOW,
            intent_key="alice",
        ),
    )
    calls.insert(
        conn, call(id="call_alice", tenant_id=ALICE, agent_id="agt_alice", to_number=CUSTOMER)
    )
    for number in (CUSTOMER, NUMBER):
        opt_outs.add(conn, OptOutRecord(number, "api", NOW, tenant_id=ALICE))
    filings.add(conn, FilingRecord("flg_alice", "bundle", "alice", NOW, NOW, tenant_id=ALICE))
    webhooks.insert(
        conn,
        WebhookRecord("whk_alice", ALICE, "https://alice.example.com", ["*"], "sealed", NOW, NOW),
    )
    webhooks.insert_delivery(
        conn,
        DeliveryRecord(
            "dlv_alice", ALICE, "whk_alice", "evt_alice", "call.completed", "{}", NOW, NOW
        ),
    )


def rows_of_alice(conn: Connection) -> dict[str, list[Any]]:
    """Everything that is stored for her, to see that nothing of it changes."""
    found = {}
    for name, table in metadata.tables.items():
        if name in ("nodes", "leases"):
            continue  # daemons and their common work are nobody's
        column = table.c.id if name == "tenants" else table.c.tenant_id
        found[name] = sorted(map(str, conn.execute(select(table).where(column == ALICE))))
    return found


class Try:
    """One route, tried by Bob."""

    def __init__(self, document: dict[str, Any], method: str, path: str) -> None:
        self.method, self.path = method, path
        self.described = document["paths"][path][method]
        self.name: str = self.described["operationId"]
        self.parameters = re.findall(r"\{(\w+)\}", path)
        self.queries = {p["name"] for p in self.described["parameters"] if p["in"] == "query"}
        self.schema = self._schema(document)

    def _schema(self, document: dict[str, Any]) -> dict[str, Any]:
        content = self.described.get("requestBody", {}).get("content", {})
        name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")
        found: dict[str, Any] = document["components"]["schemas"].get(name[2], {})
        return found

    def url(self, ids: dict[str, str], **query: str) -> str:
        unknown = [name for name in self.parameters if name not in ids]
        assert not unknown, f"{self.name}: say in THEIRS what Alice has for {unknown}"
        more = {**QUERIES.get(self.name, {}), **query}
        text = "&".join(f"{name}={value}" for name, value in more.items()).replace("+", "%2B")
        filled = self.path.format(**ids).replace("+", "%2B")
        return filled + ("?" + text if text else "")

    def body(self) -> dict[str, Any] | None:
        if "requestBody" not in self.described:
            return None
        if self.name in BODIES:
            return dict(BODIES[self.name])
        if not self.schema.get("required"):
            return {}
        if examples := self.schema.get("examples"):
            return dict(examples[0])
        properties = self.schema["properties"]
        return {name: _some(properties[name]) for name in self.schema["required"]}

    @property
    def is_filled(self) -> bool:
        """Whether `body` is known to be valid."""
        return self.name in BODIES or not self.schema.get("required") or "examples" in self.schema


def _some(schema: dict[str, Any]) -> Any:
    """A value of the right type; a pattern may still refuse it."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "array":
        return [_some(schema.get("items", {}))]
    return {"integer": 1, "number": 1, "boolean": True, "object": {}}.get(str(kind), "US")


def routes(document: dict[str, Any]) -> list[Try]:
    return [
        Try(document, method, path)
        for path, methods in sorted(document["paths"].items())
        for method in METHODS
        if method in methods
    ]


class NoTwilio:
    """Whoever comes as far as Twilio for another tenant has failed the test already."""

    async def of(self, tenant_id: str) -> Any:
        raise AssertionError(f"asked for the account of {tenant_id}")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    store = Store.open("sqlite://")
    await store.write(alices)
    urls = PublicUrls("https://voice.example.com", "wss://voice.example.com")
    clock: Any = FakeClock()
    yield Rig(store, Numbers(store, NoTwilio(), urls, clock))
    store.close()


async def tried(rig: Rig) -> list[Try]:
    return routes((await rig.ask("GET", "/openapi.json")).json)


async def bob(rig: Rig, one: Try, url: str, body: dict[str, Any] | None = None) -> Answered:
    # Another body each time: an answer kept for repeats would be no new try.
    return await rig.ask(one.method.upper(), url, body, key=BOBS_KEY)


async def test_routes_with_ids_answer_another_tenant_as_if_nothing_was_there(rig: Rig) -> None:
    """404, in the very words of an id that does not exist; and nothing of hers has changed."""
    before = await rig.store.read(rows_of_alice)
    count = 0
    for one in await tried(rig):
        if not one.parameters:
            continue
        count += 1
        answered = await bob(rig, one, one.url(THEIRS), one.body())
        expected = (404,) if one.is_filled else (404, 422)
        assert answered.status in expected, (one.method, one.path, answered.raw)
        nobodys = {
            name: NOBODYS.get(name, value.replace("alice", "none"))
            for name, value in THEIRS.items()
        }
        absent = await bob(rig, one, one.url(nobodys), one.body())
        said = answered.raw.decode()
        for name, value in THEIRS.items():
            for spelling in (value, value.replace("+", "%2B")):
                said = said.replace(spelling, nobodys[name])
        assert said == absent.raw.decode(), (one.method, one.path)
    assert count > 15
    assert await rig.store.read(rows_of_alice) == before
    assert rig.switchboard.asked == []


async def test_lists_show_another_tenant_nothing_of_hers(rig: Rig) -> None:
    """Whole, and when they are asked for her tenant or her agent by name."""
    count = 0
    for one in await tried(rig):
        if one.method != "get" or one.parameters:
            continue
        count += 1
        if one.name in ADMINS:
            asked = await bob(rig, one, one.url({}))
            assert asked.status == 404, (one.path, asked.raw)
        elif one.name not in QUERIES:
            whole = await bob(rig, one, one.url({}))
            assert whole.status == 200, (one.path, whole.raw)
            assert not [mark for mark in MARKS if mark in whole.raw.decode()], one.path
        if "tenant_id" in one.queries:
            asked = await bob(rig, one, one.url({}, tenant_id=ALICE))
            assert asked.status == 404, (one.path, asked.raw)
        if "agent_id" in one.queries:
            asked = await bob(rig, one, one.url({}, agent_id="agt_alice"))
            absent = await bob(rig, one, one.url({}, agent_id="agt_none_"))
            said = asked.raw.decode().replace("agt_alice", "agt_none_")
            assert said == absent.raw.decode(), (one.path, asked.raw)
    assert count > 8


async def test_creating_routes_make_nothing_for_another_tenant(rig: Rig) -> None:
    """Her tenant or her agent named in the body is 404, and nothing of hers has changed."""
    rig.switchboard.result = AssertionError("the switchboard looked for it without a tenant")
    before = await rig.store.read(rows_of_alice)
    count = 0
    for one in await tried(rig):
        if one.method == "get" or one.parameters:
            continue
        count += 1
        body = one.body() or {}
        if "tenant_id" in one.queries:
            asked = await bob(rig, one, one.url({}, tenant_id=ALICE), body)
            assert asked.status == 404, (one.path, asked.raw)
            continue
        if "tenant_id" in one.schema.get("properties", {}):
            body["tenant_id"] = ALICE
        elif one.name in ("initiateCall", "checkPolicy"):
            # Found by the switchboard, which is told whose agent it has to be.
            rig.switchboard.result = None
            await bob(rig, one, one.url({}), body)
            assert rig.switchboard.asked.pop()["tenant_id"] == BOB
            continue
        else:
            assert one.name in ADMINS, f"{one.name}: how does it know whose it is?"
        answered = await bob(rig, one, one.url({}), body)
        assert answered.status == 404, (one.path, answered.raw)
    assert count > 4
    assert await rig.store.read(rows_of_alice) == before


async def test_tenant_sees_its_own(rig: Rig) -> None:
    """The tests above could pass if nobody saw anything."""
    for path in (
        f"/v2/tenants/{ALICE}",
        "/v2/agents/agt_alice",
        "/v2/calls/call_alice",
        f"/v2/tenants/{ALICE}/keys",
    ):
        answered = await rig.ask("GET", path, key="tdm_alice")
        assert answered.status == 200, (path, answered.raw)
        assert "alice" in answered.raw.decode()
    shown = (await rig.ask("GET", "/v2/tenants", key="tdm_alice")).json["items"]
    assert [item["id"] for item in shown] == [ALICE]
    listed = (await rig.ask("GET", "/v2/opt-outs", key="tdm_alice")).json["items"]
    assert [item["e164"] for item in listed] == [NUMBER, CUSTOMER]
