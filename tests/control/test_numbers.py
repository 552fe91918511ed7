"""Numbers: bought once, adopted, checked, released; against the simulated Twilio."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from control.numbers import NumberProblem, NumberWish, buying
from control.numbers import service as service_module
from control.store import numbers as stored
from control.twilio import errors, rest
from tests.control.numbers_rig import WIRED, numbers_rig, rest_of

TENANT = "tnt_default"
NEW_YORK = NumberWish(area_code="212")
FIRST = "+12125550000"
SECOND = "+12125550001"


@pytest.fixture
async def rig(monkeypatch):
    monkeypatch.setattr(rest, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(buying, "SETTLE_POLL_S", 0.01)
    async with numbers_rig() as made:
        yield made


# ---- buying --------------------------------------------------------------------------------------


async def test_buy_wires_in_the_buying_request_and_once_for_an_intent(rig):
    """One search, one purchase with all URLs; the same intent again asks nobody."""
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a", label="Möbel & Co")
    again = await rig.again().buy(TENANT, NEW_YORK, intent_key="a")
    assert (record.status, record.e164, record.type, record.country) == (
        "active", FIRST, "local", "US",
    )  # fmt: skip
    assert rig.wired(FIRST) == WIRED
    assert again == record
    assert record.friendly_name == f"M bel Co {record.id}" == rig.sim.numbers[FIRST].friendly_name
    assert [m for m, _ in rig.sim.rest.requests] == ["GET", "POST"]


async def test_buy_two_intents_at_once_buy_two_numbers(rig):
    """Both see the same candidates; who comes second takes the next one."""
    got = {}

    async def one(key):
        got[key] = (await rig.numbers.buy(TENANT, NEW_YORK, intent_key=key)).e164

    async with trio.open_nursery() as nursery:
        for key in "abc":
            nursery.start_soon(one, key)
            nursery.start_soon(one, key)
    assert len(set(got.values())) == 3
    assert rig.bought() == sorted(got.values())


@pytest.mark.parametrize("snatched", [1, 3])
async def test_buy_takes_the_next_candidate_when_somebody_was_faster(rig, snatched):
    """21422 is no failure."""
    rig.sim.market.snatch_next = snatched
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    assert rig.bought() == [record.e164] == [f"+1212555{snatched:04d}"]
    assert rig.asked("GET", "Available") == 1


async def test_buy_searches_twice_and_then_gives_up(rig):
    """The candidates of a search are few, and searches are two."""
    rig.sim.market.snatch_next = buying.CANDIDATES_MAX + 1
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    assert rig.asked("GET", "Available") == 2
    rig.sim.market.snatch_next = 1_000
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.buy(TENANT, NEW_YORK, intent_key="b")
    assert (caught.value.code, caught.value.transient) == ("taken", True)
    assert rig.bought() == [record.e164]
    rig.sim.market.snatch_next = 0
    assert (await rig.numbers.buy(TENANT, NEW_YORK, intent_key="b")).status == "active"


async def test_buy_one_certain_number(rig):
    """`e164` means this one and no other."""
    wish = NumberWish(e164="+15125550003")
    assert (await rig.numbers.buy(TENANT, wish, intent_key="a")).e164 == "+15125550003"
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.buy(TENANT, wish, intent_key="b")
    assert (caught.value.code, caught.value.field) == ("taken", "e164")


@pytest.mark.parametrize("acted", [True, False])
@pytest.mark.parametrize("times", [1, 2])
async def test_buy_with_a_lost_answer_buys_one(rig, acted, times):
    """The connection breaks after or before Twilio acted: found by its name, or asked for again."""
    rig.sim.lose_answer("POST", "/IncomingPhoneNumbers", times, acted=acted)
    if acted or times == 1:
        record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    else:
        with pytest.raises(NumberProblem) as caught:
            await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
        assert (caught.value.code, caught.value.transient) == ("unreachable", True)
        record = await rig.again().buy(TENANT, NEW_YORK, intent_key="a")
    assert rig.bought() == [record.e164] == [FIRST]
    assert (record.attempt_e164, record.problem) == (None, None)


@pytest.mark.parametrize("acted", [True, False])
async def test_buy_killed_during_the_request_is_taken_up_and_buys_one(rig, acted):
    """Only the intent is in the store; the next process finds what was bought, or goes on."""
    rig.sim.delay("POST", "/IncomingPhoneNumbers", 30.0, acted=acted)
    with trio.move_on_after(0.5):
        await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    assert len(rig.bought()) == acted
    (left,), _ = await rig.store.read(stored.list_numbers)
    assert (left.status, left.attempt_e164) == ("buying", FIRST)
    record = await rig.again().buy(TENANT, NEW_YORK, intent_key="a")
    assert rig.bought() == [record.e164] == [FIRST]
    assert record.id == left.id
    assert rig.wired(FIRST) == WIRED


async def test_buy_a_request_still_on_its_way_is_waited_for(rig):
    """The number is not ours yet and not for sale any more: it may be our own request that has it."""
    now = datetime.now(UTC)
    await _interrupted(rig, attempt_at=now)
    rig.sim.market.sold_out.add("+1212")
    rig.sim.market.sold_out.add("+1212555")
    name = (await rig.store.read(stored.list_numbers))[0][0].friendly_name

    async def arrives_late():
        await trio.sleep(0.2)
        rig.sim.number_for(FIRST).friendly_name = name

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrives_late)
        record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    assert record.e164 == FIRST
    assert rig.bought() == [FIRST]


async def test_buy_a_request_that_came_to_nothing_is_waited_for_no_longer_than_twilio_takes(
    rig, monkeypatch
):
    """Then the next candidate is asked for."""
    monkeypatch.setattr(buying, "SETTLE_S", 0.1)
    await _interrupted(rig, attempt_at=datetime.now(UTC) - timedelta(seconds=60))
    rig.sim.market.sold_out.add(FIRST)
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    assert rig.bought() == [record.e164] == [SECOND]


async def _interrupted(rig, **columns):
    """An intent as a killed process leaves it."""
    intent = buying.intent(
        datetime.now(UTC), TENANT, NEW_YORK, "a", agent_id=None, label="Front desk"
    )
    await rig.store.write(stored.begin, intent)
    await rig.store.write(stored.update, intent.id, attempt_e164=FIRST, **columns)
    return intent


@pytest.mark.parametrize("was_bought", [True, False])
async def test_sweep_finds_what_nobody_took_up_and_buys_nothing(rig, was_bought):
    """A purchase over the API whose process was killed: paid for, so it has to be in the list."""
    long_ago = datetime.now(UTC) - timedelta(seconds=service_module.INTERRUPTED_AFTER_S + 1)
    intent = await _interrupted(rig, attempt_at=long_ago, updated_at=long_ago)
    if was_bought:
        rig.sim.number_for(FIRST).friendly_name = intent.friendly_name
    await rig.numbers.sweep()
    await rig.numbers.sweep()
    record = await rig.numbers.get(TENANT, intent.id)
    assert record.status == ("active" if was_bought else "failed")
    assert rig.asked("POST", "IncomingPhoneNumbers") == 0
    assert rig.asked("GET", "IncomingPhoneNumbers") == 1


async def test_sweep_leaves_purchases_alone_that_are_under_way(rig):
    """They may belong to another process."""
    now = datetime.now(UTC)
    intent = await _interrupted(rig, attempt_at=now, updated_at=now)
    await rig.numbers.sweep()
    assert (await rig.numbers.get(TENANT, intent.id)).status == "buying"
    assert rig.sim.rest.requests == []


async def test_buy_refused_by_twilio_is_failed_with_advice_and_may_be_tried_again(rig):
    """A trial account: the same intent works once that is settled."""
    rig.sim.fail_next("POST", "/IncomingPhoneNumbers", 400, 21404, message="Trial account")
    with pytest.raises(NumberProblem, match="upgrade the Twilio account") as caught:
        await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    assert (caught.value.code, caught.value.twilio_code, caught.value.transient) == (
        "refused", 21404, False,
    )  # fmt: skip
    (left,), _ = await rig.store.read(stored.list_numbers)
    assert (left.status, left.problem["twilio_code"], left.attempt_e164) == ("failed", 21404, None)
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    assert (record.id, record.status, record.problem) == (left.id, "active", None)


async def test_buy_released_since_is_over(rig):
    """An intent is fulfilled once."""
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    await rig.numbers.release(TENANT, record.id)
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    assert caught.value.code == "over"


async def test_buy_one_that_can_send_messages(rig):
    """Landlines of some countries cannot: that is said instead of bought."""
    landline = NumberWish(country="GB", sms=True)
    assert await rig.numbers.search(TENANT, landline) == []
    assert await rig.numbers.search(TENANT, NumberWish("mobile", "GB", sms=True))
    with pytest.raises(NumberProblem, match="with sms now") as caught:
        await rig.numbers.buy(TENANT, landline, intent_key="a")
    assert (caught.value.code, caught.value.field) == ("none_available", "sms")
    assert (await rig.numbers.buy(TENANT, NumberWish(sms=True), intent_key="b")).capabilities["sms"]


# ---- what is missing -----------------------------------------------------------------------------


async def test_buy_sold_out_area_code_names_the_field_and_neighbours(rig):
    """Nothing in 843: 854 is next door."""
    rig.sim.market.sold_out.add("+1843")
    wish = NumberWish(area_code="843")
    with pytest.raises(NumberProblem, match="854") as caught:
        await rig.numbers.buy(TENANT, wish, intent_key="a")
    problem = caught.value
    assert (problem.code, problem.field, problem.transient) == (
        "none_available",
        "area_code",
        False,
    )
    assert problem.nearby == ("854",)
    assert problem.as_json()["nearby"][0] == {
        "area_code": "854", "region": "SC", "locality": "Summerville",
    }  # fmt: skip


async def test_buy_what_twilio_does_not_sell_says_what_it_sells(rig):
    """`US/Mobile` is a 404, and a country may be none of Twilio's."""
    with pytest.raises(NumberProblem, match="local, toll_free") as caught:
        await rig.numbers.buy(TENANT, NumberWish("mobile"), intent_key="a")
    assert (caught.value.code, caught.value.field) == ("not_sold", "type")
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.search(TENANT, NumberWish(country="FR"))
    assert (caught.value.code, caught.value.field) == ("not_sold", "country")


