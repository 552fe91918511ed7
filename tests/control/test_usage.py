"""Twilio's usage records: asked for through its own client, kept for a while, given with their date."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from twilio.base.version import Version
from twilio.rest import Client  # for its record objects, without the network
from twilio.rest.api.v2010.account.usage.record import RecordInstance

from control.stats.usage import usage
from control.store import Store
from control.twilio.rest import TwilioUncertain
from tests.control.switchboard_rig import NOW

SHOWN = {
    "account_sid": "AC" + "0" * 32,
    "category": "calls-inbound",
    "description": "Inbound Voice Minutes",
    "count": "12",
    "count_unit": "calls",
    "usage": "31",
    "usage_unit": "minutes",
    "price": "0.2635",
    "price_unit": "usd",
    "start_date": "2026-11-01",
    "end_date": "2026-11-21",
}
FIRST, LAST = date(2026, 11, 1), date(2026, 11, 21)


class FakeTwilio:
    """Twilio's own record objects, without the network."""

    def __init__(self):
        self.asked = []
        self.fails = False
        self.client = self
        self.usage = self
        self.records = self

    async def ask(self, endpoint, request, *, repeatable=True):
        if self.fails:
            raise TwilioUncertain("no answer")
        return request()

    def list(self, **asked):
        self.asked.append(asked)
        version = Version(Client("AC" + "0" * 32, "token").api, "2010-04-01")
        unused = SHOWN | {"category": "faxes", "count": "0", "price": "0"}
        return [RecordInstance(version, one, SHOWN["account_sid"]) for one in (SHOWN, unused)]


class Office:
    def __init__(self, store):
        self.store, self.twilio, self.now = store, FakeTwilio(), NOW
        self.clock = self

    async def twilio_of(self, tenant_id):
        return self.twilio


class Clock:
    def __init__(self, now: datetime):
        self._now = now

    def now(self):
        return self._now


@pytest.fixture
def office(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'usage.db'}")
    made = Office(store)
    made.clock = Clock(NOW)
    yield made
    store.close()


async def test_usage_is_asked_once_in_a_while_and_dated(office):
    """The second look within a quarter of an hour costs Twilio nothing; a later one asks again."""
    for _ in range(2):
        found = await usage(office, "tnt_default", FIRST, LAST)
        (record,) = found.records
        assert (record["category"], record["count"], record["price"]) == (
            "calls-inbound",
            12.0,
            0.2635,
        )
        assert found.fetched_at == NOW
    (asked,) = office.twilio.asked
    assert (asked["start_date"], asked["end_date"], asked["include_subaccounts"]) == (
        FIRST,
        LAST,
        False,
    )
    office.clock = Clock(NOW + timedelta(minutes=16))
    assert (await usage(office, "tnt_default", FIRST, LAST)).fetched_at > NOW
    assert len(office.twilio.asked) == 2


async def test_usage_that_cannot_be_asked_for_is_the_last_one_known(office):
    """Old figures with their date are better than none; without any the error is told."""
    office.twilio.fails = True
    with pytest.raises(TwilioUncertain):
        await usage(office, "tnt_default", FIRST, LAST)
    office.twilio.fails = False
    await usage(office, "tnt_default", FIRST, LAST)
    office.twilio.fails = True
    office.clock = Clock(NOW + timedelta(days=1))
    assert (await usage(office, "tnt_default", FIRST, LAST)).fetched_at == NOW
