"""Bundles, Trust Hub, addresses and dialling permissions, against the simulated Twilio."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bench.sim_twilio.compliance_resource import Container
from control.clock import Clock
from control.numbers import NumberProblem, NumberWish
from control.numbers.papers import Contents, Item, Papers
from control.numbers.trust import PRIMARY_POLICY, Trust
from control.store import filings
from control.twilio import addresses, geo, rest
from control.twilio.addresses import Address
from control.twilio.geo import Permission
from tests.control.numbers_rig import ACCOUNT, numbers_rig

TENANT = "tnt_default"
BERLIN = Address("Acme GmbH", "Hauptstr. 1", "Berlin", "BE", "10115", "DE")
BUSINESS = {"business_name": "Acme GmbH", "business_registration_number": "HRB 1"}


@pytest.fixture
async def rig(monkeypatch):
    monkeypatch.setattr(rest, "BACKOFF_FIRST_S", 0.001)
    async with numbers_rig() as made:
        made.papers = Papers(made.store, made.access, Clock())
        made.trust = Trust(made.papers, made.rest)
        yield made


def contents(address_sid="AD" + "1" * 32, **business):
    return Contents(
        "papers@example.com",
        end_users=[Item("business", BUSINESS | business)],
        documents=[Item("address", {"address_sids": address_sid})],
    )


async def test_bundle_from_what_is_missing_to_a_number(rig):
    """Refused with the list, filed, approved, bought: the whole way of a German number."""
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.buy(TENANT, NumberWish(country="DE"), intent_key="a")
    missing = [(item.field, item.name) for item in caught.value.missing]
    assert missing == [
        ("address_sid", "Address: an address in DE"),
        ("bundle_sid", "Regulatory bundle for local numbers of DE"),
        (None, "In the bundle of a business: Business"),
        (None, "In the bundle of a business: Address"),
    ]
    assert "Business Registration Number" in caught.value.missing[2].detail
    address = await addresses.create(rig.rest, BERLIN)
    filed = await rig.papers.file_bundle(
        TENANT, "DE", "local", "business", contents(address.sid or "")
    )
    assert (filed.status, filed.findings, filed.reason) == ("pending-review", [], None)
    wish = NumberWish(country="DE", address_sid=address.sid, bundle_sid=filed.sid)
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.buy(TENANT, wish, intent_key="a")
    assert caught.value.twilio_code == 21649
    assert caught.value.missing[0].field == "bundle_sid"
    rig.sim.compliance.approve(filed.sid)
    await rig.papers.poll()
    assert (await rig.papers.get(TENANT, filed.id, ["bundle"])).status == "twilio-approved"
    record = await rig.numbers.buy(TENANT, wish, intent_key="a")
    assert (record.country, record.bundle_sid) == ("DE", filed.sid)


async def test_bundle_that_lacks_something_is_a_draft_with_findings(rig):
    """Not handed in: Twilio's own evaluation says what is missing, by field."""
    filed = await rig.papers.file_bundle(
        TENANT, "DE", "mobile", "business", contents(business_registration_number="")
    )
    assert (filed.status, filed.submitted_at) == ("draft", None)
    assert [(one["requirement"], one["field"]) for one in filed.findings] == [
        ("Business", "business_registration_number")
    ]


async def test_bundle_rejected_says_why(rig):
    """What the reviewer wrote stands at the document."""
    filed = await rig.papers.file_bundle(TENANT, "DE", "local", "business", contents())
    rig.sim.compliance.reject(filed.sid, "the address is a PO box")
    await rig.papers.poll()
    now = await rig.papers.get(TENANT, filed.id, ["bundle"])
    assert (now.status, now.reason) == ("twilio-rejected", "the address is a PO box")
    rig.sim.rest.requests.clear()
    await rig.papers.poll()
    assert rig.sim.rest.requests == []


async def test_bundle_for_a_country_that_wants_none(rig):
    """Names the field, makes nothing."""
    with pytest.raises(NumberProblem) as caught:
        await rig.papers.file_bundle(TENANT, "US", "local", "business", contents())
    assert (caught.value.code, caught.value.field) == ("invalid", "country")
    assert rig.sim.compliance.containers == {}


@pytest.mark.parametrize("acted", [True, False])
async def test_bundle_with_a_lost_answer_is_made_once(rig, acted):
    """Found by its name; when it is not there the failure is transient and the row says so."""
    rig.sim.lose_answer("POST", "/v2/RegulatoryCompliance/Bundles", acted=acted)
    if acted:
        filed = await rig.papers.file_bundle(TENANT, "DE", "local", "business", contents())
        assert filed.status == "pending-review"
    else:
        with pytest.raises(NumberProblem) as caught:
            await rig.papers.file_bundle(TENANT, "DE", "local", "business", contents())
        assert caught.value.transient
        (left,), _ = await rig.store.read(filings.list_filings, TENANT, ["bundle"])
        assert (left.status, left.sid) == ("draft", None)
        assert "lost" in left.reason
    assert len(rig.sim.compliance.containers) == acted


