"""Takes due items from the store, runs their handlers, writes down what became of them."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, TypeAlias

import trio
from sqlalchemy import Connection

from control import failpoints, log
from control.store import Store, StoreUnavailable
from control.store import outbox as table
from control.store.outbox import OutboxItem

LOOK_EVERY_S = 1.0
"""How late an item may be that nobody woke us for: one that another daemon, or a handler, has put in."""
TOGETHER_S = 0.05
"""Whoever wakes us waits so long for others: a look costs as much as many an item. What can be begun in a second
is bounded by that, at 160 items of a kind of which 8 run at once."""
DEADLINE_S = 30.0
LEASE_S = 15.0
"""Renewed while the work goes on; so long after a daemon's death another one begins with what it had."""
RENEW_EVERY_S = 5.0
AT_ONCE = 8
KEEP_DONE = timedelta(days=2)
"""For as long a repeated transaction finds that its item was there."""
PURGE_EVERY_S = 3600.0
JITTER = 0.1

Handler: TypeAlias = Callable[[OutboxItem], Awaitable["datetime | Settled | None"]]
"""None: the item is done; a time: it is to be done again then; `Settled`: the handler has written down what it did
and that it is done (`control.store.outbox.done`) in one transaction."""
Schedule: TypeAlias = Callable[[int], "float | None"]
"""Seconds to wait after this many attempts; None: no more."""


class Clock(Protocol):
    def now(self) -> datetime: ...


class Settled(NamedTuple):
    """`is_held`: whether the lease was still ours, as `control.store.outbox.done` said."""

    is_held: bool


class TryAgain(Exception):
    """It did not work this time. `after_s` lengthens the schedule's wait, `latest` bounds it; its end stays.

    `after_s` is kept: whoever asked for it is not asked sooner. It may be later, as every wait is spread.
    """

    def __init__(
        self, error: str, after_s: float | None = None, *, latest: datetime | None = None
    ) -> None:
        super().__init__(error)
        self.after_s = after_s
        self.latest = latest


class GiveUp(Exception):
    """It will never work: the item becomes a dead letter."""


def steps(*delays_s: float, forever: bool = False) -> Schedule:
    """Wait these seconds after the first, second, … attempt; then no more, or the last one for ever."""

    def after(attempts: int) -> float | None:
        if attempts <= len(delays_s):
            return delays_s[attempts - 1]
        return delays_s[-1] if forever else None

    return after


@dataclass(frozen=True, slots=True)
class _Kind:
    handler: Handler
    schedule: Schedule
    at_once: int
    deadline_s: float


