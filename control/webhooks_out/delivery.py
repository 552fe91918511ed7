"""Sends one delivery: the outbox's handler of kind `webhook`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Protocol

from control import failpoints
from control.outbox import GiveUp, Outbox, OutboxItem, Schedule, TryAgain
from control.store import Store
from control.store import webhooks as table
from control.vault import SealBroken, Vault
from control.webhooks_out import targets
from control.webhooks_out.signing import headers
from control.webhooks_out.targets import BadTarget, PushFailed, Resolve

AT_ONCE = 32
RETRY_FIRST_S = 5.0
RETRY_MAX_S = 6 * 3600.0
RETRY_TOTAL_S = 24 * 3600.0
RETRY_AFTER_MAX_S = 3600.0
GONE = 410
"""The target's own word that it wants no more."""


class Clock(Protocol):
    def now(self) -> datetime: ...


def purpose(webhook_id: str) -> str:
    """What a target's secret is sealed for."""
    return f"webhook secret {webhook_id}"


def backoff(
    first_s: float = RETRY_FIRST_S, max_s: float = RETRY_MAX_S, total_s: float = RETRY_TOTAL_S
) -> Schedule:
    """Twice as long each time, at most `max_s`; no more once `total_s` would have gone by."""

    def after(attempts: int) -> float | None:
        waits = [min(first_s * 2**number, max_s) for number in range(attempts)]
        return waits[-1] if sum(waits) <= total_s else None

    return after


class Deliveries:
    """One per daemon. `verify` and `resolver` are for tests with a certificate and names of their own."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        vault: Vault,
        *,
        allow_private: bool = False,
        schedule: Schedule | None = None,
        deadline_s: float = targets.DEADLINE_S,
        resolver: Resolve = targets.resolve,
        verify: Any = True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._vault = vault
        self._allow_private = allow_private
        self._schedule = schedule or backoff()
        self._deadline_s = deadline_s
        self._resolver = resolver
        self._verify = verify

    def register(self, outbox: Outbox) -> None:
        """Take items of our kind."""
        outbox.handle(
            table.OUTBOX_KIND,
            self.send,
            schedule=self._schedule,
            at_once=AT_ONCE,
            deadline_s=self._deadline_s + 5.0,
        )

    async def send(self, item: OutboxItem) -> None:
        """One attempt. Raises TryAgain, GiveUp, StoreUnavailable."""
        found = await self._store.read(_both, item.key)
        if found is None:
            raise GiveUp("the target was removed")
        record, webhook = found
        if record.status == table.DELIVERED:
            return
        if not webhook.enabled:
            await self._given_up(record, "the target is switched off", None)
        try:
            status = await self._push(record, webhook)
        except BadTarget as error:
            await self._given_up(record, f"refused: {error}", None)
        except SealBroken as error:
            await self._given_up(record, str(error), None)
        except PushFailed as error:
            await self._failed(item, record, webhook, error)
        else:
            failpoints.reach("push.delivered")
            now = self._clock.now()
            await self._write(
                record, status=table.DELIVERED, http_status=status, delivered_at=now, next_at=None
            )

    async def _push(self, record: table.DeliveryRecord, webhook: table.WebhookRecord) -> int:
        url = targets.check_url(webhook.url, allow_private=self._allow_private)
        secret = self._vault.open(purpose(webhook.id), webhook.secret)
        body = record.body.encode()
        signed = headers(secret, record.event_id, int(self._clock.now().timestamp()), body)
        answer = await targets.push(
            url,
            body,
            signed,
            allow_private=self._allow_private,
            resolver=self._resolver,
            deadline_s=self._deadline_s,
            verify=self._verify,
        )
        return answer.status

    async def _failed(
        self,
        item: OutboxItem,
        record: table.DeliveryRecord,
        webhook: table.WebhookRecord,
        error: PushFailed,
    ) -> None:
        if error.status == GONE:
            await self._store.write(
                table.update, webhook.id, enabled=False, updated_at=self._clock.now()
            )
            await self._given_up(
                record, "HTTP 410: the target wants no more; it was switched off", GONE
            )
        delay_s = self._schedule(item.attempts)
        if delay_s is None:
            await self._given_up(record, str(error), error.status)
            return
        asked_s = min(error.retry_after_s or 0.0, RETRY_AFTER_MAX_S)
        next_at = self._clock.now() + timedelta(seconds=max(delay_s, asked_s))
        await self._write(record, http_status=error.status, last_error=str(error), next_at=next_at)
        raise TryAgain(str(error), asked_s or None)

    async def _given_up(self, record: table.DeliveryRecord, error: str, status: int | None) -> None:
        await self._write(
            record, status=table.DEAD, http_status=status, last_error=error, next_at=None
        )
        raise GiveUp(error)

    async def _write(self, record: table.DeliveryRecord, **columns: Any) -> None:
        now = self._clock.now()
        await self._store.write(
            table.update_delivery,
            record.id,
            attempts=record.attempts + 1,
            updated_at=now,
            **columns,
        )


def _both(conn: Any, delivery_id: str) -> tuple[table.DeliveryRecord, table.WebhookRecord] | None:
    record = table.delivery(conn, delivery_id)
    webhook = table.get(conn, record.webhook_id) if record is not None else None
    return None if record is None or webhook is None else (record, webhook)
