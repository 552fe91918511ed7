"""`Tenants`: the life of tenants, from the subaccount at Twilio to its end.

What is wanted is committed first, then Twilio is told; a sweep goes on with whatever a killed process or a
Twilio that did not answer has left. One piece of work for each tenant at a time, across daemons by a lease.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import trio
from sqlalchemy import Connection

from control import ids, log
from control.clock import Clock
from control.ids import DEFAULT_TENANT_ID
from control.store import Store, StoreUnavailable, agents, credentials, tenant_keys, tenants
from control.store.records import TenantRecord
from control.tenants.access import TwilioAccess
from control.tenants.account_steps import Steps, account_name
from control.twilio import accounts
from control.twilio.errors import TwilioError, TwilioRefused
from control.vault import Vault

WAIT_S = 45.0
"""How long a request waits for Twilio; the work goes on without it."""
SWEEP_EVERY_S = 15.0
LEASE = timedelta(minutes=5)
MANAGEABLE = ("active", "suspended")


class TenantBusy(Exception):
    """Something else is being done for this tenant at this moment."""


class TenantState(Exception):
    """The tenant's state does not allow this; the text says why."""


class Tenants:
    """One per process. `run` has to be running for everything that tells Twilio something."""

    def __init__(self, access: TwilioAccess, store: Store, vault: Vault, clock: Clock) -> None:
        self._access = access
        self._store = store
        self._clock = clock
        self._steps = Steps(access, store, vault, clock)
        self._owner = f"{socket.gethostname()}:{ids.new_id('run', clock.now())}"
        self._locks: dict[str, trio.Lock] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Go on with what was left, now and ever again."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                await self._sweep()
                await trio.sleep(SWEEP_EVERY_S)

    # ---- what is asked for ---------------------------------------------------------------------

    async def create(self, name: str) -> TenantRecord:
        """A tenant, and its subaccount and key at Twilio.

        `provisioning` when Twilio took too long or its answer was lost: then it goes on by itself. Raises
        TwilioRefused (the tenant is `failed` then), StoreUnavailable.
        """
        now = self._clock.now()
        record = TenantRecord(ids.new_id(ids.TENANT, now), name, "provisioning", now, now)
        await self._store.write(tenants.add, record)
        await self._told(record.id, self._settle)
        return await self._steps.reread(record.id)

    async def rename(self, tenant_id: str, name: str) -> None:
        """Another name, at Twilio too. Raises TenantState, TwilioError, StoreUnavailable."""
        tenant = await self._steps.reread(tenant_id)
        if tenant.status not in MANAGEABLE:
            raise TenantState(f"the tenant is {tenant.status}")
        if tenant.account_sid is not None:
            called = account_name(replace(tenant, name=name))
            await accounts.rename(self._access.main, tenant.account_sid, called)
        await self._store.write(tenants.change, tenant_id, name=name, updated_at=self._clock.now())

    async def suspend(self, tenant_id: str) -> None:
        """No calls from now on; Twilio is told as soon as it listens. Raises TenantState."""
        await self._store.write(self._turn, tenant_id, "suspended", ("active", "suspended"))
        try:
            await self._told(tenant_id, self._settle)
        except TwilioRefused:
            return  # `problem` of the record says so, and the sweep tries again

    async def resume(self, tenant_id: str) -> None:
        """Calls again, after Twilio has said so; a failed one is tried again. Raises TenantState, TwilioError."""
        tenant = await self._steps.reread(tenant_id)
        if tenant.status == "failed":
            await self._store.write(self._turn, tenant_id, "provisioning", ("failed",))
            await self._told(tenant_id, self._settle)
            return
        if tenant.status not in MANAGEABLE:
            raise TenantState(f"the tenant is {tenant.status}")
        await self._steps.set_status(tenant, accounts.ACTIVE)
        await self._store.write(self._turn, tenant_id, "active", MANAGEABLE)

    async def close(self, tenant_id: str) -> None:
        """For good: keys are revoked and agents closed at once, the subaccount as soon as Twilio listens."""
        await self._store.write(self._begin_closing, tenant_id)
        try:
            await self._told(tenant_id, self._settle)
        except TwilioRefused:
            return

    async def rotate(self, tenant_id: str) -> bool:
        """Another API key, and the old one revoked when no request uses it any more; whether it is already.

        Raises TenantState, TenantBusy, TwilioError (the old key goes on being used), StoreUnavailable.
        """
        tenant = await self._steps.reread(tenant_id)
        if tenant_id == DEFAULT_TENANT_ID:
            raise TenantState("the default tenant uses the account of the configuration")
        if tenant.status not in MANAGEABLE:
            raise TenantState(f"the tenant is {tenant.status}")
        async with self._alone(tenant_id):
            await self._steps.key(tenant, anew=True)
        # From here on everything uses the new key; the old one goes as soon as it can, now or later.
        is_settled = await self._told(tenant_id, self._settle)
        old = await self._store.read(
            credentials.of_tenant, tenant_id, credentials.API_KEY, credentials.RETIRING
        )
        return is_settled and not old

    # ---- what provisioning needs ---------------------------------------------------------------

    async def of(self, tenant_id: str) -> Any:
        """The client that acts for this tenant. Raises TwilioRefused, TwilioUnreachable."""
        return await self._access.of(tenant_id)

    async def ensure_subaccount(self, tenant_id: str) -> None:
        """The tenant has a subaccount. Raises TwilioError, TenantBusy, StoreUnavailable."""
        await self._ensure(tenant_id)

    async def ensure_key(self, tenant_id: str) -> None:
        """The tenant has an API key in it. Raises TwilioError, TenantBusy, StoreUnavailable."""
        await self._ensure(tenant_id)

    async def status(self, tenant_id: str, *, refresh: bool = False) -> dict[str, Any]:
        """`{sid, status}` of the tenant's account, with `refresh` as Twilio says it now."""
        if tenant_id == DEFAULT_TENANT_ID:
            return {"sid": self._access.main.account_sid, "status": accounts.ACTIVE}
        tenant = await self._steps.reread(tenant_id)
        status = tenant.account_status
        if refresh and tenant.account_sid is not None:
            seen = await accounts.fetch(self._access.main, tenant.account_sid)
            status = seen.status if seen is not None else accounts.CLOSED
            if status != tenant.account_status:
                await self._store.write(tenants.change, tenant_id, account_status=status)
        return {"sid": tenant.account_sid, "status": status or tenant.status}

    # ---- inside --------------------------------------------------------------------------------

    async def _ensure(self, tenant_id: str) -> None:
        if tenant_id == DEFAULT_TENANT_ID:
            return
        tenant = await self._steps.reread(tenant_id)
        if tenant.status == "provisioning":
            await self._told(tenant_id, self._settle)

    async def _told(self, tenant_id: str, work: Callable[[str], Awaitable[None]]) -> bool:
        """Have the work done by a task of ours, whoever goes away meanwhile; whether it is done.

        What Twilio refused is raised here; what it did not answer is left to the sweep.
        """
        if self._nursery is None:
            raise RuntimeError("the tenants' service does not run")
        done, refused = trio.Event(), list[TwilioRefused]()

        async def task() -> None:
            try:
                await self._guarded(tenant_id, work, refused)
            finally:
                done.set()

        self._nursery.start_soon(task)
        with trio.move_on_after(WAIT_S):
            await done.wait()
        if refused:
            raise refused[0]
        return done.is_set()

    async def _guarded(
        self,
        tenant_id: str,
        work: Callable[[str], Awaitable[None]],
        refused: list[TwilioRefused],
    ) -> None:
        try:
            async with self._alone(tenant_id):
                await work(tenant_id)
        except TenantBusy:
            log.event("tenant_busy", tenant_id=tenant_id)
        except TwilioRefused as refusal:
            refused.append(refusal)
            await self._note(tenant_id, str(refusal))
        except (TwilioError, StoreUnavailable, trio.TooSlowError) as error:
            await self._note(tenant_id, str(error) or type(error).__name__)

    async def _note(self, tenant_id: str, problem: str) -> None:
        log.event("tenant_unsettled", level="warning", tenant_id=tenant_id, problem=problem)
        try:
            await self._store.write(tenants.change, tenant_id, problem=problem)
        except StoreUnavailable as error:
            log.event("tenant_unnoted", level="warning", tenant_id=tenant_id, error=error)

    @asynccontextmanager
    async def _alone(self, tenant_id: str) -> AsyncIterator[None]:
        async with self._locks.setdefault(tenant_id, trio.Lock()):
            now = self._clock.now()
            if not await self._store.write(tenants.lease, tenant_id, self._owner, now, now + LEASE):
                raise TenantBusy(tenant_id)
            try:
                yield
            finally:
                with trio.CancelScope(shield=True):
                    await self._released(tenant_id)

    async def _released(self, tenant_id: str) -> None:
        try:
            await self._store.write(tenants.release, tenant_id, self._owner)
        except StoreUnavailable:
            return  # the lease runs out by itself

    async def _settle(self, tenant_id: str) -> None:
        """Make Twilio's side what ours is."""
        tenant = await self._steps.reread(tenant_id)
        if tenant.id == DEFAULT_TENANT_ID:
            return
        try:
            if tenant.status == "provisioning":
                tenant = await self._steps.account(tenant)
                await self._steps.key(tenant)
                await self._store.write(self._turn, tenant_id, "active", ("provisioning",))
            elif tenant.status == "closing":
                await self._steps.set_status(tenant, accounts.CLOSED)
                self._access.forget(tenant_id)
                await self._store.write(self._finish_closing, tenant_id)
            elif tenant.status in MANAGEABLE:
                await self._steps.set_status(tenant, tenant.status)
        except TwilioRefused:
            if tenant.status == "provisioning":
                await self._store.write(self._turn, tenant_id, "failed", ("provisioning",))
            raise
        if tenant.status in MANAGEABLE and tenant.account_sid is not None:
            await self._steps.retire(tenant)
        await self._store.write(tenants.change, tenant_id, problem=None)

    async def _sweep(self) -> None:
        try:
            found = await self._store.read(_unsettled)
        except StoreUnavailable as error:
            log.event("tenants_unswept", level="warning", error=error)
            return
        for tenant_id in found:
            refused: list[TwilioRefused] = []
            await self._guarded(tenant_id, self._settle, refused)

    def _turn(
        self, conn: Connection, tenant_id: str, status: str, allowed: tuple[str, ...]
    ) -> None:
        tenant = tenants.get(conn, tenant_id, to_change=True)
        if tenant is None or tenant.status not in allowed:
            raise TenantState(f"the tenant is {tenant.status if tenant else 'not there'}")
        tenants.change(conn, tenant_id, status=status, updated_at=self._clock.now())

    def _begin_closing(self, conn: Connection, tenant_id: str) -> None:
        if tenant_id == DEFAULT_TENANT_ID:
            raise TenantState("the default tenant cannot be closed")
        now = self._clock.now()
        self._turn(
            conn,
            tenant_id,
            "closing",
            ("provisioning", "active", "suspended", "failed", "closing"),
        )
        tenant_keys.revoke_all(conn, tenant_id, now)
        agents.close_all(conn, tenant_id, now)

    def _finish_closing(self, conn: Connection, tenant_id: str) -> None:
        now = self._clock.now()
        credentials.revoke_all(conn, tenant_id, now)
        tenants.change(conn, tenant_id, status="closed", updated_at=now)


def _unsettled(conn: Connection) -> list[str]:
    keys = credentials.tenants_with(
        conn, credentials.API_KEY, credentials.MINTING, credentials.RETIRING
    )
    found = dict.fromkeys(tenants.unsettled_ids(conn))
    return list(found | dict.fromkeys(keys))
