"""`/v2/tenants`: over the API, with the simulated Twilio behind it; keys, scopes, limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from control.api.dependencies import EXTENSION
from control.store.tables import idempotency_keys
from control.store.tables.tenancy import tenant_keys
from control.tenants import keys
from control.tenants.limits import RequestLimiter
from tests.control.api_rig import NOW, SETTINGS, Answered, Rig
from tests.control.test_tenants import World, world


@dataclass
class Api:
    """The application, and what is behind it."""

    rig: Rig
    world: World

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Answered:
        return await self.rig.ask(method, path, body, **more)

    async def tenant(self, name: str = "Bright Smiles") -> dict[str, Any]:
        made = await self.ask("POST", "/v2/tenants", {"name": name})
        assert made.status == 201, made.raw
        shown: dict[str, Any] = made.json
        return shown

    async def key(self, tenant_id: str, *scopes: str) -> str:
        body = {"name": "test", "scopes": list(scopes)} if scopes else {}
        made = await self.ask("POST", f"/v2/tenants/{tenant_id}/keys", body)
        assert made.status == 201, made.raw
        return str(made.json["key"])


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with world() as here:
        rig = Rig(here.store)
        known = rig.app.extensions[EXTENSION]
        rig.app.extensions[EXTENSION] = replace(known, tenants=here.tenants)
        yield Api(rig, here)


async def test_tenant_made_is_201_with_its_subaccount(api: Api) -> None:
    """And is shown the same afterwards, alone and in the list."""
    made = await api.tenant()
    (account,) = api.world.sim.accounts.subaccounts
    assert made["status"] == "active"
    assert made["subaccount"] == {"sid": account.sid, "status": "active"}
    assert made["limits"] == {
        "calls_max": None,
        "calls_per_minute": None,
        "cps": 1.0,
        "requests_per_s": 20.0,
    }
    assert made["problem"] is None
    assert (await api.ask("GET", f"/v2/tenants/{made['id']}")).json == made
    listed = (await api.ask("GET", "/v2/tenants")).json["items"]
    assert [item["id"] for item in listed] == ["tnt_default", made["id"]]
    assert listed[0]["subaccount"]["sid"] == SETTINGS.twilio.account_sid


async def test_tenant_asked_for_twice_with_one_key_is_made_once(api: Api) -> None:
    """The repeat gets the first answer."""
    headers = {"Idempotency-Key": "k1"}
    first = await api.ask("POST", "/v2/tenants", {"name": "one"}, headers=headers)
    second = await api.ask("POST", "/v2/tenants", {"name": "one"}, headers=headers)
    assert (first.status, second.status) == (201, 201)
    assert first.json == second.json
    assert len(api.world.sim.accounts.subaccounts) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 1}, "name"),
        ({"name": "one", "sid": "AC1"}, "sid"),
    ],
    ids=str,
)
async def test_tenant_with_wrong_field_is_422_naming_it(
    api: Api, body: dict[str, Any], field: str
) -> None:
    """And nothing is made at Twilio."""
    answered = await api.ask("POST", "/v2/tenants", body)
    assert answered.status == 422
    assert answered.fields() == [field]
    assert api.world.sim.accounts.subaccounts == []


async def test_tenant_refused_by_twilio_is_502_with_its_words(api: Api) -> None:
    """The tenant is kept as failed, with the reason."""
    api.world.sim.fail_next("POST", "/2010-04-01/Accounts.json", 400, 21480)
    answered = await api.ask("POST", "/v2/tenants", {"name": "one"})
    assert answered.status == 502
    assert answered.problem()["twilio"]["code"] == 21480
    listed = (await api.ask("GET", "/v2/tenants?status=failed")).json["items"]
    assert [item["name"] for item in listed] == ["one"]
    assert "21480" in listed[0]["problem"]


async def test_tenant_suspended_takes_nothing_new_until_it_is_resumed(api: Api) -> None:
    """Also by its own key; what is there can be read."""
    made = await api.tenant()
    key = await api.key(made["id"])
    path = f"/v2/tenants/{made['id']}"
    answered = await api.ask("PATCH", path, {"status": "suspended"})
    assert (answered.json["status"], answered.json["subaccount"]["status"]) == (
        "suspended",
        "suspended",
    )
    refused = await api.ask("POST", "/v2/opt-outs", {"e164": "+15550100456"}, key=key)
    assert refused.status == 409
    assert refused.fields() == ["tenant_id"]
    assert (await api.ask("GET", path, key=key)).status == 200
    assert (await api.ask("PATCH", path, {"status": "active"}, key=key)).status == 403
    assert (await api.ask("PATCH", path, {"status": "active"})).json["status"] == "active"
    taken = await api.ask("POST", "/v2/opt-outs", {"e164": "+15550100456"}, key=key)
    assert (taken.status, taken.json["tenant_id"]) == (201, made["id"])


async def test_tenant_is_closed_only_when_its_name_is_said(api: Api) -> None:
    """Then its keys are worth nothing, and the subaccount is closed."""
    made = await api.tenant()
    key = await api.key(made["id"])
    path = f"/v2/tenants/{made['id']}"
    for confirm in (None, {}, {"confirm": "bright smiles"}, {"confirm": made["id"]}):
        answered = await api.ask("DELETE", path, confirm)
        assert (answered.status, answered.fields()) == (422, ["confirm"])
    assert (await api.ask("DELETE", path, {"confirm": made["name"]}, key=key)).status == 404
    closed = await api.ask("DELETE", path + "?confirm=Bright%20Smiles")
    assert (closed.status, closed.json["status"]) == (200, "closed")
    assert api.world.sim.accounts[made["subaccount"]["sid"]].status == "closed"
    assert (await api.ask("GET", path, key=key)).status == 401
    assert (await api.ask("DELETE", path)).status == 200
    assert (await api.ask("PATCH", path, {"name": "two"})).status == 409
    assert (await api.ask("POST", path + "/keys", {})).status == 409
    assert (await api.ask("POST", path + "/rotate-credentials")).status == 409
    answered = await api.ask("DELETE", "/v2/tenants/tnt_default", {"confirm": "default"})
    assert answered.status == 409


async def test_credentials_rotated_show_the_new_key(api: Api) -> None:
    """The old one is revoked when the answer comes."""
    made = await api.tenant()
    sid = made["subaccount"]["sid"]
    (old,) = api.world.keys_of(sid)
    answered = await api.ask("POST", f"/v2/tenants/{made['id']}/rotate-credentials")
    assert answered.status == 200
    assert answered.json["old_key"] == "revoked"
    assert api.world.keys_of(sid) == [answered.json["key_sid"]]
    assert answered.json["key_sid"] != old
    default = await api.ask("POST", "/v2/tenants/tnt_default/rotate-credentials")
    assert default.status == 409


async def test_key_is_shown_once_and_only_its_digest_is_kept(api: Api) -> None:
    """Not in lists, not in the table, not in the answer that is kept for repeats."""
    made = await api.tenant()
    path = f"/v2/tenants/{made['id']}/keys"
    headers = {"Idempotency-Key": "k1"}
    first = await api.ask("POST", path, {"name": "CRM"}, headers=headers)
    key = first.json["key"]
    assert key.startswith("tdm_")
    assert len(key) > 40
    repeat = await api.ask("POST", path, {"name": "CRM"}, headers=headers)
    assert (repeat.status, repeat.json["key"]) == (201, None)
    assert repeat.json["id"] == first.json["id"]
    listed = await api.ask("GET", path)
    assert [item["prefix"] for item in listed.json["items"]] == [key[:10]]
    assert key not in listed.raw.decode()

    def everything(conn: Connection) -> str:
        return str([*conn.execute(select(tenant_keys)), *conn.execute(select(idempotency_keys))])

    kept = await api.world.store.read(everything)
    assert keys.digest(key) in kept
    assert key not in kept


async def test_key_revoked_is_refused_at_once(api: Api) -> None:
    """A second revocation finds nothing in force; when it was used last is kept to the minute."""
    made = await api.tenant()
    key = await api.key(made["id"])
    path = f"/v2/tenants/{made['id']}/keys"
    assert (await api.ask("GET", "/v2/agents", key=key)).status == 200
    (shown,) = (await api.ask("GET", path)).json["items"]
    assert shown["last_used_at"] == NOW.isoformat().replace("+00:00", "Z")
    assert (await api.ask("DELETE", f"{path}/{shown['id']}")).status == 204
    assert (await api.ask("GET", "/v2/agents", key=key)).status == 401
    assert (await api.ask("DELETE", f"{path}/{shown['id']}")).status == 404
    (shown,) = (await api.ask("GET", path)).json["items"]
    assert shown["revoked_at"] is not None


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("calls:read", "GET", "/v2/calls", 200),
        ("calls:read", "POST", "/v2/calls/initiate", 403),
        ("calls:read", "GET", "/v2/agents", 403),
        ("calls:write", "POST", "/v2/calls/initiate", 422),
        ("calls:write", "GET", "/v2/calls", 403),
        ("agents:read", "GET", "/v2/agents", 200),
        ("agents:read", "POST", "/v2/agents", 403),
        ("agents:write", "POST", "/v2/agents", 422),
        ("lists", "GET", "/v2/opt-outs", 200),
        ("lists", "POST", "/v2/opt-outs", 422),
        ("lists", "GET", "/v2/tenants", 403),
        ("tenant", "GET", "/v2/tenants", 200),
        ("tenant", "GET", "/v2/calls", 200),
        ("tenant", "POST", "/v2/tenants", 404),
    ],
)
async def test_key_does_what_its_scopes_say(
    api: Api, scope: str, method: str, path: str, status: int
) -> None:
    """403 names the scope that is missing; what only the admin may do is not there."""
    made = await api.tenant()
    key = await api.key(made["id"], scope)
    answered = await api.ask(method, path, {} if method == "POST" else None, key=key)
    assert answered.status == status, answered.raw
    if status == 403:
        assert 'error="insufficient_scope"' in answered.headers["WWW-Authenticate"]


@pytest.mark.parametrize("scopes", [[], ["admin"], ["calls"], "tenant", [1]], ids=str)
async def test_key_with_unknown_scope_is_422(api: Api, scopes: Any) -> None:
    """The admin's scope cannot be given away."""
    answered = await api.ask("POST", "/v2/tenants/tnt_default/keys", {"scopes": scopes})
    assert answered.status == 422
    assert answered.fields()[0].startswith("scopes")


