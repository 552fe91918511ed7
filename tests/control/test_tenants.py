"""Tenants against the simulated Twilio: subaccounts, keys, kills, rotation under load, webhook tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from cryptography.fernet import Fernet

from bench.sim_twilio import TwilioSim
from control.config import Secret
from control.failpoints import VARIABLE
from control.store import Store, credentials, sealed, tenants
from control.tenants import account_steps, service
from control.tenants.access import TwilioAccess
from control.tenants.service import Tenants, TenantState
from control.twilio import flights
from control.twilio.errors import TwilioRefused
from control.twilio.rest import TwilioRest
from control.vault import SealBroken, Vault
from tests.control.api_rig import FakeClock

MAIN = "AC" + "0" * 32
TOKEN = "main-token"
KEY = Fernet.generate_key().decode()


@dataclass
class World:
    """A simulated Twilio, a store, and the tenants' service between them."""

    sim: TwilioSim
    store: Store
    clock: FakeClock
    main: TwilioRest
    access: TwilioAccess
    tenants: Tenants

    def keys_of(self, account_sid: str) -> list[str]:
        return [key.sid for key in self.sim.accounts.keys_of(account_sid)]


@asynccontextmanager
async def world(
    path: Path | None = None, *, sim: TwilioSim | None = None, clock: FakeClock | None = None
) -> AsyncIterator[World]:
    """As the daemon builds it; with `sim` and `path` of another world: after a restart."""
    async with trio.open_nursery() as nursery:
        if sim is None:
            sim = TwilioSim(MAIN, TOKEN)
            await nursery.start(sim.run)
        store = Store.open(f"sqlite:///{path}" if path else "sqlite://")
        clock = clock or FakeClock()
        settings: Any = SimpleNamespace(
            account_sid=MAIN,
            auth_token=Secret(TOKEN),
            api_base_url=sim.base_url,
            edge=None,
            region=None,
        )
        main = TwilioRest(settings)
        vault = Vault([KEY])
        access = TwilioAccess(main, store, vault, main_tokens=(TOKEN,), clock=clock)
        made = Tenants(access, store, vault, clock)
        try:
            async with trio.open_nursery() as inner:
                await inner.start(made.run)
                yield World(sim, store, clock, main, access, made)
                inner.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await _threads_are_done(store)
            main.close()
            store.close()
        nursery.cancel_scope.cancel()


async def _threads_are_done(store: Store) -> None:
    """A read that was cancelled goes on in its thread; closing under it would leave its connection behind."""
    with trio.fail_after(5):
        while store._reads.borrowed_tokens or store._writes.borrowed_tokens:
            await trio.lowlevel.checkpoint()


async def test_tenant_created_has_one_subaccount_with_one_key() -> None:
    """Named after it, active, and its client acts there with that key."""
    async with world() as here:
        made = await here.tenants.create("Bright Smiles")
        assert (made.status, made.account_status, made.problem) == ("active", "active", None)
        (account,) = here.sim.accounts.subaccounts
        assert account.sid == made.account_sid
        assert account.friendly_name == f"Bright Smiles {made.id}"
        (key,) = here.keys_of(account.sid)
        client = await here.access.of(made.id)
        assert (client.account_sid, client.key_sid) == (account.sid, key)
        assert await client.fetch_call("CA1") is None
        assert await here.access.of(made.id) is client


async def test_tenant_with_long_name_keeps_its_id_at_twilio() -> None:
    """Twilio takes 64 characters; our id is what it is found by."""
    async with world() as here:
        made = await here.tenants.create("x" * 200)
        (account,) = here.sim.accounts.subaccounts
        assert account.friendly_name.endswith(made.id)
        assert len(account.friendly_name) == 64


@pytest.mark.sqlite
async def test_store_holds_no_secret_in_the_clear(tmp_path: Path) -> None:
    """Neither the subaccount's token nor the key's secret can be read out of the file."""
    path = tmp_path / "tandem.db"
    async with world(path) as here:
        made = await here.tenants.create("one")
        account = here.sim.accounts[made.account_sid or ""]
        (key,) = here.sim.accounts.keys_of(account.sid)
        found = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert account.sid.encode() in found
        assert account.auth_token.encode() not in found
        assert key.secret.encode() not in found


class Killed(BaseException):
    """Stands in for SIGKILL: nothing of ours may catch it."""


