"""What the API needs of the rest of the daemon, as it needs it, and how a handler gets at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Protocol, cast

from quart import current_app

from control.config import Settings
from control.metrics import Metrics, WorkerStats
from control.numbers import Numbers
from control.retention.service import Retention
from control.stats.usage import Usage
from control.store import Store
from control.store.records import CallRecord
from control.tenants.limits import RequestLimiter
from control.tenants.service import Tenants
from control.transfer.order import Order
from control.verticals import Vertical

EXTENSION = "tandem"


class Clock(Protocol):
    """Wall time."""

    def now(self) -> datetime: ...


class Switchboard(Protocol):
    """Calls: see `control.switchboard`."""

    @property
    def draining(self) -> bool: ...

    def live_counts(self) -> Mapping[str, int]: ...

    async def initiate(
        self,
        *,
        agent_id: str,
        to: str,
        variables: dict[str, Any],
        metadata: dict[str, Any],
        tenant_id: str | None,
        not_before: datetime | None,
        may_be_put_off: bool,
        machine_detection: dict[str, Any] | None,
    ) -> CallRecord: ...

    async def check_policy(
        self,
        *,
        agent_id: str,
        to: str,
        direction: str,
        at: datetime | None,
        tenant_id: str | None,
        channel: Literal["voice", "sms"] = "voice",
        from_number: str | None = None,
        meaning: dict[str, Any] | None = None,
    ) -> dict[str, Any]: ...

    async def hang_up(self, call_id: str) -> CallRecord: ...

    async def cancel_queued(self, call_id: str) -> CallRecord | None: ...

    async def transfer(self, call_id: str, order: Order) -> CallRecord: ...

    async def usage(self, tenant_id: str, first: date, last: date) -> Usage: ...


class Pool(Protocol):
    """Media workers: see `control.workers`."""

    @property
    def count(self) -> int: ...

    def stats(self) -> Sequence[WorkerStats]: ...


class Provisioning(Protocol):
    """Background set-up of agents, and their health: see `control.provisioning`."""

    @property
    def verticals(self) -> Mapping[str, Vertical]: ...

    def start(self, agent_id: str) -> None: ...

    async def check(self, agent_id: str) -> None: ...

    async def account(self, tenant_id: str) -> dict[str, Any]: ...


class AfterCall(Protocol):
    """What comes after a call: see `control.after`."""

    def seal(self, webhook_id: str, secret: str) -> str: ...

    def wake(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything a handler may use."""

    switchboard: Switchboard
    store: Store
    settings: Settings
    clock: Clock
    metrics: Metrics
    provisioning: Provisioning
    pool: Pool
    numbers: Numbers | None = None
    tenants: Tenants | None = None
    after: AfterCall | None = None
    retention: Retention | None = None
    request_limiter: RequestLimiter = field(default_factory=RequestLimiter)


def dependencies() -> Dependencies:
    """Of the application that serves this request."""
    return cast("Dependencies", current_app.extensions[EXTENSION])