async def test_buy_where_an_address_is_wanted_says_so_before_it_buys(rig):
    """GB: an address, in whichever country."""
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.buy(TENANT, NumberWish("mobile", "GB"), intent_key="a")
    assert caught.value.code == "requirements_missing"
    assert [(item.field, item.name) for item in caught.value.missing] == [
        ("address_sid", "Address: an address, in whichever country")
    ]
    assert rig.asked("POST", "IncomingPhoneNumbers") == 0


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (NumberWish(country="UK"), "country"),
        (NumberWish(country="XX"), "country"),
        (NumberWish(area_code="099"), "area_code"),
        (NumberWish(area_code="999"), "area_code"),
        (NumberWish(area_code="416"), "area_code"),
        (NumberWish(area_code="800"), "area_code"),
        (NumberWish("toll_free", area_code="212"), "area_code"),
        (NumberWish(country="DE", area_code="030"), "area_code"),
        (NumberWish(contains="1"), "contains"),
        (NumberWish(contains="12-34"), "contains"),
        (NumberWish(region="Texas"), "region"),
        (NumberWish(country="DE", region="BE"), "region"),
        (NumberWish(bundle_sid="BU1"), "bundle_sid"),
        (NumberWish(address_sid="BU" + "1" * 32), "address_sid"),
        (NumberWish(e164="12125550000"), "e164"),
        (NumberWish(e164="+1212555"), "e164"),
        (NumberWish(e164="+999555123456"), "e164"),
        (NumberWish(e164="+493056000001"), "e164"),
    ],
)
async def test_wish_that_is_wrong_names_its_field_and_asks_nobody(rig, wish, field):
    """Bad input is found before Twilio is asked."""
    with pytest.raises(NumberProblem, match=f"^{field}: ") as caught:
        await rig.numbers.buy(TENANT, wish, intent_key="a")
    assert (caught.value.code, caught.value.field) == ("invalid", field)
    assert rig.sim.rest.requests == []


