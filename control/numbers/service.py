"""`Numbers`: what the rest of the daemon sees of telephone numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import trio

from control import ids, log
from control.clock import Clock
from control.numbers import buying, claims, plan, refusals, search, wiring
from control.numbers.access import TwilioAccess
from control.numbers.buying import PREFIX, Purchase, columns_of
from control.numbers.papers import Papers
from control.numbers.trust import Trust
from control.numbers.values import Candidate, Checked, NumberProblem, NumberWish
from control.store import Store, StoreUnavailable
from control.store import numbers as stored
from control.store.numbers import ACTIVE, FAILED, GONE, RELEASED, NumberRecord
from control.twilio import numbers as twilio_numbers
from control.twilio.numbers import Owned
from control.twilio.rest import TwilioError, TwilioRest
from control.urls import PublicUrls

SWEEP_INTERVAL_S = 60.0
INTERRUPTED_AFTER_S = 120.0
"""An intent that nobody has touched for so long belongs to a process that is gone."""
SWEPT_AT_ONCE_MAX = 50


class Numbers:
    """Numbers of all tenants. Every method raises `NumberProblem` and `StoreUnavailable`.

    `main` acts in the main account; it is needed only to move numbers out of it.
    """

    def __init__(
        self,
        store: Store,
        access: TwilioAccess,
        urls: PublicUrls,
        clock: Clock,
        *,
        main: TwilioRest | None = None,
    ) -> None:
        self._store = store
        self._access = access
        self._webhooks = wiring.wanted(urls)
        self._clock = clock
        self._main = main
        self._locks: dict[str, trio.Lock] = {}
        self.papers = Papers(store, access, clock)
        """What countries and carriers want to see."""
        self.trust = Trust(self.papers, main)

    # ---- search and purchase -------------------------------------------------------------------

    async def search(self, tenant_id: str, wish: NumberWish, *, limit: int = 20) -> list[Candidate]:
        """What Twilio has to sell now; empty when nothing matches."""
        wish = plan.checked(wish)
        return await search.candidates(await self._rest(tenant_id), wish, limit)

    async def why_nothing(self, tenant_id: str, wish: NumberWish) -> NumberProblem:
        """Why a search was empty, with area codes near by that have numbers."""
        return await search.nothing(await self._rest(tenant_id), plan.checked(wish))

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

        asked again, also by another process, it answers with what was bought, or goes on. `label` becomes
        a part of the number's name at Twilio.
        """
        wish = plan.checked(wish)
        async with self._alone(f"{tenant_id}/{intent_key}"):
            intent = buying.intent(
                self._clock.now(), tenant_id, wish, intent_key, agent_id=agent_id, label=label
            )
            record = await self._store.write(stored.begin, intent)
            if record.status == ACTIVE:
                return record
            if record.status in (RELEASED, GONE):
                raise NumberProblem("over", f"the number of intent {intent_key} is {record.status}")
            record = await self._store.write(
                claims.reopen, record, wish, agent_id, self._clock.now()
            )
            return await (await self._purchase(record, wish)).run()

    # ---- numbers that are there ----------------------------------------------------------------

    async def adopt(
        self, tenant_id: str, e164: str, *, agent_id: str | None = None, may_move: bool = False
    ) -> NumberRecord:
        """Take over a number that the tenant's account owns, and wire it. Twice is as good as once.

        `may_move`: one that the main account owns is moved into the tenant's.
        """
        known = plan.parsed(e164)
        async with self._alone(e164):
            await self._store.read(claims.refuse_taken, tenant_id, e164, agent_id)
            rest = await self._rest(tenant_id)
            try:
                owned = await twilio_numbers.by_e164(rest, e164)
                if owned is None and may_move:
                    owned = await self._moved(rest, e164)
                if owned is None:
                    raise NumberProblem(
                        "not_owned",
                        f"e164: the Twilio account does not own {e164}: buy or port it, or give one it owns",
                        field="e164",
                    )
                owned = await self._wired(rest, owned)
            except TwilioError as error:
                raise refusals.of(error) from error
            now = self._clock.now()
            record = NumberRecord(
                id=ids.new_id(PREFIX, now),
                created_at=now,
                updated_at=now,
                tenant_id=tenant_id,
                type=known.type,
                country=known.country,
                agent_id=agent_id,
                origin="adopted",
                friendly_name=owned.friendly_name[:64],
                **columns_of(owned),
            )
            return await self._store.write(claims.adopt, record)

    async def wire(self, tenant_id: str, number: str) -> NumberRecord:
        """Set all webhook URLs. `number` is an id or E.164."""
        await self.check(tenant_id, number)
        return await self.get(tenant_id, number)

    async def check(self, tenant_id: str, number: str) -> Checked:
        """Look at Twilio: still ours, in use, and its URLs ours; what is not is put back."""
        record = await self.get(tenant_id, number)
        if record.e164 is None:
            return Checked(record, record.status)
        async with self._alone(record.e164):
            record = await self.get(tenant_id, number)
            if record.status not in (ACTIVE, GONE):
                return Checked(record, record.status)
            try:
                return await self._check(record)
            except TwilioError as error:
                raise refusals.of(error) from error

    async def _check(self, record: NumberRecord) -> Checked:
        rest = await self._rest(record.tenant_id)
        owned = await self._look(rest, record)
        if owned is None:
            return Checked(await self._note(record, status=GONE), GONE)
        before = owned.webhooks
        different = wiring.differences(before, self._webhooks)
        owned = await self._wired(rest, owned)
        left = wiring.differences(owned.webhooks, self._webhooks)
        mended = tuple(name for name in different if name not in left)
        columns: dict[str, Any] = columns_of(owned)
        if mended:
            columns |= {"mended": list(mended), "mended_at": self._clock.now()}
            log.event(
                "number_mended", level="warning", number_id=record.id, settings=", ".join(mended)
            )
        return Checked(
            await self._note(record, **columns),
            owned.status,
            mended,
            was={name: getattr(before, name) for name in mended},
            now={name: getattr(owned.webhooks, name) for name in mended},
        )

    async def release(self, tenant_id: str, number: str, *, force: bool = False) -> NumberRecord:
        """Give it back to Twilio, for good. Refused (`in_use`) while a live agent has it unless `force`."""
        record = await self.get(tenant_id, number)
        if record.status == RELEASED:
            return record
        if record.sid is None or record.e164 is None:
            raise NumberProblem("not_found", f"{record.id} was never bought: it is {record.status}")
        async with self._alone(record.e164):
            holder = await self._store.read(stored.holder, record.e164)
            if holder is not None and not force:
                raise NumberProblem(
                    "in_use",
                    f"{record.e164} is the number of agent {holder}: close the agent first, or force it",
                    holder=holder,
                )
            rest = await self._rest(tenant_id)
            try:
                await twilio_numbers.release(rest, record.sid)
            except TwilioError as error:
                raise refusals.of(error) from error
            log.event("number_released", number_id=record.id, e164=record.e164)
            return await self._note(record, status=RELEASED, released_at=self._clock.now())

    async def assign(self, tenant_id: str, number: str, agent_id: str | None) -> NumberRecord:
        """Give the number to an agent, or to none."""
        record = await self.get(tenant_id, number)
        if record.e164 is not None:
            await self._store.read(claims.refuse_taken, tenant_id, record.e164, agent_id)
        return await self._note(record, agent_id=agent_id)

    async def get(self, tenant_id: str | None, number: str) -> NumberRecord:
        """By id or E.164; `tenant_id` None means any tenant's."""
        record = await self._store.read(stored.get, number, tenant_id=tenant_id)
        if record is None:
            raise NumberProblem("not_found", f"there is no number {number}")
        return record

    # ---- in the background ---------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find what interrupted purchases have bought, and what became of papers. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.papers.run)
            task_status.started()
            while True:
                try:
                    await self.sweep()
                except StoreUnavailable as error:
                    log.event("number_sweep_failed", level="warning", error=error)
                await trio.sleep(SWEEP_INTERVAL_S)

    async def sweep(self) -> None:
        """Purchases whose process was killed and that nobody took up: paid for, they must be in the list.

        Buys nothing. Boundary of one number: what fails is tried again at the next sweep.
        """
        before = self._clock.now() - timedelta(seconds=INTERRUPTED_AFTER_S)
        for record in await self._store.read(stored.interrupted, before, SWEPT_AT_ONCE_MAX):
            key = f"{record.tenant_id}/{record.intent_key}"
            if key not in self._locks:
                async with self._alone(key):
                    await self._swept(record)

    # ---- inside --------------------------------------------------------------------------------

    async def _swept(self, record: NumberRecord) -> None:
        """Documented boundary: what is wrong with one row must not stop the daemon."""
        try:
            await self._conclude(record)
        except Exception as error:  # noqa: BLE001
            log.event("number_sweep_failed", level="warning", number_id=record.id, error=error)

    async def _conclude(self, record: NumberRecord) -> None:
        purchase = await self._purchase(record, NumberWish(**record.wish))
        if await purchase.find() is None:
            problem = NumberProblem("taken", "interrupted; nothing was bought", transient=True)
            await self._note(
                record,
                status=FAILED,
                problem=problem.as_json(),
                attempt_e164=None,
                attempt_at=None,
            )

    async def _purchase(self, record: NumberRecord, wish: NumberWish) -> Purchase:
        rest = await self._rest(record.tenant_id)
        return Purchase(self._store, rest, self._webhooks, self._clock, record, wish)

    async def _rest(self, tenant_id: str) -> TwilioRest:
        try:
            return await self._access.of(tenant_id)
        except TwilioError as error:
            raise refusals.of(error) from error

    async def _look(self, rest: TwilioRest, record: NumberRecord) -> Owned | None:
        owned = await twilio_numbers.fetch(rest, record.sid) if record.sid else None
        if owned is None and record.e164:
            # Released by hand and bought again it has another SID.
            owned = await twilio_numbers.by_e164(rest, record.e164)
        return owned

    async def _wired(self, rest: TwilioRest, owned: Owned) -> Owned:
        if not wiring.differences(owned.webhooks, self._webhooks):
            return owned
        return await twilio_numbers.wire(rest, owned.sid, self._webhooks)

    async def _moved(self, rest: TwilioRest, e164: str) -> Owned | None:
        if self._main is None or self._main.account_sid == rest.account_sid:
            return None
        owned = await twilio_numbers.by_e164(self._main, e164)
        if owned is None:
            return None
        log.event("number_moved", e164=e164, account_sid=rest.account_sid)
        return await twilio_numbers.move(self._main, owned.sid, rest.account_sid)

    async def _note(self, record: NumberRecord, **columns: Any) -> NumberRecord:
        now = self._clock.now()
        if columns.get("status") in (ACTIVE, GONE):
            columns["checked_at"] = now
        return await self._store.write(stored.update, record.id, **columns, updated_at=now)

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """One at a time for each key, in this process; across processes the store decides."""
        lock = self._locks.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._locks.pop(key, None)
