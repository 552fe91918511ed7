"""Numbers for sale and owned, in the simulated Twilio, seen through the official SDK."""

from __future__ import annotations

import json
from functools import partial

import pytest
import trio
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client

from bench.sim_twilio import TwilioSim
from tests import provider_specs
from tests.bench.test_sim_twilio_sockets import Redirected
from tests.bench.tiny_gateway import ACCOUNT, OURS, TOKEN


@pytest.fixture
async def sim():
    made = TwilioSim(ACCOUNT, TOKEN, [OURS])
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            yield made
            nursery.cancel_scope.cancel()


@pytest.fixture
def sdk(sim):
    http = Redirected(sim.base_url, timeout=5.0)
    yield Client(ACCOUNT, TOKEN, http_client=http)
    http.session.close()


async def run(function, *args, **kwargs):
    return await trio.to_thread.run_sync(partial(function, *args, **kwargs))


def assert_documented(sim):
    """Everything that was asked and answered so far is in Twilio's documents."""
    for request, response in sim.rest.exchanges:
        assert not provider_specs.faults_of(
            request.method, request.target, request.body, response.status, response.body
        )


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"area_code": 212, "limit": 3}, ["+12125550000", "+12125550001", "+12125550002"]),
        ({"contains": "+1843*550003", "limit": 5}, ["+18435550003"]),
        ({"contains": "AUS", "limit": 1}, []),
        ({"contains": "JJJ***7", "area_code": 512, "limit": 1}, ["+15125550007"]),
        ({"in_region": "SC", "limit": 3}, ["+18435550000", "+18545550000", "+18035550000"]),
        ({"in_locality": "Austin", "limit": 1}, ["+15125550000"]),
        ({"near_number": "+18435550100", "limit": 2}, ["+18435550000", "+18545550000"]),
        ({"near_lat_long": "34.0,-81.0", "limit": 1}, ["+18035550000"]),
        ({"fax_enabled": True}, []),
    ],
)  # fmt: skip
async def test_search_filters_find_what_they_name(sim, sdk, filters, expected):
    """Each documented filter narrows the search."""
    found = await run(sdk.available_phone_numbers("US").local.list, **filters)
    assert [number.phone_number for number in found] == expected


async def test_search_finds_no_owned_and_no_sold_out_number(sim, sdk):
    """Owned numbers are not for sale, and a prefix can be sold out."""
    sim.number_for("+12125550000")
    first = await run(sdk.available_phone_numbers("US").local.list, area_code=212, limit=1)
    sim.market.sold_out.add("+1212")
    none = await run(sdk.available_phone_numbers("US").local.list, area_code=212)
    assert [number.phone_number for number in first] == ["+12125550001"]
    assert none == []


@pytest.mark.parametrize(
    ("country", "kind"), [("US", "mobile"), ("ZZ", "local"), ("DE", "toll_free")]
)
async def test_search_of_what_is_not_sold_is_404(sim, sdk, country, kind):
    """`US/Mobile` does not exist at Twilio."""
    with pytest.raises(TwilioException, match="fetch page") as caught:
        await run(getattr(sdk.available_phone_numbers(country), kind).list, limit=1)
    response = caught.value.args[1]
    assert (response.status_code, json.loads(response.text)["code"]) == (404, 20404)


@pytest.mark.parametrize(
    "bad",
    [
        {"contains": "1"},
        {"contains": "1" * 17},
        {"contains": "12-34"},
        {"distance": 501},
        {"in_rate_center": "AUSTIN"},
        {"in_region": "Texas"},
    ],
)
async def test_search_with_a_bad_value_is_400(sim, sdk, bad):
    """The limits of the filters."""
    with pytest.raises(TwilioException, match="fetch page") as caught:
        await run(sdk.available_phone_numbers("US").local.list, limit=1, **bad)
    assert caught.value.args[1].status_code == 400


async def test_countries_name_the_types_sold_there(sim, sdk):
    """The sub-resources say what can be searched."""
    listed = await run(sdk.available_phone_numbers.list)
    germany = await run(sdk.available_phone_numbers("DE").fetch)
    assert {country.country_code for country in listed} == {"US", "CA", "GB", "DE"}
    assert set(germany.subresource_uris) == {"local", "mobile"}


async def test_purchase_in_a_country_that_wants_papers(sim, sdk):
    """Bundle, then address, then an address in that country: one code for each."""
    address = partial(
        sdk.addresses.create,
        customer_name="Acme",
        street="1 Main St",
        city="Town",
        region="BE",
        postal_code="10115",
    )
    (offer,) = await run(sdk.available_phone_numbers("DE").local.list, limit=1)
    assert offer.address_requirements == "local"
    buy = partial(sdk.incoming_phone_numbers.create, phone_number=offer.phone_number)
    codes = []

    async def refused(**given):
        with pytest.raises(TwilioRestException) as caught:
            await run(buy, **given)
        codes.append(caught.value.code)

    bundle = "BU" + "1" * 32
    await refused()
    await refused(bundle_sid=bundle)
    sim.approved_bundles.add(bundle)
    await refused(bundle_sid=bundle)
    foreign = await run(address, iso_country="FR")
    await refused(bundle_sid=bundle, address_sid=foreign.sid)
    local = await run(address, iso_country="DE", friendly_name="HQ")
    bought = await run(buy, bundle_sid=bundle, address_sid=local.sid)
    assert codes == [21649, 21649, 21631, 21615]
    assert (bought.phone_number, bought.type) == (offer.phone_number, "local")
    assert [a.sid for a in await run(sdk.addresses.list, friendly_name="HQ")] == [local.sid]


async def test_purchase_that_comes_too_late_is_21422_and_the_number_is_gone(sim, sdk):
    """Search and purchase are not one act."""
    sim.market.snatch_next = 1
    buy = partial(sdk.incoming_phone_numbers.create, phone_number="+12125550000")
    for _ in range(2):
        with pytest.raises(TwilioRestException) as caught:
            await run(buy)
        assert caught.value.code == 21422
    found = await run(sdk.available_phone_numbers("US").local.list, area_code=212, limit=1)
    assert found[0].phone_number == "+12125550001"


async def test_what_the_simulator_says_is_what_twilio_documents(sim, sdk):
    """Requests of the SDK and answers of the simulator, against Twilio's OpenAPI documents."""
    provider_specs.twilio_specs()
    await run(sdk.available_phone_numbers("GB").mobile.list, limit=2, voice_enabled=True)
    await run(sdk.available_phone_numbers("US").toll_free.list, limit=2)
    await run(sdk.available_phone_numbers("US").fetch)
    bought = await run(
        sdk.incoming_phone_numbers.create,
        phone_number="+12125550007",
        friendly_name="desk",
        voice_url="https://gw.example.com/twilio/voice",
        sms_url="https://gw.example.com/twilio/sms",
    )
    await run(sdk.incoming_phone_numbers(bought.sid).update, voice_url="")
    await run(sdk.incoming_phone_numbers.list, friendly_name="desk")
    await run(sdk.incoming_phone_numbers(bought.sid).delete)
    assert len(sim.rest.exchanges) == 7
    assert_documented(sim)