async def test_wish_of_a_north_american_toll_free_number_is_of_both_countries(rig):
    """+1 833 belongs to the US and to Canada."""
    wish = NumberWish("toll_free", "US", area_code="833", contains="5550003")
    assert (await rig.numbers.buy(TENANT, wish, intent_key="a")).e164 == "+18335550003"
    assert await rig.numbers.search(TENANT, NumberWish("toll_free", "CA", area_code="866"))


# ---- numbers that are there ----------------------------------------------------------------------


async def test_adopt_wires_and_twice_is_once(rig):
    """What stands in the way of the URLs is cleared."""
    number = rig.sim.number_for("+14155550199")
    number.voice_application_sid = "AP" + "1" * 32
    number.voice_url = "https://old.example.com"
    record = await rig.numbers.adopt(TENANT, "+14155550199", agent_id="agt_1")
    again = await rig.numbers.adopt(TENANT, "+14155550199")
    assert rig.wired("+14155550199") == WIRED
    assert number.voice_application_sid == ""
    assert (record.origin, record.country, record.sid) == ("adopted", "US", number.sid)
    assert (again.id, again.agent_id) == (record.id, "agt_1")
    assert rig.asked("POST", "IncomingPhoneNumbers") == 1


async def test_adopt_what_the_account_does_not_own(rig):
    """Not bought on the way."""
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.adopt(TENANT, FIRST)
    assert (caught.value.code, caught.value.field) == ("not_owned", "e164")
    assert rig.bought() == []


