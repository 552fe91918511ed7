"""The saga between a real store, the simulated ElevenLabs on loopback, and a fake of our own number shop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from bench.sim_elevenlabs import AgentScript, ElevenLabsSim, Utterance
from control import verticals
from control.config import (
    ControlSettings,
    ElevenLabsSettings,
    Listen,
    PublicSettings,
    Secret,
    Settings,
    TwilioSettings,
)
from control.elevenlabs.rest import ElevenLabsRest
from control.elevenlabs.workspace import Workspace
from control.numbers.values import Checked, NumberProblem
from control.provisioning import STEPS, Provisioning, saga
from control.provisioning.values import Services
from control.store import Store, agents
from control.store.numbers import NumberRecord
from control.store.records import AgentRecord

AT = datetime(2027, 1, 13, 18, 0, tzinfo=UTC)
NUMBER = "+14155550100"
TOOL = {"type": "client", "name": "opt_out", "description": "The caller wants no more calls."}
UPDATE = {"name": "elevenlabs_update", "status": "pending", "ms": 0, "asked_at": "1"}


class FakeClock:
    def __init__(self):
        self.at = AT

    def now(self):
        return self.at

    def forward(self, seconds):
        self.at += timedelta(seconds=seconds)


class FakeNumbers:
    """An account with one number and a shop. `trouble` is raised one by one before it answers."""

    def __init__(self):
        self.owned = {NUMBER: "PN1"}
        self.bought = {}
        self.released = []
        self.trouble = []
        self.mended = ()
        self.wishes = []
        self.capabilities = {}
        self.is_silent = False

    async def buy(self, tenant_id, wish, *, intent_key, agent_id=None, label=None):
        await self._maybe()
        self.wishes.append(wish)
        e164 = self.bought.setdefault(intent_key, f"+1843555{len(self.bought):04d}")
        self.owned[e164] = f"PN{e164[-4:]}"
        return self._record(e164, wish.type)

    async def adopt(self, tenant_id, e164, *, agent_id=None, may_move=False):
        await self._maybe()
        if e164 not in self.owned:
            raise NumberProblem("not_owned", f"the Twilio account does not own {e164}")
        return self._record(e164, "local")

    async def check(self, tenant_id, number):
        await self._maybe()
        if number not in self.owned:
            return Checked(self._record(number, "local"), "gone")
        return Checked(self._record(number, "local"), "in-use", self.mended)

    async def release(self, tenant_id, number, *, force=False):
        await self._maybe()
        self.released.append(number)
        return self._record(number, "local")

    async def _maybe(self):
        await trio.lowlevel.checkpoint()
        if self.is_silent:
            await trio.sleep_forever()
        if self.trouble:
            raise self.trouble.pop(0)

    def _record(self, e164, kind):
        return NumberRecord(
            "num_1",
            AT,
            AT,
            e164=e164,
            sid=self.owned.get(e164),
            type=kind,
            capabilities=self.capabilities,
        )


class FakeAccounts:
    def __init__(self):
        self.ensured = []
        self.now = "active"
        self.trouble = []

    async def ensure_subaccount(self, tenant_id):
        if self.trouble:
            raise self.trouble.pop(0)
        self.ensured.append(("subaccount", tenant_id))

    async def ensure_key(self, tenant_id):
        self.ensured.append(("key", tenant_id))

    async def status(self, tenant_id, *, refresh=False):
        return {"sid": "AC1", "status": self.now}


class FakeProbe:
    def __init__(self):
        self.asked = []
        self.trouble = []

    async def first_audio(self, agent, *, speaks_first):
        await trio.lowlevel.checkpoint()
        self.asked.append((agent.elevenlabs_agent_id, speaks_first))
        if self.trouble:
            raise self.trouble.pop(0)


class SagaRig:
    """Everything, and the subject. `services` may be changed before the subject is run."""

    def __init__(self, store, sim, workspace, settings, nursery):
        self._nursery = nursery
        self.store = store
        self.sim = sim
        self.numbers = FakeNumbers()
        self.accounts = FakeAccounts()
        self.probe = FakeProbe()
        self.clock = FakeClock()
        self.services = Services(
            settings=settings,
            store=store,
            accounts=self.accounts,
            numbers=self.numbers,
            workspace=workspace,
            probe=self.probe,
            clock=self.clock,
            verticals=verticals.load(),
            tools=lambda: [TOOL],
        )
        self.subject = Provisioning(self.services)

    async def run(self):
        """Have the subject work until the rig is closed."""
        await self._nursery.start(self.subject.run)

    async def add(self, agent_id="agt_1", **more):
        """An adopting agent, unless `more` says otherwise."""
        values: dict[str, Any] = {
            "number_e164": NUMBER,
            "elevenlabs_agent_id": "agent_1",
            "settings": {"number": {"e164": NUMBER}},
            **more,
        }
        record = AgentRecord(id=agent_id, name="Coastal", created_at=AT, updated_at=AT, **values)
        await self.store.write(agents.insert, record)

    async def add_new(self, agent_id="agt_1", **more):
        """An agent of which everything has to be bought and made."""
        settings = {"number": {"type": "local", "country": "US"}} | more.pop("settings", {})
        await self.add(
            agent_id, number_e164=None, elevenlabs_agent_id=None, settings=settings, **more
        )

    async def get(self, agent_id="agt_1"):
        return await self.store.read(agents.get, agent_id)

    async def settled(self, agent_id="agt_1"):
        """The agent once nothing is left to be done."""
        with trio.fail_after(15):
            while True:
                record = await self.get(agent_id)
                if record.status != "provisioning" and record.pending is None:
                    return record
                await trio.sleep(0.005)

    async def again(self, agent_id="agt_1", **columns):
        """Change the record, have the work done, return what came of it."""
        await self.store.write(agents.update, agent_id, **columns)
        self.subject.start(agent_id)
        return await self.settled(agent_id)

    def agent(self, agent_id):
        """The configuration of an agent in the simulator."""
        return self.sim.book.agents[agent_id].config

    @property
    def made(self):
        """Agents that REST has made."""
        return [a for a in self.sim.book.agents.values() if a.is_made_by_rest]


@asynccontextmanager
async def open_saga(tmp_path) -> AsyncIterator[SagaRig]:
    sim = ElevenLabsSim("xi", {"agent_1": AgentScript(first_message=Utterance.of("agent_hold"))})
    store = Store.open(f"sqlite:///{tmp_path}/tandem.db")
    try:
        async with trio.open_nursery() as nursery:
            base_url = await nursery.start(sim.run)
            settings = Settings(
                public=PublicSettings(url="https://voice.example.com"),
                control=ControlSettings(admin_key=Secret("k"), listen=Listen("127.0.0.1", 8080)),
                twilio=TwilioSettings(account_sid="AC1", auth_token=Secret("t")),
                elevenlabs=ElevenLabsSettings(api_key=Secret("xi"), base_url=base_url),
            )
            async with ElevenLabsRest(settings.elevenlabs) as rest:
                async with trio.open_nursery() as inner:
                    yield SagaRig(store, sim, Workspace(rest), settings, inner)
                    inner.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        # A read that was cancelled goes on in its thread, and must not open what was closed.
        with trio.fail_after(10):
            while store._reads.borrowed_tokens or store._writes.borrowed_tokens:
                await trio.sleep(0.001)
    finally:
        store.close()


@asynccontextmanager
async def open_impatient(tmp_path, monkeypatch) -> AsyncIterator[SagaRig]:
    """No waiting between attempts: threads of the store do not see a mock clock."""
    monkeypatch.setattr(saga, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(saga, "RETRY_MAX_S", 0.001)
    async with open_saga(tmp_path) as opened:
        yield opened


def steps(record):
    return {step["name"]: (step["status"], step.get("error")) for step in record.steps}


def statuses(record):
    return {step["name"]: step["status"] for step in record.steps}


def all_done(**others):
    return dict.fromkeys(STEPS, "done") | others


__all__ = ["NUMBER", "SagaRig", "all_done", "open_saga", "replace", "statuses", "steps"]
