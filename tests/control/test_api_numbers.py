"""`/v2/numbers` over HTTP, a real store and the simulated Twilio."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import insert

from control.numbers import buying
from control.store import rows, tenant_keys
from control.store.records import TenantKeyRecord, TenantRecord
from control.store.tables.core import tenants
from control.tenants import keys
from control.twilio import rest
from tests.control.api_rig import Rig
from tests.control.numbers_rig import WIRED, numbers_rig

FIRST = "+12125550000"
WISH = {"area_code": "212"}


class ApiRig(Rig):
    """The API with numbers behind it."""

    def __init__(self, beneath) -> None:
        super().__init__(beneath.store, numbers=beneath.numbers)
        self.beneath = beneath
        self.sim = beneath.sim


@pytest.fixture
async def rig(monkeypatch):
    monkeypatch.setattr(rest, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(buying, "SETTLE_POLL_S", 0.01)
    async with numbers_rig() as beneath:
        yield ApiRig(beneath)


async def tenant_with_key(rig, tenant_id="tnt_other"):
    """Another tenant, and a key that may do everything of it."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    secret = keys.new_key()
    key = TenantKeyRecord(
        id="key_1",
        tenant_id=tenant_id,
        name="all",
        prefix=keys.prefix(secret),
        digest=keys.digest(secret),
        scopes=[keys.TENANT],
        created_at=now,
    )

    def add(conn):
        record = TenantRecord(tenant_id, "Other", "active", now, now)
        conn.execute(insert(tenants).values(rows.values(record)))
        tenant_keys.insert(conn, key)

    await rig.store.write(add)
    return secret


async def test_search_shows_what_is_for_sale(rig):
    """A list like all others."""
    found = await rig.ask("GET", "/v2/numbers/available?area_code=843&limit=2")
    assert found.status == 200
    assert [item["e164"] for item in found.json["items"]] == ["+18435550000", "+18435550001"]
    assert found.json["items"][0] == {
        "e164": "+18435550000",
        "type": "local",
        "country": "US",
        "region": "SC",
        "locality": "Charleston",
        "postal_code": "29401",
        "address_requirements": "none",
        "beta": False,
        "capabilities": {"voice": True, "sms": True, "mms": True},
    }
    assert found.json["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "kind", "field"),
    [
        ("country=UK", "invalid", "country"),
        ("country=USA", "invalid", "country"),
        ("type=voip", "invalid", "type"),
        ("area_code=999", "invalid", "area_code"),
        ("contains=!", "invalid", "contains"),
        ("limit=0", "invalid", "limit"),
        ("colour=red", "invalid", "colour"),
        ("type=mobile", "no-such-numbers", "type"),
        ("country=FR", "no-such-numbers", "country"),
    ],
)
async def test_search_with_bad_input_names_the_field(rig, query, kind, field):
    """422, never an empty list that hides a mistake."""
    answered = await rig.ask("GET", f"/v2/numbers/available?{query}")
    assert answered.status == 422
    assert answered.problem()["type"] == f"/docs#problem-{kind}"
    assert answered.fields() == [field]


async def test_buy_list_show_release(rig):
    """The life of a number."""
    made = await rig.ask("POST", "/v2/numbers", WISH | {"label": "Front desk"})
    assert made.status == 201, made.raw
    number = made.json
    assert (number["e164"], number["status"], number["origin"]) == (FIRST, "active", "bought")
    assert made.headers["Location"] == f"/v2/numbers/{number['id']}"
    assert rig.beneath.wired(FIRST) == WIRED
    listed = (await rig.ask("GET", "/v2/numbers?status=active")).json["items"]
    assert [item["id"] for item in listed] == [number["id"]]
    for key in (number["id"], FIRST, FIRST.replace("+", "%2B")):
        assert (await rig.ask("GET", f"/v2/numbers/{key}")).json["id"] == number["id"]
    rig.sim.numbers[FIRST].voice_url = "https://other.example.com"
    fresh = (await rig.ask("GET", f"/v2/numbers/{FIRST}?refresh=true")).json
    assert (fresh["mended"], fresh["status"]) == (["voice_url"], "active")
    gone = await rig.ask("DELETE", f"/v2/numbers/{number['id']}")
    assert (gone.status, gone.json["status"]) == (200, "released")
    assert rig.sim.numbers == {}


async def test_buy_repeated_with_its_key_buys_one(rig):
    """Also when the first try failed, and when the first answer was lost at Twilio."""
    headers = {"Idempotency-Key": "k1"}
    rig.sim.lose_answer("POST", "/IncomingPhoneNumbers", 2, acted=False)
    first = await rig.ask("POST", "/v2/numbers", WISH, headers=headers)
    assert first.status == 503
    assert first.headers["Retry-After"] == "5"
    second = await rig.ask("POST", "/v2/numbers", WISH, headers=headers)
    third = await rig.ask("POST", "/v2/numbers", WISH, headers=headers)
    assert (second.status, third.json) == (201, second.json)
    assert rig.beneath.bought() == [FIRST]


