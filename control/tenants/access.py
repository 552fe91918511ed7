"""Whose Twilio account is used: the client that acts for a tenant, and the tokens that its webhooks may be
signed with. The default tenant's account is the one of the configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import trio
from sqlalchemy import Connection

from control import ids, log
from control.clock import Clock
from control.ids import DEFAULT_TENANT_ID
from control.store import Store, StoreUnavailable, credentials, tenants
from control.store.records import CredentialRecord, TenantRecord
from control.twilio import accounts
from control.twilio.errors import TwilioError
from control.twilio.rest import TwilioRefused, TwilioRest, TwilioUnreachable
from control.vault import SealBroken, Vault

ASK_EVERY_S = 60.0
ASK_TIMEOUT_S = 5.0
"""Twilio waits 15 s for the answer to the webhook that made us ask."""
_ACCOUNT_SID = re.compile("AC[0-9a-f]{32}")


class NoAccount(TwilioRefused):
    """The tenant has no Twilio account that could be used; nothing was sent."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(409, 0, f"tenant {tenant_id} has no usable Twilio account")


@dataclass(frozen=True, slots=True)
class SigningAccount:
    """The account that a webhook came from: whose it is, and what it may be signed with."""

    account_sid: str
    tenant_id: str
    tokens: tuple[str, ...]


def purpose(tenant_id: str, kind: str, sid: str) -> str:
    """What a tenant's secret is sealed for."""
    return f"twilio {kind} {sid} of {tenant_id}"


