"""What the parts of the switchboard share: the rules, the book of live calls, and the outside world.

Imported by `switchboard`, `verdict`, `warming`, `dialer`, `ending` and `reconcile`; knows none of them.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import trio
from sqlalchemy import Connection

from control import log
from control.calls import Book, LiveCall, from_record
from control.compliance.number_file import Shelf
from control.compliance.reassigned import Reassigned
from control.config import Settings
from control.conversations import Conversations
from control.ledger import Ledger
from control.metrics import Metrics
from control.store import Store, agents, calls, nodes
from control.store.records import AgentRecord, CallRecord
from control.tickets import Tickets
from control.twilio.calls import CallSeen, Created
from control.urls import PublicUrls
from control.workers import PoolEvent, WorkerStats
from gateway.link import CallPlan, HeldCall
from policy import Rule

HANG_UP_TIMEOUT_S = 12.0
"""A worker waits 15 s for our word before it closes the stream without it."""


class Clock(Protocol):
    def now(self) -> datetime: ...


class Pool(Protocol):
    """What is used of `control.workers.WorkerPool`."""

    @property
    def events(self) -> trio.MemoryReceiveChannel[PoolEvent]: ...
    def prepare(self, plan: CallPlan, *, goes_on: bool = False) -> str: ...
    def room(self) -> int: ...
    @property
    def held(self) -> int: ...
    async def attach(
        self, call_id: str, sock: socket.socket, head: bytes, twilio_call_sid: str | None = None
    ) -> None: ...
    @property
    def returned(self) -> Mapping[str, HeldCall]: ...
    @property
    def outlived(self) -> bool: ...
    @property
    def reported(self) -> Collection[str]: ...
    def holds(self, call_id: str) -> bool: ...
    def home_of(self, call_id: str) -> str | None: ...
    def cancel(self, call_id: str, reason: str) -> None: ...
    def hang_up(
        self,
        call_id: str,
        reason: str,
        blame: str | None = None,
        *,
        drain: bool = False,
        hand_over: bool = False,
    ) -> None: ...
    def say(self, call_id: str, kind: str, text: str) -> None: ...
    def tool_result(self, call_id: str, tool_call_id: str, result: str, is_error: bool) -> None: ...
    def close_call(self, call_id: str) -> None: ...
    async def drain(self, timeout_s: float) -> None: ...
    def stats(self) -> Sequence[WorkerStats]: ...


class Twilio(Protocol):
    """What is used of `control.twilio.rest.TwilioRest`."""

    @property
    def client(self) -> Any: ...
    @property
    def account_sid(self) -> str: ...
    async def ask(
        self, endpoint: str, request: Callable[[], Any], *, repeatable: bool = True
    ) -> Any: ...
    async def create_call(
        self,
        *,
        to: str,
        from_: str,
        url: str,
        fallback_url: str,
        status_callback: str,
        time_limit_s: int,
        ring_timeout_s: int = 60,
        machine_detection: Mapping[str, Any] | None = None,
    ) -> Created: ...
    async def end_call(self, sid: str) -> bool: ...
    async def instruct_call(self, sid: str, document: str) -> bool: ...
    async def fetch_call(self, sid: str) -> CallSeen | None: ...
    async def list_calls(self, *, to: str, from_: str, since: datetime) -> list[CallSeen]: ...
    async def list_ended(self, *, since: datetime, until: datetime) -> list[CallSeen]: ...


class Access(Protocol):
    """What is used of `control.tenants.access.TwilioAccess`."""

    async def of(self, tenant_id: str) -> Twilio: ...


@dataclass(slots=True)
class Office:
    """One per process, made by the composition root."""

    settings: Settings
    store: Store
    pool: Pool
    twilio: Twilio
    rules: Sequence[Rule]
    clock: Clock
    tickets: Tickets
    metrics: Metrics
    reassigned: Reassigned | None = None
    """Asks the reassigned-numbers database, where that is configured."""
    access: Access | None = None
    """Clients that act in tenants' own accounts; None: everything is done in the one of `twilio`."""
    is_draining: bool = False
    """No new calls are taken."""
    has_successor: bool = False
    """Another instance, on the same port, takes them."""
    is_leaving: bool = False
    """Nor are agent legs opened any more for calls that are here."""
    book: Book = field(default_factory=Book)
    nursery: trio.Nursery | None = None
    """Where work goes on that must outlive the request that asked for it."""
    wake: trio.Event = field(default_factory=trio.Event)
    """Set when the ledger shall be written soon."""
    ledger: Ledger = field(init=False)
    shelf: Shelf = field(init=False)
    """The do-not-call files."""
    node: str = field(init=False)
    """This daemon's name: the same after a restart, and nobody else's at the same time."""
    urls: PublicUrls = field(init=False)
    conversations: Conversations = field(init=False)

    def __post_init__(self) -> None:
        self.node = node_name(self.settings)
        self.ledger = Ledger(self.store, self.node)
        self.shelf = Shelf(Path(self.settings.policy.lists_dir))
        self.urls = PublicUrls(self.settings.public.url, self.settings.public.media_url)
        self.conversations = Conversations(
            self.settings.elevenlabs, self.node, self.book, lambda: self.pool.held
        )

    async def twilio_of(self, tenant_id: str) -> Twilio:
        """The client that acts in this tenant's account. Raises TwilioRefused, TwilioUnreachable."""
        return self.twilio if self.access is None else await self.access.of(tenant_id)

    def now_ms(self) -> int:
        """Wall clock in Unix milliseconds, as timelines have it."""
        return int(self.clock.now().timestamp() * 1000)

    def note(self, call: LiveCall, name: str, /, **data: Any) -> None:
        """A line of the call's timeline, and of the log."""
        call.line(name, self.now_ms(), data)
        log.event(name, call_id=call.id, **data)

    def watch(self, call: LiveCall, within_s: float) -> None:
        """Ask what became of the call if it has not moved on in `within_s`."""
        call.deadline_s = trio.current_time() + within_s

    def spawn(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Start work of a call that nobody waits for. What it raises ends no other work."""
        if self.nursery is None:
            raise RuntimeError("the switchboard does not run")
        self.nursery.start_soon(_guarded, work, *arguments)

    async def find(
        self, call_id: str | None, sid: str | None, *, take_over: bool = False
    ) -> LiveCall | None:
        """The live call with this id or SID, also one that a former process began; None if over.

        A call that another living daemon carries is None, too, unless `take_over` makes it ours.
        Raises StoreUnavailable.
        """
        call = self.book.get(call_id) or self.book.by_sid(sid)
        if call is not None:
            return call
        now = self.clock.now()
        found = await self.store.read(_find, call_id, sid, now)
        if found is None or found[0].ended_at is not None:
            return None
        record, agent, is_carried = found
        if record.node != self.node:
            if is_carried and not take_over:
                return None
            if not await self.store.write(nodes.take_over, record, self.node, now):
                return None  # over, or another daemon was quicker
        return self.adopt(record, agent)

    def adopt(self, record: CallRecord, agent: AgentRecord | None) -> LiveCall:
        """Take over a call that a former process began. It is this node's in the store already.

        To write the node again with what the call wants written would undo what another node has claimed since.
        """
        known = self.book.get(record.id)
        if known is not None:
            return known
        call = from_record(record, agent)
        self.book.add(call)
        self.note(call, "adopted", status=call.status)
        return call


def node_name(settings: Settings) -> str:
    """Of this daemon: the same after a restart, and nobody else's at the same time."""
    return f"{socket.gethostname()}|{settings.control.listen}"[:100]


async def _guarded(work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Documented boundary: a mistake in the work of one call must not take down all calls."""
    try:
        await work(*arguments)
    except Exception as error:  # noqa: BLE001
        call_id = next((item.id for item in arguments if isinstance(item, LiveCall)), None)
        log.event("work_failed", level="error", call_id=call_id, error=error)


def ms_to_datetime(at_ms: int) -> datetime:
    """Unix milliseconds as an aware time."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def _find(
    conn: Connection, call_id: str | None, sid: str | None, now: datetime
) -> tuple[CallRecord, AgentRecord | None, bool] | None:
    record = calls.get(conn, call_id) if call_id else None
    if record is None and sid:
        record = calls.by_sid(conn, sid)
    if record is None:
        return None
    agent = agents.get(conn, record.agent_id) if record.agent_id else None
    return record, agent, nodes.is_alive(conn, record.node, now)
