"""The simulator's Messages through Twilio's own client: as strict as Twilio where it matters."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest
import trio

from bench.sim_twilio import TwilioSim
from control.config import Secret, TwilioSettings
from control.twilio.rest import TwilioRefused, TwilioRest

ACCOUNT, TOKEN = "AC00000000000000000000000000000a01", "t" * 32
OURS, THEM = "+14155550199", "+14155550100"


@pytest.fixture
async def sim(nursery: trio.Nursery) -> TwilioSim:
    made = TwilioSim(ACCOUNT, TOKEN, [OURS])
    await nursery.start(made.run)
    return made


@pytest.fixture
def rest(sim: TwilioSim) -> TwilioRest:
    return TwilioRest(
        TwilioSettings(account_sid=ACCOUNT, auth_token=Secret(TOKEN), api_base_url=sim.base_url)
    )


async def create(rest: TwilioRest, **given: Any) -> Any:
    fields = {"to": THEM, "from_": OURS, "body": "Hi"} | given
    return await rest.ask("x", partial(rest.client.messages.create, **fields), repeatable=False)


async def test_message_made_is_fetched_listed_and_delivered(
    sim: TwilioSim, rest: TwilioRest
) -> None:
    """Queued at first; a price once it is delivered."""
    made = await create(rest)
    assert (made.status, made.direction, made.price) == ("queued", "outbound-api", None)
    await sim.post.messages[made.sid].settled.wait()
    fetched = await rest.ask("x", rest.client.messages(made.sid).fetch)
    assert (fetched.status, fetched.body) == ("delivered", "Hi")
    assert float(fetched.price) < 0
    for to, count in ((THEM, 1), ("+14155550177", 0)):
        listed = await rest.ask("x", partial(rest.client.messages.list, to=to, from_=OURS))
        assert len(listed) == count


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"to": "5550100"}, 21211),
        ({"body": ""}, 21602),
        ({"body": "x" * 1601}, 21617),
        ({"from_": "+14155550177"}, 21606),
        ({"status_callback": "voice.example.com"}, 21609),
    ],
)
async def test_message_that_twilio_would_refuse_is_refused(
    rest: TwilioRest, given: dict[str, str], code: int
) -> None:
    """With its code; nothing is made."""
    with pytest.raises(TwilioRefused) as caught:
        await create(rest, **given)
    assert (caught.value.status, caught.value.code) == (400, code)


async def test_parameter_that_is_not_documented_is_refused(sim: TwilioSim) -> None:
    """A client's typing error shows."""
    url = f"{sim.base_url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    async with httpx.AsyncClient(auth=(ACCOUNT, TOKEN), trust_env=False) as client:
        form = {"To": THEM, "From": OURS, "Body": "Hi", "StatusCallbck": "https://x.example/"}
        answer = await client.post(url, data=form)
    assert (answer.status_code, answer.json()["code"]) == (400, 20001)


async def test_recipient_who_sent_stop_gets_nothing_until_start(
    sim: TwilioSim, rest: TwilioRest
) -> None:
    """21610, for this sender alone."""
    await sim.text_in(THEM, OURS, " Stop ")
    with pytest.raises(TwilioRefused) as caught:
        await create(rest)
    assert caught.value.code == 21610
    await sim.text_in(THEM, OURS, "start")
    assert (await create(rest)).status == "queued"


async def test_carrier_that_filters_makes_it_undelivered(sim: TwilioSim, rest: TwilioRest) -> None:
    """The code comes with the last status, not with the answer."""
    sim.post.outcomes[THEM] = 30007
    made = await create(rest)
    assert made.error_code is None
    await sim.post.messages[made.sid].settled.wait()
    fetched = await rest.ask("x", rest.client.messages(made.sid).fetch)
    assert (fetched.status, fetched.error_code) == ("undelivered", 30007)