async def test_buy_where_nothing_is_left_suggests_neighbours(rig):
    """A clear 422."""
    rig.sim.market.sold_out.add("+1843")
    answered = await rig.ask("POST", "/v2/numbers", {"area_code": "843"})
    assert answered.status == 422
    assert answered.fields() == ["area_code"]
    assert answered.problem()["nearby"] == [
        {"area_code": "854", "region": "SC", "locality": "Summerville"}
    ]


async def test_buy_where_papers_are_wanted_lists_what_is_missing(rig):
    """GB wants an address; the same request with one buys."""
    wish = {"country": "GB", "type": "mobile"}
    answered = await rig.ask("POST", "/v2/numbers", wish)
    assert answered.status == 422
    assert answered.problem()["type"] == "/docs#problem-requirements-missing"
    (missing,) = answered.problem()["missing"]
    assert (missing["field"], answered.fields()) == ("address_sid", ["address_sid"])
    from bench.sim_twilio.addresses_resource import Address

    address = Address("Acme", "1 High St", "London", "LND", "N1 9GU", "GB")
    rig.sim.addresses[address.sid] = address
    made = await rig.ask("POST", "/v2/numbers", wish | {"address_sid": address.sid})
    assert made.status == 201, made.raw
    assert (made.json["country"], made.json["address_sid"]) == ("GB", address.sid)


async def test_buy_refused_by_twilio_shows_its_code(rig):
    """502, and nothing was bought."""
    rig.sim.fail_next("POST", "/IncomingPhoneNumbers", 400, 21404, message="Trial account")
    answered = await rig.ask("POST", "/v2/numbers", WISH)
    assert answered.status == 502
    assert answered.problem()["twilio"]["code"] == 21404
    failed = (await rig.ask("GET", "/v2/numbers?status=failed")).json["items"][0]
    assert failed["problem"]["code"] == "refused"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"e164": "12125550000"}, 422, "e164"),
        ({"e164": "+1212555"}, 422, "e164"),
        ({"e164": "+14155550100"}, 422, "e164"),
        ({"e164": "+14155550100", "buy": True, "country": "GB"}, 422, "country"),
        ({"country": "Germany"}, 422, "country"),
        ({"bundle_sid": "x"}, 422, "bundle_sid"),
        ({"may_move": True}, 422, "may_move"),
        ({"tenant_id": "tnt_nobody"}, 422, "tenant_id"),
        ({"sort": 1}, 422, "sort"),
    ],
)
async def test_create_with_bad_input_names_the_field(rig, body, status, field):
    """Nothing is asked of Twilio but, for a number to adopt, whether it is ours."""
    answered = await rig.ask("POST", "/v2/numbers", body)
    assert answered.status == status
    assert answered.fields()[0] in (field, "e164")
    assert rig.beneath.asked("POST", "") == 0


async def test_adopt_and_release_of_a_number_with_an_agent(rig):
    """409 that names the agent; `force` says that one means it."""
    rig.sim.number_for(FIRST)
    made = await rig.ask("POST", "/v2/numbers", {"e164": FIRST})
    assert (made.status, made.json["origin"]) == (201, "adopted")
    holder = await rig.beneath.add_agent(FIRST)
    kept = await rig.ask("DELETE", f"/v2/numbers/{FIRST}")
    assert (kept.status, kept.problem()["agent_id"]) == (409, holder.id)
    forced = await rig.ask("DELETE", f"/v2/numbers/{FIRST}?force=true")
    assert forced.json["status"] == "released"


async def test_another_tenants_numbers_are_not_there(rig):
    """Neither in the list, nor by id, nor by number, nor to be released, nor to be adopted."""
    key = await tenant_with_key(rig)
    number = (await rig.ask("POST", "/v2/numbers", WISH)).json
    assert (await rig.ask("GET", "/v2/numbers", key=key)).json["items"] == []
    for path in (f"/v2/numbers/{number['id']}", f"/v2/numbers/{FIRST}"):
        for method in ("GET", "DELETE"):
            mine = await rig.ask(method, path.replace(number["id"], "num_0"), key=key)
            theirs = await rig.ask(method, path, key=key)
            assert (theirs.status, mine.status) == (404, 404)
    adopted = await rig.ask("POST", "/v2/numbers", {"e164": FIRST}, key=key)
    assert (adopted.status, adopted.problem().get("agent_id")) == (409, None)
    moved = await rig.ask("POST", "/v2/numbers", {"e164": FIRST, "may_move": True}, key=key)
    assert moved.fields() == ["may_move"]
    for asked in ("?tenant_id=tnt_default", "/available?tenant_id=tnt_default"):
        assert (await rig.ask("GET", "/v2/numbers" + asked, key=key)).status == 404
    assert rig.beneath.bought() == [FIRST]


async def test_unknown_number_is_404(rig):
    """By id and by E.164."""
    for key in ("num_0", FIRST):
        assert (await rig.ask("GET", f"/v2/numbers/{key}")).status == 404
        assert (await rig.ask("DELETE", f"/v2/numbers/{key}")).status == 404
