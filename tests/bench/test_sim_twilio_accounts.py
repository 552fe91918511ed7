"""The simulated Twilio's accounts and keys, asked by the official client over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from bench.sim_twilio import TwilioSim
from control.twilio.transport import Transport

MAIN = "AC" + "0" * 32
TOKEN = "main-token"


@pytest.fixture
async def sim(nursery: trio.Nursery) -> AsyncIterator[TwilioSim]:
    simulated = TwilioSim(MAIN, TOKEN, ["+14155550199"], api_keys={"SK1": "main-secret"})
    await nursery.start(simulated.run)
    yield simulated
    nursery.cancel_scope.cancel()


def client(sim: TwilioSim, user: str = MAIN, password: str = TOKEN, account: str = MAIN) -> Client:
    return Client(
        user, password, account, http_client=Transport(sim.base_url, 5.0), environment={"X": "1"}
    )


async def run(request: Callable[[], Any]) -> Any:
    return await trio.to_thread.run_sync(request)


async def refusal(request: Callable[[], Any]) -> tuple[int, int]:
    with pytest.raises(TwilioRestException) as refused:
        await run(request)
    return refused.value.status, refused.value.code


async def test_subaccount_created_is_listed_by_its_exact_name(sim: TwilioSim) -> None:
    """The name is what a client that was killed finds its account by again."""
    main = client(sim)
    made = await run(lambda: main.api.v2010.accounts.create(friendly_name="Dental tnt_1"))
    assert made.sid.startswith("AC")
    assert (made.status, made.owner_account_sid) == ("active", MAIN)
    assert len(made.auth_token) == 32
    found = await run(lambda: main.api.v2010.accounts.list(friendly_name="Dental tnt_1"))
    assert [one.sid for one in found] == [made.sid]
    assert await run(lambda: main.api.v2010.accounts.list(friendly_name="Dental")) == []


async def test_key_acts_in_its_account_alone(sim: TwilioSim) -> None:
    """Not in the main account, not in a sister, not on accounts and keys."""
    main = client(sim)
    one = await run(lambda: main.api.v2010.accounts.create(friendly_name="one"))
    two = await run(lambda: main.api.v2010.accounts.create(friendly_name="two"))
    key = await run(lambda: main.api.v2010.accounts(one.sid).new_keys.create(friendly_name="k"))
    assert key.secret
    mine = client(sim, key.sid, key.secret, one.sid)
    assert await run(lambda: mine.incoming_phone_numbers.list()) == []
    sister = client(sim, key.sid, key.secret, two.sid)
    assert (await refusal(sister.calls("CA1").fetch))[0] == 404
    assert (await refusal(client(sim, key.sid, key.secret).calls("CA1").fetch))[0] == 404
    assert await refusal(mine.api.v2010.accounts(one.sid).fetch) == (401, 20003)
    assert await refusal(
        lambda: mine.api.v2010.accounts(one.sid).new_keys.create(friendly_name="x")
    ) == (401, 20003)


async def test_key_deleted_is_refused(sim: TwilioSim) -> None:
    """Its secret is shown once, its deletion works at once."""
    main = client(sim)
    one = await run(lambda: main.api.v2010.accounts.create(friendly_name="one"))
    keys = main.api.v2010.accounts(one.sid)
    key = await run(lambda: keys.new_keys.create(friendly_name="k"))
    assert [item.sid for item in await run(lambda: keys.keys.list())] == [key.sid]
    assert not hasattr(await run(keys.keys(key.sid).fetch), "secret")
    assert await run(keys.keys(key.sid).delete)
    mine = client(sim, key.sid, key.secret, one.sid)
    assert await refusal(mine.calls("CA1").fetch) == (401, 20003)
    assert await refusal(keys.keys(key.sid).delete) == (404, 20404)


async def test_account_suspended_does_nothing_and_closed_stays_closed(sim: TwilioSim) -> None:
    """20005 while it is suspended; 21479 for any change afterwards; the main one has no status to change."""
    main = client(sim)
    one = await run(lambda: main.api.v2010.accounts.create(friendly_name="one"))
    account = main.api.v2010.accounts(one.sid)
    await run(lambda: account.update(status="suspended"))
    mine = client(sim, one.sid, one.auth_token, one.sid)
    assert await refusal(mine.calls("CA1").fetch) == (403, 20005)
    await run(lambda: account.update(status="active"))
    assert (await refusal(mine.calls("CA1").fetch))[0] == 404
    await run(lambda: account.update(status="closed"))
    assert await refusal(lambda: account.update(status="active")) == (400, 21479)
    assert await refusal(lambda: main.api.v2010.accounts(MAIN).update(status="closed")) == (
        400,
        21477,
    )
    assert await refusal(lambda: account.update(status="open")) == (400, 21475)


async def test_main_account_acts_in_a_subaccount_and_moves_numbers_there(sim: TwilioSim) -> None:
    """With the token of the main account; the number is then the subaccount's alone."""
    main = client(sim)
    one = await run(lambda: main.api.v2010.accounts.create(friendly_name="one"))
    number = (await run(lambda: main.incoming_phone_numbers.list()))[0]
    await run(lambda: main.incoming_phone_numbers(number.sid).update(account_sid=one.sid))
    assert await run(lambda: main.incoming_phone_numbers.list()) == []
    theirs = client(sim, account=one.sid)
    assert [n.sid for n in await run(lambda: theirs.incoming_phone_numbers.list())] == [number.sid]


async def test_undocumented_parameter_of_accounts_is_400(sim: TwilioSim) -> None:
    """A typing error of a client shows."""
    main = client(sim)
    refused = await run(
        lambda: main.request(
            "POST",
            "https://api.twilio.com/2010-04-01/Accounts.json",
            data={"FriendlyName": "one", "Colour": "red"},
        )
    )
    assert refused.status_code == 400