async def test_requests_faster_than_the_limit_are_429_with_retry_after(api: Api) -> None:
    """For all keys of the tenant together; others and the admin are not slowed down."""
    made, other = await api.tenant("one"), await api.tenant("two")
    limits = {"limits": {"requests_per_s": 0.5}}
    patched = await api.ask("PATCH", f"/v2/tenants/{made['id']}", limits)
    assert patched.json["limits"]["requests_per_s"] == 0.5
    key, second = await api.key(made["id"]), await api.key(made["id"])
    assert (await api.ask("GET", "/v2/calls", key=key)).status == 200
    refused = await api.ask("GET", "/v2/calls", key=second)
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 2
    refused.problem()
    theirs = await api.key(other["id"])
    for _ in range(5):
        assert (await api.ask("GET", "/v2/calls", key=theirs)).status == 200


def test_bucket_gives_its_rate_and_its_burst() -> None:
    """Two seconds' worth at once, then one request every 1/rate seconds, and never more is saved up."""
    limiter = RequestLimiter()
    assert [limiter.wait_s("t", 2.0, 0.0) for _ in range(4)] == [0.0] * 4
    assert limiter.wait_s("t", 2.0, 0.0) == pytest.approx(0.5)
    assert limiter.wait_s("t", 2.0, 0.5) == 0.0
    assert limiter.wait_s("t", 2.0, 0.5) > 0
    assert sum(limiter.wait_s("t", 2.0, 1000.0) == 0 for _ in range(10)) == 4


async def test_limits_are_set_one_by_one_and_taken_away_by_null(api: Api) -> None:
    """What is not named stays; what is null is as the configuration says. They are for the admin alone."""
    made = await api.tenant()
    path = f"/v2/tenants/{made['id']}"
    for limits, expected in (
        ({"calls_max": 2}, (2, 1.0, 20.0)),
        ({"cps": 5}, (2, 5.0, 20.0)),
        ({"calls_max": None, "requests_per_s": 3.5}, (None, 5.0, 3.5)),
        ({"cps": None}, (None, 1.0, 3.5)),
    ):
        shown = (await api.ask("PATCH", path, {"limits": limits})).json["limits"]
        assert (shown["calls_max"], shown["cps"], shown["requests_per_s"]) == expected
    key = await api.key(made["id"])
    refused = await api.ask("PATCH", path, {"limits": {"cps": 100}}, key=key)
    assert (refused.status, refused.fields()) == (403, ["limits"])
    for wrong in ({"cps": 0}, {"calls_max": 0}, {"calls_max": 1.5}, {"speed": 1}):
        answered = await api.ask("PATCH", path, {"limits": wrong})
        assert (answered.status, answered.fields()) == (422, [f"limits.{next(iter(wrong))}"])