async def test_adopt_the_number_of_another_agent_is_refused(rig):
    """One number, one agent."""
    rig.sim.number_for(FIRST)
    other = await rig.add_agent(FIRST)
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.adopt(TENANT, FIRST, agent_id="agt_new")
    assert (caught.value.code, caught.value.holder) == ("in_use", other.id)
    assert (await rig.numbers.adopt(TENANT, FIRST, agent_id=other.id)).agent_id == other.id
    with pytest.raises(NumberProblem):
        await rig.numbers.assign(TENANT, FIRST, "agt_new")


async def test_check_of_what_is_right_changes_nothing(rig):
    """One look."""
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    rig.sim.rest.requests.clear()
    checked = await rig.numbers.check(TENANT, record.id)
    assert (checked.status, checked.mended) == ("in-use", ())
    assert [m for m, _ in rig.sim.rest.requests] == ["GET"]
    assert checked.record.checked_at is not None


async def test_check_mends_what_was_changed_by_hand_and_says_what(rig):
    """URLs, methods, and what goes before them."""
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    number = rig.sim.numbers[FIRST]
    number.voice_url, number.sms_method = "https://other.example.com", "GET"
    number.trunk_sid = "TK" + "1" * 32
    checked = await rig.numbers.check(TENANT, FIRST)
    assert set(checked.mended) == {"voice_url", "sms_method", "trunk_sid"}
    assert set(checked.was) == set(checked.now) == set(checked.mended)
    assert checked.was["sms_method"] != checked.now["sms_method"]
    assert rig.wired(FIRST) == WIRED
    assert number.trunk_sid == ""
    kept = await rig.numbers.get(TENANT, record.id)
    assert set(kept.mended) == set(checked.mended)
    assert (await rig.numbers.check(TENANT, FIRST)).mended == ()
    assert set((await rig.numbers.get(TENANT, record.id)).mended) == set(checked.mended)


async def test_check_finds_that_a_number_has_gone_and_come_back(rig):
    """Released by hand at Twilio; bought again by hand it has another SID."""
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    del rig.sim.numbers[FIRST]
    gone = await rig.numbers.check(TENANT, record.id)
    assert (gone.status, gone.record.status) == ("gone", "gone")
    again = rig.sim.number_for(FIRST)
    back = await rig.numbers.check(TENANT, record.id)
    assert (back.status, back.record.status, back.record.sid) == ("in-use", "active", again.sid)
    assert "voice_url" in back.mended


async def test_release_is_refused_while_an_agent_has_the_number_unless_forced(rig):
    """An agent that is closed does not count."""
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    holder = await rig.add_agent(FIRST)
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.release(TENANT, FIRST)
    assert (caught.value.code, caught.value.holder) == ("in_use", holder.id)
    assert rig.bought() == [FIRST]
    released = await rig.numbers.release(TENANT, FIRST, force=True)
    again = await rig.numbers.release(TENANT, record.id)
    assert rig.bought() == []
    assert (released.status, again.status) == ("released", "released")
    assert (await rig.numbers.check(TENANT, record.id)).status == "released"


