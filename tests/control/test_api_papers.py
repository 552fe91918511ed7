"""Regulations, addresses, bundles, Trust Hub and dialling permissions over HTTP."""

from __future__ import annotations

import pytest

from control.twilio import rest
from tests.control.numbers_rig import numbers_rig
from tests.control.test_api_numbers import ApiRig, tenant_with_key
from tests.control.test_papers import primary

BASE = "/v2/tenants/tnt_default"
BERLIN = {
    "customer_name": "Acme GmbH", "street": "Hauptstr. 1", "city": "Berlin", "region": "BE",
    "postal_code": "10115", "country": "de",
}  # fmt: skip


@pytest.fixture
async def rig(monkeypatch):
    monkeypatch.setattr(rest, "BACKOFF_FIRST_S", 0.001)
    async with numbers_rig() as beneath:
        yield ApiRig(beneath)


async def bundle(rig, **more):
    address = (await rig.ask("POST", f"{BASE}/addresses", BERLIN)).json
    body = {
        "country": "DE",
        "email": "papers@example.com",
        "end_user": {"business_name": "Acme", "business_registration_number": "HRB 1"},
        "documents": [{"type": "address", "attributes": {"address_sids": address["sid"]}}],
    }
    return address, await rig.ask("POST", f"{BASE}/bundles", body | more)


async def test_bundle_is_filed_followed_and_used(rig):
    """From the regulation to a bought number, over HTTP alone."""
    wanted = (await rig.ask("GET", f"{BASE}/regulations?country=DE&type=local")).json["items"]
    assert [one["label"] for one in wanted[0]["proofs"]] == ["Address"]
    assert wanted[0]["end_user"][0]["fields"][0]["name"] == "business_name"
    address, made = await bundle(rig)
    assert made.status == 201, made.raw
    filed = made.json
    assert (filed["status"], address["country"]) == ("pending-review", "DE")
    assert made.headers["Location"] == f"{BASE}/bundles/{filed['id']}"
    rig.sim.compliance.approve(filed["sid"])
    same = await rig.ask("GET", f"{BASE}/bundles/{filed['id']}")
    fresh = await rig.ask("GET", f"{BASE}/bundles/{filed['id']}?refresh=true")
    assert (same.json["status"], fresh.json["status"]) == ("pending-review", "twilio-approved")
    wish = {"country": "DE", "bundle_sid": filed["sid"], "address_sid": address["sid"]}
    number = await rig.ask("POST", "/v2/numbers", wish)
    assert number.status == 201, number.raw
    assert [one["id"] for one in (await rig.ask("GET", f"{BASE}/bundles")).json["items"]] == [
        filed["id"]
    ]
    assert (await rig.ask("GET", f"{BASE}/addresses")).json["items"] == [address]


async def test_bundle_that_lacks_something_names_the_field(rig):
    """A draft, not handed in."""
    _, made = await bundle(rig, end_user={"business_name": "Acme"})
    assert (made.status, made.json["status"]) == (201, "draft")
    assert [one["field"] for one in made.json["findings"]] == ["business_registration_number"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("bundles", {"country": "US", "email": "a@b.c", "end_user": {}}, "country"),
        ("bundles", {"country": "XX", "email": "a@b.c", "end_user": {}}, "country"),
        ("bundles", {"country": "DE", "email": "nobody", "end_user": {}}, "email"),
        ("bundles", {"country": "DE", "email": "a@b.c"}, "end_user"),
        ("trust", {"kind": "gold", "email": "a@b.c"}, "kind"),
        ("trust", {"kind": "customer_profile", "email": "a@b.c"}, "business"),
        ("trust", {"kind": "cnam", "email": "a@b.c"}, "display_name"),
        ("trust", {"kind": "cnam", "email": "a@b.c", "display_name": "x" * 16}, "display_name"),
        ("addresses", BERLIN | {"country": "ZZ"}, "country"),
        ("addresses", {"city": "Berlin"}, "customer_name"),
    ],
)
async def test_bad_papers_name_the_field(rig, path, body, field):
    """422, and nothing is made."""
    answered = await rig.ask("POST", f"{BASE}/{path}", body)
    assert answered.status == 422, answered.raw
    assert field in answered.fields()
    assert rig.beneath.asked("POST", "") == 0