async def test_names_of_people_are_not_in_the_store(rig):
    """Only SIDs."""
    await rig.papers.file_bundle(TENANT, "DE", "local", "business", contents())
    (filed,), _ = await rig.store.read(filings.list_filings, TENANT, ["bundle"])
    assert "Acme" not in repr(filed)
    assert "papers@" not in repr(filed)


def primary(rig):
    """The main account's own profile, made and approved by hand."""
    made = Container(
        "BU" + "a" * 32, ACCOUNT, "CustomerProfiles", "Primary", "x@example.com", PRIMARY_POLICY, "",
        datetime.now(UTC), status="twilio-approved",
    )  # fmt: skip
    rig.sim.compliance.containers[made.sid] = made
    return made


async def profile(rig):
    return await rig.trust.file_profile(
        TENANT,
        email="papers@example.com",
        business={"business_name": "Acme"},
        representatives=[{"first_name": "Ann", "last_name": "Example"}],
        address_sid="AD" + "1" * 32,
    )


async def test_trust_from_profile_to_signed_calls(rig):
    """Profile, approval, SHAKEN/STIR and CNAM, approval, a number on each; twice is once."""
    with pytest.raises(NumberProblem) as caught:
        await profile(rig)
    assert caught.value.missing[0].field == "primary_profile_sid"
    vouching = primary(rig)
    filed = await profile(rig)
    assert filed.status == "pending-review"
    assert vouching.sid in rig.sim.compliance.containers[filed.sid].assigned.values()
    with pytest.raises(NumberProblem, match="no approved customer profile"):
        await rig.trust.file_shaken_stir(TENANT, email="x@example.com")
    rig.sim.compliance.approve(filed.sid)
    await rig.papers.poll()
    shaken = await rig.trust.file_shaken_stir(TENANT, email="x@example.com")
    cnam = await rig.trust.file_cnam(TENANT, email="x@example.com", display_name="ACME")
    number = await rig.numbers.buy(TENANT, NumberWish(area_code="212"), intent_key="a")
    for product in (shaken, cnam):
        assert product.status == "pending-review"
        with pytest.raises(NumberProblem, match="not approved"):
            await rig.trust.connect(TENANT, product.id, number.id)
        rig.sim.compliance.approve(product.sid)
    await rig.papers.poll()
    for product in (shaken, cnam):
        for _ in range(2):
            connected = await rig.trust.connect(TENANT, product.id, number.e164 or "")
        assert {"sid": number.sid, "type": "phone-number"} in connected.items
        assert number.sid in rig.sim.compliance.containers[product.sid].endpoints.values()
    assert number.sid in rig.sim.compliance.containers[filed.sid].endpoints.values()


async def test_trust_cnam_takes_local_numbers_of_the_us_only(rig):
    """And a number has to be there."""
    primary(rig)
    filed = await profile(rig)
    rig.sim.compliance.approve(filed.sid)
    await rig.papers.poll()
    cnam = await rig.trust.file_cnam(TENANT, email="x@example.com", display_name="ACME")
    number = await rig.numbers.buy(TENANT, NumberWish("toll_free"), intent_key="a")
    for key, code in ((number.id, "invalid"), ("num_0", "not_found")):
        with pytest.raises(NumberProblem) as caught:
            await rig.trust.connect(TENANT, cnam.id, key)
        assert (caught.value.code, caught.value.field) == (code, "number")


async def test_geo_permissions_are_read_and_set_for_some_countries(rig):
    """Others stay as they are."""
    before = {one.country: one for one in await geo.permissions(rig.rest)}
    assert before["US"].low_risk
    assert not before["LV"].low_risk
    await geo.set_permissions(rig.rest, [Permission("LV", "", True, False, False)])
    after = {one.country: one for one in await geo.permissions(rig.rest)}
    assert (after["LV"].low_risk, after["LV"].high_risk_tollfraud) == (True, False)
    assert {k: v for k, v in after.items() if k != "LV"} == {
        k: v for k, v in before.items() if k != "LV"
    }
    assert await geo.inherits(rig.rest)
    await geo.set_inheritance(rig.rest, False)
    assert not await geo.inherits(rig.rest)


async def test_every_request_about_papers_is_documented_by_twilio(rig):
    """Against Twilio's own OpenAPI documents."""
    primary(rig)
    address = await addresses.create(rig.rest, BERLIN)
    await addresses.listed(rig.rest, 10)
    await rig.papers.file_bundle(TENANT, "DE", "local", "business", contents(address.sid or ""))
    filed = await profile(rig)
    rig.sim.compliance.approve(filed.sid)
    await rig.papers.poll()
    number = await rig.numbers.buy(TENANT, NumberWish(area_code="212"), intent_key="a")
    shaken = await rig.trust.file_shaken_stir(TENANT, email="x@example.com")
    rig.sim.compliance.approve(shaken.sid)
    await rig.papers.poll()
    await rig.trust.connect(TENANT, shaken.id, number.id)
    await geo.permissions(rig.rest)
    await geo.set_permissions(rig.rest, [Permission("GB", "", True, False, False)])
    await geo.set_inheritance(rig.rest, False)
    rig.assert_documented()
