"""`Numbers`: what the rest of the daemon sees of telephone numbers."""

from __future__ import annotations

from typing import Protocol

from control.clock import Clock
from control.numbers.values import Candidate, Checked, NumberWish
from control.store import Store
from control.store.numbers import NumberRecord
from control.twilio.rest import TwilioRest
from control.urls import PublicUrls


class TwilioAccess(Protocol):
    """Who acts in a tenant's account: see `control.tenants.access`."""

    async def of(self, tenant_id: str) -> TwilioRest: ...


class Numbers:
    """Numbers of all tenants. Every method raises `NumberProblem` and `StoreUnavailable`."""

    def __init__(self, store: Store, access: TwilioAccess, urls: PublicUrls, clock: Clock) -> None:
        self._store = store
        self._access = access
        self._urls = urls
        self._clock = clock

    async def search(self, tenant_id: str, wish: NumberWish, *, limit: int = 20) -> list[Candidate]:
        """What Twilio has to sell now; empty when nothing matches."""
        raise NotImplementedError

    async def buy(
        self,
        tenant_id: str,
        wish: NumberWish,
        *,
        intent_key: str,
        agent_id: str | None = None,
        label: str | None = None,
    ) -> NumberRecord:
        """Buy one number, wired to us from its first moment. Once for each `intent_key` of a tenant:

        asked again, also by another process, it answers with what was bought, or goes on.
        """
        raise NotImplementedError

    async def adopt(
        self,
        tenant_id: str,
        e164: str,
        *,
        agent_id: str | None = None,
        may_move: bool = False,
    ) -> NumberRecord:
        """Take over a number that the tenant's account owns, and wire it. Twice is as good as once.

        `may_move`: one that the main account owns is moved into the tenant's.
        """
        raise NotImplementedError

    async def wire(self, tenant_id: str, number: str) -> NumberRecord:
        """Set all webhook URLs. `number` is an id or E.164."""
        raise NotImplementedError

    async def check(self, tenant_id: str, number: str) -> Checked:
        """Look at Twilio: still ours, in use, and its URLs ours; what is not is put back."""
        raise NotImplementedError

    async def release(self, tenant_id: str, number: str, *, force: bool = False) -> NumberRecord:
        """Give it back to Twilio, for good. Refused (`in_use`) while a live agent has it unless `force`."""
        raise NotImplementedError

    async def assign(self, tenant_id: str, number: str, agent_id: str | None) -> NumberRecord:
        """Give the number to an agent, or to none."""
        raise NotImplementedError
