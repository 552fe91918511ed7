"""Twilio's dialling permissions are read back and become facts; without a fresh copy the rules refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trio

from bench.sim_twilio import TwilioSim
from control.compliance import facts
from control.compliance.facts import Asked
from control.compliance.number_file import Shelf
from control.compliance.permissions import PermissionsReader
from control.config import Secret, TwilioSettings
from control.store import Store, dnc, permissions
from control.twilio.rest import TwilioRest
from policy import evaluate, load_rules

ACCOUNT, TOKEN = "AC00000000000000000000000000000a01", "t" * 32
NOW = datetime(2027, 1, 13, 18, 0, tzinfo=UTC)
RULES = load_rules(("frd_twgeo", "frd_prefix"), {}, lambda name: pytest.fail(name))


class SetClock:
    at = NOW

    def now(self):
        return self.at


class Account:
    def __init__(self, rest):
        self.rest = rest

    async def of(self, tenant_id):
        return self.rest


@asynccontextmanager
async def reading(tmp_path) -> AsyncIterator[tuple[PermissionsReader, Store, TwilioSim, SetClock]]:
    sim, clock = TwilioSim(ACCOUNT, TOKEN), SetClock()
    store = Store.open(f"sqlite:///{tmp_path / 'tandem.db'}")
    await store.write(_calls_latvia)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(sim.run)
        rest = TwilioRest(
            TwilioSettings(account_sid=ACCOUNT, auth_token=Secret(TOKEN), api_base_url=url)
        )
        yield PermissionsReader(store, Account(rest), clock), store, sim, clock
        rest.close()
        nursery.cancel_scope.cancel()
    store.close()


def _calls_latvia(conn):
    dnc.put_profile(conn, "tnt_default", {"regions": ["US", "LV"]}, NOW, "test")


async def judged(store, tmp_path, to, at=NOW):
    asked = Asked("outbound", "dial", "tnt_default", "", "+14155550199", to)
    known = await store.read(facts.assemble, asked, at, at, Shelf(tmp_path))
    return {rule.id: rule.reason for rule in evaluate(RULES, known).rules}


async def test_permissions_are_read_back_and_judged(tmp_path):
    """Nothing read: refused. Read: the country's switches and high-risk prefixes are known."""
    async with reading(tmp_path) as (reader, store, sim, _):
        assert (await judged(store, tmp_path, "+12125550123"))["FRD-TWGEO"] == "not_known"
        sim.geo.of(ACCOUNT)["LV"]["low_risk_numbers_enabled"] = True
        assert await reader.look() == 1
        assert await judged(store, tmp_path, "+12125550123") == {
            "FRD-TWGEO": "as_it_should_be",
            "FRD-PREFIX": "not_listed",
        }
        canadian = await judged(store, tmp_path, "+14165550123")
        assert canadian["FRD-TWGEO"] == "as_it_should_be"  # listed as United States/Canada
        assert (await judged(store, tmp_path, "+442071838750"))["FRD-TWGEO"] == (
            "region_off_at_the_provider"
        )
        assert await judged(store, tmp_path, "+37181123456") | {"FRD-TWGEO": ""} == {
            "FRD-TWGEO": "",
            "FRD-PREFIX": "high_risk_prefix",
        }


async def test_high_risk_groups_that_are_on_refuse(tmp_path):
    """Somebody switched them on at Twilio: seen at the next reading."""
    async with reading(tmp_path) as (reader, store, sim, _):
        sim.geo.of(ACCOUNT)["US"]["high_risk_tollfraud_numbers_enabled"] = True
        await reader.look()
        assert (await judged(store, tmp_path, "+12125550123"))["FRD-TWGEO"] == (
            "high_risk_on_at_the_provider"
        )


async def test_permissions_are_read_again_after_a_day_and_not_before(tmp_path):
    """A copy that nobody renews grows too old, and says so."""
    async with reading(tmp_path) as (reader, store, _, clock):
        assert await reader.look() == 1
        assert await reader.look() == 0
        clock.at = NOW + timedelta(hours=49)
        late = await judged(store, tmp_path, "+12125550123", clock.at)
        assert late["FRD-TWGEO"] == "read_too_long_ago"
        assert await reader.look() == 1
        assert (await store.read(permissions.get, "tnt_default")).read_at == clock.at


async def test_account_that_cannot_be_read_is_left_alone_for_a_while(tmp_path):
    """Twilio refuses: nothing is known, and it is not asked every few seconds."""
    async with reading(tmp_path) as (reader, store, sim, _):
        sim.fail_next("GET", "/v1/DialingPermissions", 400, code=20001, times=1)
        assert await reader.look() == 0
        assert await reader.look() == 0  # it would be answered now
        assert await store.read(permissions.get, "tnt_default") is None
