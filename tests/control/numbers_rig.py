"""Numbers over a real store, the official client and the simulated Twilio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import trio

from bench.sim_twilio import TwilioSim
from control.clock import Clock
from control.numbers import Numbers
from control.store import Store, agents
from control.store.records import AgentRecord
from control.twilio.rest import TwilioRest
from control.urls import PublicUrls
from tests import provider_specs
from tests.control.api_rig import agent

ACCOUNT = "AC" + "0" * 32
TOKEN = "token-0123456789"
URLS = PublicUrls("https://voice.example.com", "wss://voice.example.com")
WIRED = {
    "voice_url": "https://voice.example.com/twilio/voice",
    "voice_method": "POST",
    "voice_fallback_url": "https://voice.example.com/twilio/voice/fallback",
    "voice_fallback_method": "POST",
    "status_callback": "https://voice.example.com/twilio/status#rc=3&rp=5xx,ct,rt",
    "status_callback_method": "POST",
    "sms_url": "https://voice.example.com/twilio/sms#rc=3&rp=5xx,ct,rt",
    "sms_method": "POST",
    "sms_fallback_url": "https://voice.example.com/twilio/sms#rc=3&rp=5xx,ct,rt",
    "sms_fallback_method": "POST",
}


def rest_of(
    sim: TwilioSim, account_sid: str = ACCOUNT, token: str = TOKEN, **options: Any
) -> TwilioRest:
    """The product's client, pointed at the simulator."""
    secret = SimpleNamespace(reveal=lambda: token)
    settings = SimpleNamespace(
        account_sid=account_sid, auth_token=secret, api_base_url=sim.base_url, edge="", region=""
    )
    return TwilioRest(settings, **options)


@dataclass
class Access:
    """Every tenant acts in one account, unless told otherwise."""

    rest: TwilioRest
    others: dict[str, TwilioRest]

    async def of(self, tenant_id: str) -> TwilioRest:
        return self.others.get(tenant_id, self.rest)


@dataclass
class NumbersRig:
    sim: TwilioSim
    store: Store
    rest: TwilioRest
    access: Access
    numbers: Numbers

    def again(self) -> Numbers:
        """As a restarted process would have it."""
        return Numbers(self.store, self.access, URLS, Clock(), main=self.rest)

    async def add_agent(self, e164: str, **columns: Any) -> AgentRecord:
        record = agent(number_e164=e164, **columns)
        await self.store.write(agents.insert, record)
        return record

    def bought(self) -> list[str]:
        """The numbers that the account pays for."""
        return sorted(self.sim.numbers)

    def wired(self, e164: str) -> dict[str, str]:
        number = self.sim.numbers[e164]
        return {name: getattr(number, name) for name in WIRED}

    def asked(self, method: str, part: str) -> int:
        """How many requests there were of this method to paths with this part."""
        return sum(m == method and part in path for m, path in self.sim.rest.requests)

    def assert_documented(self) -> None:
        """Everything that was asked is in Twilio's documents. Skips when they are not at hand."""
        provider_specs.twilio_specs()
        faults = [
            fault
            for request, response in self.sim.rest.exchanges
            for fault in provider_specs.faults_of(
                request.method, request.target, request.body, response.status, response.body
            )
        ]
        assert not faults, "\n".join(faults)


@asynccontextmanager
async def numbers_rig(**sim_options: Any) -> AsyncIterator[NumbersRig]:
    sim = TwilioSim(ACCOUNT, TOKEN, **sim_options)
    store = Store.open("sqlite://")
    try:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                await nursery.start(sim.run)
                rest = rest_of(sim)
                access = Access(rest, {})
                numbers = Numbers(store, access, URLS, Clock(), main=rest)
                yield NumbersRig(sim, store, rest, access, numbers)
                rest.close()
                nursery.cancel_scope.cancel()
    finally:
        store.close()
