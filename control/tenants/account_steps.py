"""What is done at Twilio for a tenant's account, each step so that it can be done again after a kill.

The main account's client makes, suspends and closes; nothing here is done twice at Twilio: a subaccount is
looked for by its name, which carries our tenant id, before one is made, and a key whose secret was lost is
deleted by its name, which carries our id of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import trio
from sqlalchemy import Connection

from control import ids, log
from control.clock import Clock
from control.failpoints import reach
from control.store import Store, credentials, tenants
from control.store.records import CredentialRecord, TenantRecord
from control.tenants.access import TwilioAccess, purpose
from control.twilio import accounts
from control.twilio.accounts import Account
from control.twilio.errors import TwilioRefused, TwilioUncertain
from control.vault import Vault

UNSEEN = timedelta(seconds=30)
"""Twilio works on a request for up to 26 s: before that, "not there" may mean "not there yet"."""
LOOK_EVERY_S = 2.0
SETTLE_TIMEOUT_S = 120.0
"""Longer than any request takes with all its attempts but the most patient back-off."""
CLOSED_ALREADY = 21479


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps, with what they need."""

    access: TwilioAccess
    store: Store
    vault: Vault
    clock: Clock

    async def account(self, tenant: TenantRecord) -> TenantRecord:
        """The tenant with a subaccount, found or made. Raises TwilioError, StoreUnavailable."""
        if tenant.account_sid is not None:
            return tenant
        name = account_name(tenant)
        intent = await self._intent(tenant.id, credentials.AUTH_TOKEN)
        found = await accounts.by_name(self.access.main, name)
        while found is None and intent is not None:
            if self.clock.now() - intent.updated_at >= UNSEEN:
                break
            await trio.sleep(LOOK_EVERY_S)
            found = await accounts.by_name(self.access.main, name)
        if found is None:
            if intent is None:
                intent = await self._intend(tenant.id, credentials.AUTH_TOKEN)
            else:
                await self.store.write(credentials.touch, intent.id, self.clock.now())
            reach("tenant_account_intended")
            found = await accounts.create(self.access.main, name)
            reach("tenant_account_made")
        if intent is None:
            intent = await self._intend(tenant.id, credentials.AUTH_TOKEN)
        await self.store.write(self._adopt, tenant.id, intent.id, found)
        log.event("tenant_account_ready", tenant_id=tenant.id, account_sid=found.sid)
        return await self.reread(tenant.id)

    async def key(self, tenant: TenantRecord, *, anew: bool = False) -> None:
        """Have a current API key; `anew`: another one, whatever there is. What was before retires."""
        assert tenant.account_sid is not None
        have = await self.store.read(credentials.current, tenant.id, credentials.API_KEY)
        if have is not None and not anew:
            return
        await self._clear_lost(tenant)
        intent = await self._intend(tenant.id, credentials.API_KEY)
        reach("tenant_key_intended")
        made = await accounts.mint_key(self.access.main, tenant.account_sid, intent.id)
        reach("tenant_key_made")
        sealed = self.vault.seal(purpose(tenant.id, credentials.API_KEY, made.sid), made.secret)
        await self.store.write(credentials.minted, intent.id, made.sid, sealed, self.clock.now())

    async def retire(self, tenant: TenantRecord) -> None:
        """Revoke the keys that are not current, as soon as no request of ours uses them.

        Raises TwilioError, trio.TooSlowError.
        """
        assert tenant.account_sid is not None
        await self._clear_lost(tenant)
        old = await self.store.read(
            credentials.of_tenant, tenant.id, credentials.API_KEY, credentials.RETIRING
        )
        if not old:
            return
        await self._finish_requests(tenant.id)
        for key in old:
            await accounts.revoke_key(self.access.main, tenant.account_sid, key.sid or "")
            await self.store.write(credentials.revoked, key.id, self.clock.now())
            log.event("tenant_key_revoked", tenant_id=tenant.id, key_sid=key.sid)

    async def set_status(self, tenant: TenantRecord, status: str) -> None:
        """Suspend, resume or close at Twilio, and note what it says then. Raises TwilioError."""
        if tenant.account_sid is None or tenant.account_status == status:
            return
        try:
            said = (await accounts.set_status(self.access.main, tenant.account_sid, status)).status
        except TwilioRefused as refusal:
            if status != accounts.CLOSED or refusal.code not in (CLOSED_ALREADY, 20404):
                raise
            said = accounts.CLOSED
        await self.store.write(tenants.change, tenant.id, account_status=said)

    async def reread(self, tenant_id: str) -> TenantRecord:
        """The tenant as it is stored now."""
        found = await self.store.read(tenants.get, tenant_id)
        assert found is not None
        return found

    # ---- inside --------------------------------------------------------------------------------

    async def _finish_requests(self, tenant_id: str) -> None:
        before = await self.access.switch(tenant_id)
        if before is not None:
            client = await self.access.of(tenant_id)
            with trio.fail_after(SETTLE_TIMEOUT_S):
                await client.settled(before)

    async def _clear_lost(self, tenant: TenantRecord) -> None:
        """Keys that may have been made, but whose secret nobody has."""
        lost = await self.store.read(
            credentials.of_tenant, tenant.id, credentials.API_KEY, credentials.MINTING
        )
        for intent in lost:
            for sid in await accounts.keys_named(
                self.access.main, tenant.account_sid or "", intent.id
            ):
                await accounts.revoke_key(self.access.main, tenant.account_sid or "", sid)
            # Kept for as long as the lost request may still be worked on: the next look finds the key.
            if self.clock.now() - intent.updated_at >= UNSEEN:
                await self.store.write(credentials.revoked, intent.id, self.clock.now())

    async def _intent(self, tenant_id: str, kind: str) -> CredentialRecord | None:
        found = await self.store.read(credentials.of_tenant, tenant_id, kind, credentials.MINTING)
        return found[0] if found else None

    async def _intend(self, tenant_id: str, kind: str) -> CredentialRecord:
        now = self.clock.now()
        intent = CredentialRecord(
            ids.new_id(ids.CREDENTIAL, now), tenant_id, kind, credentials.MINTING, now, now
        )
        await self.store.write(credentials.add, intent)
        return intent

    def _adopt(self, conn: Connection, tenant_id: str, intent_id: str, found: Account) -> None:
        if not found.auth_token:
            raise TwilioUncertain("the subaccount was shown without its auth token")
        now: datetime = self.clock.now()
        sealed_for = purpose(tenant_id, credentials.AUTH_TOKEN, found.sid)
        sealed = self.vault.seal(sealed_for, found.auth_token)
        credentials.minted(conn, intent_id, found.sid, sealed, now)
        tenants.change(
            conn,
            tenant_id,
            account_sid=found.sid,
            account_status=found.status,
            updated_at=now,
        )


def account_name(tenant: TenantRecord) -> str:
    """What the subaccount is called at Twilio: for people, and to be found again by our id."""
    room = accounts.NAME_MAX_CHARS - len(tenant.id) - 1
    return f"{tenant.name[:room].strip()} {tenant.id}"