class Outbox:
    """One per daemon. Handlers are registered before `run`.

    `count(kind, outcome)` is called once an attempt: `done`, `again`, `failed`, `dead`, `lost`.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        owner: str | None = None,
        count: Callable[[str, str], None] = lambda kind, outcome: None,
        jitter: Callable[[], float] = lambda: random.uniform(1 - JITTER, 1 + JITTER),
    ) -> None:
        self._store = store
        self._clock = clock
        self._count = count
        self._jitter = jitter
        self._owner = owner or f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._kinds: dict[str, _Kind] = {}
        self._running: Counter[str] = Counter()
        self._lanes: set[str] = set()
        self._wake = trio.Event()

    def handle(
        self,
        kind: str,
        handler: Handler,
        *,
        schedule: Schedule,
        at_once: int = AT_ONCE,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Who does items of this kind, how often they are tried, how many at once, how long each may take."""
        if kind in self._kinds:
            raise ValueError(f"two handlers for {kind}")
        self._kinds[kind] = _Kind(handler, schedule, at_once, deadline_s)

    def wake(self) -> None:
        """Something may be due now."""
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; what runs then is given back, and done again later."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._purge)
                nursery.start_soon(self._renew)
                task_status.started()
                while True:
                    wait_s = await self._start_due(nursery)
                    with trio.move_on_after(wait_s):
                        await self._wake.wait()
                        await trio.sleep(TOGETHER_S)
        finally:
            with trio.CancelScope(shield=True):
                await self._give_back()

    async def _start_due(self, nursery: trio.Nursery) -> float:
        """Start what is due; how long to wait before the next look."""
        self._wake = trio.Event()  # first, so that what comes meanwhile is not missed
        now = self._clock.now()
        open_kinds = [
            name for name, kind in self._kinds.items() if self._running[name] < kind.at_once
        ]
        try:
            due, next_at = await self._store.read(_look, open_kinds, now, frozenset(self._lanes))
            for name in due:
                await self._start_kind(nursery, name)
        except StoreUnavailable as error:
            log.event("outbox_waits", level="warning", error=str(error))
            return LOOK_EVERY_S
        if next_at is None:
            return LOOK_EVERY_S
        return min(LOOK_EVERY_S, max(0.0, (next_at - self._clock.now()).total_seconds()))

    async def _start_kind(self, nursery: trio.Nursery, name: str) -> None:
        kind = self._kinds[name]
        items = await self._store.write(
            table.claim,
            owner=self._owner,
            kinds=[name],
            now=self._clock.now(),
            lease=timedelta(seconds=LEASE_S),
            limit=kind.at_once - self._running[name],
            busy_lanes=frozenset(self._lanes),
        )
        if items:
            failpoints.reach("outbox.claimed")
        for item in items:
            self._running[name] += 1
            if item.lane:
                self._lanes.add(item.lane)
            nursery.start_soon(self._do, kind, item)

    async def _do(self, kind: _Kind, item: OutboxItem) -> None:
        try:
            await self._attempt(kind, item)
        finally:
            self._running[item.kind] -= 1
            self._lanes.discard(item.lane)
            self.wake()

    async def _attempt(self, kind: _Kind, item: OutboxItem) -> None:
        after_s: float | None = None
        latest: datetime | None = None
        try:
            with trio.fail_after(kind.deadline_s):
                again_at = await kind.handler(item)
        except GiveUp as error:
            await self._settle(item, "dead", table.bury, str(error))
            return
        except TryAgain as error:
            problem, after_s, latest = str(error), error.after_s, error.latest
        except StoreUnavailable as error:
            problem = str(error)
        except trio.TooSlowError:
            problem = f"not done within {kind.deadline_s:g} s"
        except Exception as error:  # noqa: BLE001  # boundary: one item's mistake, all items' runner
            log.event("outbox_item_failed", level="error", kind=item.kind, error=error)
            problem = f"{type(error).__name__}: {error}"
        else:
            if isinstance(again_at, Settled):
                self._count(item.kind, "done" if again_at.is_held else "lost")
            elif again_at is None:
                await self._settle(item, "done", table.done)
            else:
                await self._settle(item, "again", table.retry, again_at, None)
            return
        delay_s = kind.schedule(item.attempts)
        if delay_s is None:
            await self._settle(item, "dead", table.bury, problem)
            return
        wait_s = self._spread(delay_s, after_s)
        now = self._clock.now()
        due_at = now + timedelta(seconds=wait_s)
        if latest is not None and now < latest:
            due_at = min(due_at, latest)
        await self._settle(item, "failed", table.retry, due_at, problem)

    def _spread(self, delay_s: float, after_s: float | None) -> float:
        """What failed together is not tried again together: a tenth to either side, or only to the later one."""
        if after_s is None:
            return delay_s * self._jitter()
        return max(after_s, delay_s) * (1 + abs(self._jitter() - 1))

    async def _settle(
        self, item: OutboxItem, outcome: str, write: Callable[..., bool], *arguments: object
    ) -> None:
        """Write down what became of it. If that fails, the lease runs out and it is done again."""
        try:
            held = await self._store.write(write, item, self._clock.now(), *arguments)
        except StoreUnavailable as error:
            log.event("outbox_unsettled", level="warning", kind=item.kind, error=str(error))
            held = False
        failpoints.reach("outbox.settled")
        self._count(item.kind, outcome if held else "lost")
        if outcome == "dead":
            log.event("outbox_dead_letter", level="warning", kind=item.kind, key=item.key)

    async def _renew(self) -> None:
        while True:
            await trio.sleep(RENEW_EVERY_S)
            if not any(self._running.values()):
                continue
            until = self._clock.now() + timedelta(seconds=LEASE_S)
            # If it cannot be written, the lease may run out: then the work is done once more, by whoever.
            with contextlib.suppress(StoreUnavailable):
                await self._store.write(table.renew, self._owner, until)

    async def _purge(self) -> None:
        while True:
            try:
                await self._store.write(table.purge, self._clock.now() - KEEP_DONE)
            except StoreUnavailable as error:
                log.event("outbox_waits", level="warning", error=str(error))
            await trio.sleep(PURGE_EVERY_S)

    async def _give_back(self) -> None:
        with contextlib.suppress(StoreUnavailable):  # the leases run out by themselves
            await self._store.write(table.release, self._owner, self._clock.now())


def _look(
    conn: Connection, kinds: list[str], now: datetime, lanes: frozenset[str]
) -> tuple[list[str], datetime | None]:
    """The kinds of which something can be begun now, and when the next item is due."""
    return table.due_kinds(conn, kinds, now, lanes), table.next_due(conn, kinds, now)
