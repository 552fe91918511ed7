"""The simulator's usage records through our reading of them with Twilio's own client."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from bench.sim_twilio import TwilioSim
from control.config import Secret, TwilioSettings
from control.twilio.rest import TwilioRefused, TwilioRest
from control.twilio.usage import usage_records

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


async def test_usage_counts_what_was_sent_and_what_it_costs(
    sim: TwilioSim, rest: TwilioRest
) -> None:
    """Categories without use are left out by the reader."""
    today = sim.now().date()
    assert await usage_records(rest, today, today) == []
    for _ in range(2):
        create = partial(rest.client.messages.create, to=THEM, from_=OURS, body="Hi")
        await rest.ask("x", create, repeatable=False)
    found = {record["category"]: record for record in await usage_records(rest, today, today)}
    assert set(found) == {"sms", "totalprice"}
    assert (found["sms"]["count"], found["sms"]["price"]) == (2.0, 0.0158)
    assert found["totalprice"]["price"] == 0.0158


async def test_usage_of_days_that_make_no_sense_is_refused(
    sim: TwilioSim, rest: TwilioRest
) -> None:
    """As Twilio does: 400."""
    today = sim.now().date()
    with pytest.raises(TwilioRefused):
        await usage_records(rest, today, today.replace(year=today.year - 1))