async def test_trust_waits_for_the_profile_and_takes_numbers_when_approved(rig):
    """What is missing is said by name."""
    shaken = {"kind": "shaken_stir", "email": "a@b.c"}
    early = await rig.ask("POST", f"{BASE}/trust", shaken)
    assert early.status == 422
    assert early.problem()["missing"][0]["name"] == "Approved customer profile of the tenant"
    primary(rig)
    profile = await rig.ask(
        "POST",
        f"{BASE}/trust",
        {
            "kind": "customer_profile",
            "email": "a@b.c",
            "business": {"business_name": "Acme"},
            "representatives": [{"first_name": "Ann"}],
            "address_sid": "AD" + "1" * 32,
        },
    )
    assert profile.json["status"] == "pending-review", profile.raw
    one = f"{BASE}/trust/{profile.json['id']}"
    number = (await rig.ask("POST", "/v2/numbers", {"area_code": "212"})).json
    early = await rig.ask("POST", f"{one}/numbers", {"number": number["id"]})
    assert early.status == 409
    rig.sim.compliance.approve(profile.json["sid"])
    assert (await rig.ask("GET", f"{one}?refresh=true")).json["status"] == "twilio-approved"
    connected = await rig.ask("POST", f"{one}/numbers", {"number": number["e164"]})
    assert {"sid": number["sid"], "type": "phone-number"} in connected.json["items"]
    assert (await rig.ask("POST", f"{BASE}/trust", shaken)).json["status"] == "pending-review"
    assert len((await rig.ask("GET", f"{BASE}/trust")).json["items"]) == 2


async def test_geo_permissions_open_low_risk_only_unless_more_is_meant(rig):
    """High risk needs a word of its own."""
    path = f"{BASE}/geo-permissions"
    opened = await rig.ask("PUT", path, {"countries": [{"country": "gb"}]})
    assert opened.status == 200, opened.raw
    (britain,) = [one for one in opened.json["countries"] if one["country"] == "GB"]
    assert (britain["low_risk"], britain["high_risk_tollfraud"]) == (True, False)
    risky = {"countries": [{"country": "LV", "high_risk_tollfraud": True}]}
    refused = await rig.ask("PUT", path, risky)
    assert refused.fields() == ["countries.0"]
    assert (await rig.ask("PUT", path, risky | {"allow_high_risk": True})).status == 200
    closed = await rig.ask("PUT", path, {"countries": [{"country": "LV", "low_risk": False}]})
    (latvia,) = [one for one in closed.json["countries"] if one["country"] == "LV"]
    assert (latvia["low_risk"], latvia["high_risk_tollfraud"]) == (False, False)
    for body, field in (
        ({}, "countries"),
        ({"countries": [{"country": "XX"}]}, "countries.0.country"),
        ({"inherit": True}, "inherit"),
    ):
        assert (await rig.ask("PUT", path, body)).fields() == [field]


async def test_another_tenants_papers_are_not_there(rig):
    """Neither to read nor to file; a tenant does not widen what it may call."""
    key = await tenant_with_key(rig)
    _, made = await bundle(rig)
    filed = made.json["id"]
    for method, path in (
        ("GET", f"{BASE}/bundles"),
        ("GET", f"{BASE}/bundles/{filed}"),
        ("GET", f"/v2/tenants/tnt_other/bundles/{filed}"),
        ("GET", f"{BASE}/addresses"),
        ("GET", f"{BASE}/trust"),
        ("GET", f"{BASE}/regulations?country=DE"),
        ("GET", f"{BASE}/geo-permissions"),
        ("PUT", "/v2/tenants/tnt_other/geo-permissions"),
    ):
        body = {"countries": [{"country": "GB"}]} if method == "PUT" else None
        assert (await rig.ask(method, path, body, key=key)).status == 404, path
    refused = await rig.ask("POST", f"{BASE}/addresses", BERLIN, key=key)
    assert refused.status == 404
    assert (await rig.ask("GET", "/v2/tenants/tnt_none/bundles")).status == 404
    assert (await rig.ask("GET", "/v2/tenants/tnt_other/bundles", key=key)).json["items"] == []