@pytest.mark.parametrize(
    "point",
    [
        "tenant_account_intended",
        "tenant_account_made",
        "tenant_key_intended",
        "tenant_key_made",
    ],
)
async def test_tenant_killed_at_any_point_gets_one_subaccount_and_one_key(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart it goes on by itself: what was made is found, a key whose secret is lost is deleted."""

    def die(name: str) -> None:
        if name == point:
            raise Killed

    path = tmp_path / "tandem.db"
    clock = FakeClock()
    monkeypatch.setattr(service, "SWEEP_EVERY_S", 0.05)
    monkeypatch.setattr(account_steps, "LOOK_EVERY_S", 0.05)
    async with trio.open_nursery() as nursery:
        sim = TwilioSim(MAIN, TOKEN)
        await nursery.start(sim.run)
        with monkeypatch.context() as patched:
            patched.setattr(account_steps, "reach", die)
            with pytest.raises(BaseExceptionGroup) as ended:
                async with world(path, sim=sim, clock=clock) as here:
                    await here.tenants.create("one")
            assert ended.group_contains(Killed)
        async with world(path, sim=sim, clock=clock) as here:
            clock.forward(60)
            with trio.fail_after(10):
                while True:
                    found, _ = await here.store.read(tenants.list_tenants)
                    tenant = next(one for one in found if one.id != "tnt_default")
                    if tenant.status == "active" and tenant.problem is None:
                        break
                    await trio.sleep(0.02)
            assert [one.sid for one in sim.accounts.subaccounts] == [tenant.account_sid]
            key = await here.store.read(credentials.current, tenant.id, "api_key")
            assert key is not None
            assert here.keys_of(tenant.account_sid or "") == [key.sid]
        nursery.cancel_scope.cancel()
    assert VARIABLE


async def test_tenant_whose_answer_was_lost_gets_no_second_subaccount(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twilio made it, the connection broke: it is found by its name, and nothing is created again."""
    monkeypatch.setattr(service, "SWEEP_EVERY_S", 0.05)
    async with world() as here:
        here.sim.lose_answer("POST", "/2010-04-01/Accounts.json")
        made = await here.tenants.create("one")
        assert made.status == "provisioning"
        with trio.fail_after(5):
            while (await here.store.read(tenants.get, made.id)).status != "active":  # type: ignore[union-attr]
                await trio.sleep(0.02)
        assert len(here.sim.accounts.subaccounts) == 1


async def test_tenant_refused_by_twilio_is_failed_and_can_be_tried_again() -> None:
    """The reason is kept; `resume` goes on."""
    async with world() as here:
        here.sim.fail_next("POST", "/2010-04-01/Accounts.json", 400, 21480)
        with pytest.raises(TwilioRefused, match="21480"):
            await here.tenants.create("one")
        found, _ = await here.store.read(tenants.list_tenants)
        tenant = next(one for one in found if one.id != "tnt_default")
        assert tenant.status == "failed"
        assert "21480" in (tenant.problem or "")
        here.clock.forward(60)
        await here.tenants.resume(tenant.id)
        assert (await here.store.read(tenants.get, tenant.id)).status == "active"  # type: ignore[union-attr]


async def test_tenant_suspended_resumed_and_closed_is_so_at_twilio() -> None:
    """Twilio's side follows; a closed one is forgotten with its secrets, and stays closed."""
    async with world() as here:
        made = await here.tenants.create("one")
        account = here.sim.accounts[made.account_sid or ""]
        await here.tenants.suspend(made.id)
        assert account.status == "suspended"
        await here.tenants.resume(made.id)
        assert account.status == "active"
        await here.tenants.close(made.id)
        assert account.status == "closed"
        record = await here.store.read(tenants.get, made.id)
        assert record is not None
        assert (record.status, record.account_status) == ("closed", "closed")
        assert await here.store.read(credentials.current, made.id, "api_key") is None
        with pytest.raises(TwilioRefused):
            await here.access.of(made.id)
        with pytest.raises(TenantState):
            await here.tenants.resume(made.id)


async def test_suspension_that_twilio_did_not_hear_is_told_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calls stop at once, here; Twilio hears of it when it answers again."""
    monkeypatch.setattr(service, "SWEEP_EVERY_S", 0.05)
    async with world() as here:
        made = await here.tenants.create("one")
        account = here.sim.accounts[made.account_sid or ""]
        here.sim.fail_next("POST", f"/2010-04-01/Accounts/{account.sid}.json", 400, 20001)
        await here.tenants.suspend(made.id)
        assert (await here.store.read(tenants.get, made.id)).status == "suspended"  # type: ignore[union-attr]
        with trio.fail_after(5):
            while account.status != "suspended":
                await trio.sleep(0.02)


async def test_rotation_under_load_fails_no_request() -> None:
    """Requests run on while the key changes three times; afterwards only the last one exists."""
    async with world() as here:
        made = await here.tenants.create("one")
        account_sid = made.account_sid or ""
        here.sim.latency_s = 0.03
        answered = 0
        is_over = False

        async def ask_on(offset_s: float) -> None:
            nonlocal answered
            await trio.sleep(offset_s)
            while not is_over:
                client = await here.access.of(made.id)
                assert await client.fetch_call("CA1") is None
                answered += 1

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(ask_on, number * 0.004)
            used = []
            for _ in range(3):
                assert await here.tenants.rotate(made.id)
                used.append((await here.access.of(made.id)).key_sid)
            is_over = True
        assert len(set(used)) == 3
        assert here.keys_of(account_sid) == [used[-1]]
        assert answered > 20


async def test_key_is_revoked_only_when_no_request_uses_it() -> None:
    """A request that Twilio takes long to answer holds the revocation up, not the switch."""
    async with world() as here:
        made = await here.tenants.create("one")
        client = await here.access.of(made.id)
        old = client.key_sid
        here.sim.delay("GET", "/Calls/CA1.json", 1.0, acted=False)
        ended: list[str] = []

        async def slow() -> None:
            assert await client.fetch_call("CA1") is None
            ended.append("request")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            await trio.sleep(0.1)
            assert await here.tenants.rotate(made.id)
            ended.append("rotation")
        assert ended == ["request", "rotation"]
        assert old not in here.keys_of(made.account_sid or "")


async def test_key_revoked_by_another_daemon_is_renewed_from_the_store(tmp_path: Path) -> None:
    """Two daemons on one store: the second one finds its key gone, reads the new one, and goes on."""
    path = tmp_path / "tandem.db"
    async with world(path) as here:
        made = await here.tenants.create("one")
        async with world(path, sim=here.sim) as there:
            client = await there.access.of(made.id)
            assert await client.fetch_call("CA1") is None
            assert await here.tenants.rotate(made.id)
            assert await client.fetch_call("CA1") is None
            assert client.key_sid == here.keys_of(made.account_sid or "")[0]


async def test_webhook_tokens_are_those_of_the_named_account() -> None:
    """Of the main account from the configuration, of a subaccount from the vault; of a stranger none."""
    async with world() as here:
        made = await here.tenants.create("one")
        account = here.sim.accounts[made.account_sid or ""]
        main = await here.access.signing_account(MAIN)
        assert main is not None
        assert (main.tenant_id, main.tokens) == ("tnt_default", (TOKEN,))
        theirs = await here.access.signing_account(account.sid)
        assert theirs is not None
        assert (theirs.tenant_id, theirs.tokens) == (made.id, (account.auth_token,))
        assert await here.access.signing_tenant(made.id) == theirs
        assert await here.access.signing_account("AC" + "f" * 32) is None
        assert await here.access.signing_account("nonsense") is None


async def test_token_rotated_at_twilio_is_learnt_beside_the_old_one() -> None:
    """When a signature does not fit, Twilio is asked; requests signed before still fit."""
    async with world() as here:
        made = await here.tenants.create("one")
        account = here.sim.accounts[made.account_sid or ""]
        old = account.auth_token
        assert (await here.access.signing_account(account.sid)).tokens == (old,)  # type: ignore[union-attr]
        account.auth_token = "rotated"
        asked = await here.access.signing_account(account.sid, anew=True)
        assert asked is not None
        assert asked.tokens == ("rotated", old)
        requests = len(here.sim.rest.requests)
        await here.access.signing_account(account.sid, anew=True)
        assert len(here.sim.rest.requests) == requests


async def test_flights_land_in_any_order_and_twice() -> None:
    """Only those of before the turn are waited for."""
    under_way = flights.Flights()
    first, second = under_way.take_off(), under_way.take_off()
    before = under_way.turn()
    later = under_way.take_off()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(under_way.landed, before)
        await trio.testing.wait_all_tasks_blocked()
        second.land()
        second.land()
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        await trio.to_thread.run_sync(first.land)
    later.land()


async def test_secrets_are_sealed_anew_under_the_first_key(tmp_path: Path) -> None:
    """After that the key before can be dropped; without any of them nothing opens."""
    path = tmp_path / "tandem.db"
    newer = Fernet.generate_key().decode()
    async with world(path) as here:
        made = await here.tenants.create("one")
        store = here.store
        assert await store.write(sealed.reseal, Vault([KEY]).resealed) == 0
        assert await store.write(sealed.reseal, Vault([newer, KEY]).resealed) == 2
        assert await store.write(sealed.reseal, Vault([newer]).resealed) == 0
        with pytest.raises(SealBroken):
            await store.write(sealed.reseal, Vault([KEY]).resealed)
        access = TwilioAccess(here.main, store, Vault([newer]))
        assert (await access.signing_tenant(made.id)) is not None