class TwilioAccess:
    """One per process. Clients and tokens are kept; `forget` after what is stored was changed."""

    def __init__(
        self,
        main: TwilioRest,
        store: Store,
        vault: Vault,
        *,
        main_tokens: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._asked_at_s: dict[str, float] = {}
        self.main = main
        self._store = store
        self._vault = vault
        self._signing: dict[str, SigningAccount] = {
            main.account_sid: SigningAccount(
                main.account_sid, DEFAULT_TENANT_ID, tuple(main_tokens)
            )
        }
        self._clients: dict[str, TwilioRest] = {}
        self._locks: dict[str, trio.Lock] = {}

    async def of(self, tenant_id: str) -> TwilioRest:
        """The client that acts in this tenant's account; the same object for as long as we run.

        Raises NoAccount (a TwilioRefused), and TwilioUnreachable when its credentials cannot be read: in both
        nothing was sent.
        """
        if tenant_id == DEFAULT_TENANT_ID:
            return self.main
        client = self._clients.get(tenant_id)
        if client is not None:
            return client
        async with self._locks.setdefault(tenant_id, trio.Lock()):
            if tenant_id not in self._clients:
                try:
                    self._clients[tenant_id] = await self._new_client(tenant_id)
                except (StoreUnavailable, SealBroken) as error:
                    raise TwilioUnreachable(f"the tenant's credentials: {error}") from error
            return self._clients[tenant_id]

    async def account_sid_of(self, tenant_id: str) -> str:
        """The SID of the tenant's account. Raises NoAccount, StoreUnavailable."""
        if tenant_id == DEFAULT_TENANT_ID:
            return self.main.account_sid
        tenant = await self._store.read(tenants.get, tenant_id)
        if tenant is None or tenant.account_sid is None:
            raise NoAccount(tenant_id)
        return tenant.account_sid

    async def signing_account(
        self, account_sid: str, *, anew: bool = False
    ) -> SigningAccount | None:
        """Who signs for this account; None for one that is not ours. Raises StoreUnavailable.

        `anew`: a signature did not fit, so somebody may have rotated the account's token at Twilio: ask
        there, once a minute at most, and keep what it says beside the token before.
        """
        known = self._signing.get(account_sid)
        if known is None and _ACCOUNT_SID.fullmatch(account_sid):
            known = await self._read_tokens(account_sid)
        if known is not None and anew and account_sid != self.main.account_sid:
            known = await self._asked_tokens(known)
        return known

    async def _read_tokens(self, account_sid: str) -> SigningAccount | None:
        found = await self._store.read(_tokens_of, account_sid)
        if found is None:
            return None
        try:
            known = self._opened(*found)
        except SealBroken as error:
            log.event("signing_token_unreadable", level="error", error=error)
            return None
        self._signing[account_sid] = known
        return known

    async def _asked_tokens(self, known: SigningAccount) -> SigningAccount:
        now_s = trio.current_time()
        if now_s < self._asked_at_s.get(known.account_sid, -math.inf) + ASK_EVERY_S:
            return known
        self._asked_at_s[known.account_sid] = now_s
        try:
            with trio.fail_after(ASK_TIMEOUT_S):
                shown = await accounts.fetch(self.main, known.account_sid)
        except (TwilioError, trio.TooSlowError) as error:
            log.event("signing_token_unasked", level="warning", error=str(error))
            return known
        if shown is None or not shown.auth_token or shown.auth_token in known.tokens:
            return known
        await self._store.write(self._keep_token, known, shown.auth_token)
        log.event("signing_token_rotated", account_sid=known.account_sid)
        return await self._read_tokens(known.account_sid) or known

    def _keep_token(self, conn: Connection, known: SigningAccount, token: str) -> None:
        now = self._clock.now()
        kind = credentials.AUTH_TOKEN
        for old in credentials.of_tenant(conn, known.tenant_id, kind, credentials.RETIRING):
            credentials.revoked(conn, old.id, now)
        record_id = ids.new_id(ids.CREDENTIAL, now)
        sealed = self._vault.seal(purpose(known.tenant_id, kind, known.account_sid), token)
        record = CredentialRecord(record_id, known.tenant_id, kind, credentials.MINTING, now, now)
        credentials.add(conn, record)
        credentials.minted(conn, record_id, known.account_sid, sealed, now)

    async def signing_tenant(self, tenant_id: str) -> SigningAccount | None:
        """Who signs for this tenant's account; None when it has none. Raises StoreUnavailable."""
        try:
            return await self.signing_account(await self.account_sid_of(tenant_id))
        except NoAccount:
            return None

    def forget_tokens(self, account_sid: str) -> None:
        """Read them again when they are needed next. The main account's come from the configuration."""
        if account_sid != self.main.account_sid:
            self._signing.pop(account_sid, None)

    def forget(self, tenant_id: str) -> None:
        """The tenant's account is closed: nobody acts in it any more."""
        self._clients.pop(tenant_id, None)

    # ---- inside --------------------------------------------------------------------------------

    async def switch(self, tenant_id: str) -> int | None:
        """Go on with the key that the store says is current.

        What is returned is for `settled` of the client: requests begun before may still be under way. None
        when nothing acts for this tenant in this process, or does so with that key already.
        """
        client = self._clients.get(tenant_id)
        if client is None:
            return None
        _, key = await self._current_key(tenant_id)
        if key.sid is None or key.sid == client.key_sid:
            return None
        return client.act_as(key.sid, self._secret(key))

    async def _new_client(self, tenant_id: str) -> TwilioRest:
        account_sid, key = await self._current_key(tenant_id)
        assert key.sid is not None
        client = self.main.for_account(account_sid, key.sid, self._secret(key))

        async def renew() -> bool:
            # Another daemon on the same store has changed the key, and ours is revoked already.
            return await self.switch(tenant_id) is not None

        client.renew = renew
        return client

    async def _current_key(self, tenant_id: str) -> tuple[str, CredentialRecord]:
        tenant, key = await self._store.read(_key_of, tenant_id)
        if tenant is None or tenant.account_sid is None or key is None:
            raise NoAccount(tenant_id)
        return tenant.account_sid, key

    def _secret(self, record: CredentialRecord) -> str:
        sealed_for = purpose(record.tenant_id, record.kind, record.sid or "")
        return self._vault.open(sealed_for, record.sealed or "")

    def _opened(self, tenant: TenantRecord, tokens: list[CredentialRecord]) -> SigningAccount:
        texts = tuple(self._secret(record) for record in tokens)
        return SigningAccount(tenant.account_sid or "", tenant.id, texts)


def _key_of(
    conn: Connection, tenant_id: str
) -> tuple[TenantRecord | None, CredentialRecord | None]:
    return tenants.get(conn, tenant_id), credentials.current(conn, tenant_id, credentials.API_KEY)


def _tokens_of(
    conn: Connection, account_sid: str
) -> tuple[TenantRecord, list[CredentialRecord]] | None:
    tenant = tenants.by_account(conn, account_sid)
    if tenant is None:
        return None
    # `retiring`: the one before a rotation, for as long as requests signed with it may still come.
    tokens = credentials.of_tenant(
        conn, tenant.id, credentials.AUTH_TOKEN, credentials.CURRENT, credentials.RETIRING
    )
    return tenant, tokens
