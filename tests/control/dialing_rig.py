"""Dialling in virtual time: a real store, run without threads, and a Twilio that counts what reaches it.

With Trio's mock clock an hour of dialling takes seconds, and a daemon can be killed between any two steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import trio
from sqlalchemy import Connection

from control.config import Listen
from control.metrics import Metrics
from control.store import Store, agents, rows
from control.store.records import TenantRecord
from control.store.tables import tenants as tenants_table
from control.switchboard import Switchboard
from control.twilio.calls import CallSeen, Created
from control.twilio.errors import TwilioRefused
from control.workers import WorkerStats
from tests.control.switchboard_rig import AGENT, MEDIA, NOW, SETTINGS, FakePool


class InlineStore(Store):
    """Everything at once, in Trio's own thread: a mock clock does not see threads."""

    async def _in_thread(self, fn: Callable[[], Any], limiter: Any, deadline_s: float) -> Any:
        await trio.lowlevel.checkpoint()
        return fn()


@dataclass
class VirtualClock:
    """Goes with the mock clock; `ahead` skips days that nobody needs to live through, beat by beat."""

    ahead: timedelta = timedelta()

    def now(self) -> Any:
        return NOW + self.ahead + timedelta(seconds=trio.current_time())


class RoomyPool(FakePool):
    """`seats` calls fit."""

    seats = 100_000

    def stats(self) -> list[WorkerStats]:
        return [WorkerStats("w1", 1, 0, {})]


@dataclass
class CountingTwilio:
    """`arrived` are the requests that reached Twilio: when, from whom, to whom. Each of them is a call."""

    account_sid: str = "AC1"
    latency_s: float = 0.3
    true_cps: float | None = None
    """Queue what comes faster than this."""
    busy: int = 0
    """So many requests are answered 429, without a call."""
    arrived: list[tuple[float, str, str]] = field(default_factory=list)
    refused: int = 0
    calls: list[CallSeen] = field(default_factory=list)
    queued_ms: list[int] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    _free_at_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    async def create_call(self, *, to: str, from_: str, **_: Any) -> Created:
        if self.busy:
            self.busy -= 1
            self.refused += 1
            raise TwilioRefused(429, 20429, "too many requests")
        now_s = trio.current_time()
        self.arrived.append((now_s, from_, to))
        sid = f"CA{len(self.arrived):032}"
        at = NOW + timedelta(seconds=now_s)
        self.calls.append(CallSeen(sid, "queued", to, from_, at, None))
        starts_s = max(now_s, self._free_at_s[from_])
        if self.true_cps:
            self._free_at_s[from_] = starts_s + 1 / self.true_cps
        self.queued_ms.append(round((starts_s - now_s) * 1000))
        queue_ms = self.queued_ms[-1]
        await trio.sleep(self.latency_s)
        return Created(sid, queue_ms)

    async def end_call(self, sid: str) -> bool:
        self.ended.append(sid)
        return True

    async def instruct_call(self, sid: str, document: str) -> bool:
        return True

    async def fetch_call(self, sid: str) -> CallSeen | None:
        return next((call for call in self.calls if call.sid == sid), None)

    async def list_ended(self, *, since: Any, until: Any) -> list[CallSeen]:
        return []

    async def list_calls(self, *, to: str, from_: str, since: Any) -> list[CallSeen]:
        return [call for call in self.calls if (call.to, call.from_) == (to, from_)]

    def times(self) -> dict[str, list[float]]:
        """When requests of each caller arrived."""
        found: dict[str, list[float]] = defaultdict(list)
        for at_s, from_, _ in self.arrived:
            found[from_].append(at_s)
        return found


def most_in_a_second(times: list[float]) -> int:
    """The largest number of arrivals in any half-open second."""
    return max(sum(begin <= at < begin + 0.999_999 for at in times) for begin in times)


def number_of(tenant: int) -> str:
    return f"+1415555{tenant:04}"


def agent_of(tenant: int) -> str:
    return f"agt_{tenant}"


def _set_up(conn: Connection, tenants_count: int, limits: dict[str, Any] | None) -> None:
    for number in range(tenants_count):
        tenant_id = f"tnt_{number}"
        record = TenantRecord(tenant_id, tenant_id, "active", NOW, NOW, limits=limits)
        conn.execute(tenants_table.insert().values(rows.values(record)))
        agent = replace(
            AGENT, id=agent_of(number), tenant_id=tenant_id, number_e164=number_of(number)
        )
        agents.insert(conn, agent)


@dataclass
class DialingRig:
    """`start` is a daemon of its own, over the same store and the same Twilio."""

    store: Store
    twilio: CountingTwilio
    pool: RoomyPool
    clock: VirtualClock
    cps: float
    rules: Any = ()

    def switchboard(self, port: int = 8080) -> Switchboard:
        control = replace(SETTINGS.control, listen=Listen("127.0.0.1", port))
        media = replace(MEDIA, max_calls_per_worker=self.pool.seats)
        return Switchboard(
            settings=replace(
                SETTINGS,
                media=media,
                control=control,
                twilio=replace(SETTINGS.twilio, cps=self.cps),
            ),
            store=self.store,
            pool=self.pool,
            twilio=self.twilio,
            rules=self.rules,
            clock=self.clock,
            metrics=Metrics(),
        )

    @asynccontextmanager
    async def daemon(self, port: int = 8080) -> AsyncIterator[Switchboard]:
        """Runs until the block is left, and is then gone without a word."""
        async with trio.open_nursery() as nursery:
            switchboard = self.switchboard(port)
            await nursery.start(switchboard.run)
            yield switchboard
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_dialing(
    *,
    tenants_count: int = 1,
    cps: float = 5.0,
    seats: int = 100_000,
    limits: dict[str, Any] | None = None,
    rules: Any = (),
) -> AsyncIterator[DialingRig]:
    """A store in memory with `tenants_count` tenants, an agent each."""
    store = InlineStore.open("sqlite://")
    try:
        await store.write(_set_up, tenants_count, limits)
        pool = RoomyPool()
        pool.seats = seats
        yield DialingRig(store, CountingTwilio(), pool, VirtualClock(), cps, rules)
    finally:
        store.close()