async def test_release_of_what_is_gone_already_is_what_was_wanted(rig):
    """404 on DELETE."""
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    rig.sim.numbers.clear()
    assert (await rig.numbers.release(TENANT, record.id)).status == "released"


async def test_released_number_can_be_bought_again_by_another_intent(rig):
    """A second row, and the E.164 means the active one."""
    first = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    await rig.numbers.release(TENANT, first.id)
    second = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="b")
    assert (second.e164, first.e164) == (FIRST, FIRST)
    assert (await rig.numbers.get(TENANT, FIRST)).id == second.id


async def test_another_tenants_number_is_not_there(rig):
    """By id and by E.164."""
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    for key in (record.id, FIRST):
        with pytest.raises(NumberProblem) as caught:
            await rig.numbers.get("tnt_other", key)
        assert caught.value.code == "not_found"


async def test_twilio_that_cannot_be_reached_is_transient(rig):
    """And a key that is refused is not, and says where to look."""
    rig.access.rest = rest_of(rig.sim, token="wrong")
    with pytest.raises(NumberProblem, match=r"twilio\.auth_token") as caught:
        await rig.numbers.search(TENANT, NEW_YORK)
    assert (caught.value.code, caught.value.transient) == ("refused", False)
    rig.access.rest.close()
    rig.access.rest = rig.rest
    rig.sim.fail_next("GET", "/AvailablePhoneNumbers", 500, times=5)
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.search(TENANT, NEW_YORK)
    assert (caught.value.code, caught.value.transient) == ("unreachable", True)


async def test_every_request_about_numbers_is_documented_by_twilio(rig):
    """Search, purchase, look, repair, release: against Twilio's own OpenAPI document."""
    record = await rig.numbers.buy(
        TENANT, NumberWish(area_code="512", contains="555", locality="Austin", region="tx"), intent_key="a"
    )  # fmt: skip
    rig.sim.numbers[record.e164].voice_url = ""
    await rig.numbers.check(TENANT, record.id)
    await rig.numbers.release(TENANT, record.id)
    rig.sim.market.sold_out.add("+1843")
    with pytest.raises(NumberProblem):
        await rig.numbers.buy(TENANT, NumberWish(area_code="843"), intent_key="b")
    rig.sim.number_for(FIRST)
    await rig.numbers.adopt(TENANT, FIRST)
    rig.assert_documented()


def test_every_failure_of_the_client_has_a_problem():
    """Nothing of Twilio's passes through unnamed."""
    from control.numbers import refusals

    for error in (
        errors.TwilioRefused(429, 20429, "slow down"),
        errors.TwilioUnreachable("no"),
        errors.TwilioUncertain("lost"),
    ):
        assert refusals.of(error).transient
    assert not refusals.of(errors.TwilioRefused(400, 21404, "trial")).transient


async def test_numbers_of_a_subaccount_are_its_own_and_may_be_moved_there(rig):
    """A tenant's client sees its own numbers; the main account's come over only when that is asked for."""
    made = rig.rest.client.api.v2010.accounts.create
    account = await rig.rest.ask("accounts.create", lambda: made(friendly_name="Acme"))
    theirs = rest_of(rig.sim, account.sid, account.auth_token)
    rig.access.others["tnt_default"] = theirs
    record = await rig.numbers.buy(TENANT, NEW_YORK, intent_key="a")
    assert rig.sim.numbers[FIRST].account_sid == account.sid
    main = rig.sim.number_for("+14155550199")
    with pytest.raises(NumberProblem) as caught:
        await rig.numbers.adopt(TENANT, "+14155550199")
    assert caught.value.code == "not_owned"
    moved = await rig.numbers.adopt(TENANT, "+14155550199", may_move=True)
    assert (main.account_sid, moved.sid) == (account.sid, main.sid)
    assert rig.wired("+14155550199") == WIRED
    assert (await rig.numbers.check(TENANT, record.id)).status == "in-use"
    theirs.close()
