"""A switchboard over a real store, with workers and Twilio played by fakes that do as they are told."""

from __future__ import annotations

import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import trio
from sqlalchemy import Connection

from control.config import (
    ControlSettings,
    ElevenLabsSettings,
    Listen,
    PublicSettings,
    Secret,
    Settings,
    TwilioSettings,
)
from control.metrics import Metrics
from control.returning import SpoolRead
from control.store import Store, agents, opt_outs, rows
from control.store import calls as table
from control.store.dialing import QueueRecord
from control.store.records import AgentRecord, OptOutRecord
from control.store.tables.dialing import dial_queue
from control.switchboard import Switchboard
from control.tickets import Tickets
from control.twilio.rest import CallSeen, Created, TwilioUncertain
from control.workers import PoolBusy, PoolFull, WorkerGone, WorkerLost, WorkerStats
from gateway.link import CallEvent, CallReport, Ending, TranscriptTurn
from gateway.settings import MediaSettings
from policy import load_rules

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
OURS = "+14155550199"
THEIRS = "+14155550100"
SID = "CA" + "1" * 32
MEDIA = MediaSettings(workers=2, max_calls_per_worker=2, drain_timeout_s=0.2)
SETTINGS = Settings(
    public=PublicSettings(url="https://gw.example.com"),
    control=ControlSettings(admin_key=Secret("k-0123456789")),
    twilio=TwilioSettings(account_sid="AC" + "0" * 32, auth_token=Secret("token"), cps=1000.0),
    elevenlabs=ElevenLabsSettings(api_key=Secret("xi-key")),
    media=MEDIA,
)
AGENT = AgentRecord(
    id="agt_1",
    name="Reception",
    created_at=NOW,
    updated_at=NOW,
    status="live",
    number_e164=OURS,
    elevenlabs_agent_id="el_1",
    variables={"shop": "Acme"},
)


class FakeClock:
    """NOW, and on from there at the pace of Trio's clock."""

    def __init__(self) -> None:
        self._began_s: float | None = None

    def now(self) -> datetime:
        now_s = trio.current_time()
        if self._began_s is None:
            self._began_s = now_s
        return NOW + timedelta(seconds=now_s - self._began_s)


@dataclass
class FakePool:
    """Holds calls on paper. `say` sends what a worker would send."""

    full: bool = False
    busy: bool = False
    """There is room, but no worker has headroom for a new call."""
    seats: int = 4
    is_down: bool = False
    """No worker at all, for the moment."""
    plans: list[Any] = field(default_factory=list)
    homes: dict[str, str] = field(default_factory=dict)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    attached: list[tuple[str, bytes, str | None]] = field(default_factory=list)
    drained: bool = False
    returned: dict[str, Any] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)
    outlived: bool = False

    def __post_init__(self) -> None:
        self._say, self.events = trio.open_memory_channel[Any](1000)
        self._workers = itertools.cycle(("w1", "w2"))

    def prepare(self, plan: Any, *, goes_on: bool = False) -> str:
        if self.full or self.is_down:
            raise PoolFull
        if self.busy and not goes_on:
            raise PoolBusy
        self.plans.append(plan)
        self.homes[plan.call_id] = next(self._workers)
        return self.homes[plan.call_id]

    def room(self) -> int:
        return 0 if self.full or self.busy or self.is_down else self.seats - len(self.homes)

    @property
    def held(self) -> int:
        return len(self.homes)

    async def attach(
        self, call_id: str, sock: socket.socket, head: bytes, twilio_call_sid: str | None = None
    ) -> None:
        if call_id not in self.homes:
            sock.close()
            raise WorkerGone(call_id)
        self.attached.append((call_id, head, twilio_call_sid))
        self.sock = sock

    def home_of(self, call_id: str) -> str | None:
        return "w1" if self.holds(call_id) else None

    def holds(self, call_id: str) -> bool:
        return call_id in self.homes

    def cancel(self, call_id: str, reason: str) -> None:
        if call_id in self.homes:
            self.commands.append(("cancel", call_id))

    def hang_up(
        self,
        call_id: str,
        reason: str,
        blame: str | None = None,
        *,
        drain: bool = False,
        hand_over: bool = False,
    ) -> None:
        command = "drain" if drain else "hang_up"
        self.commands.append((f"{command}_handing_over" if hand_over else command, call_id))

    def say(self, call_id: str, kind: str, text: str) -> None:
        self.commands.append(("say", call_id, kind, text))

    def tool_result(self, call_id: str, tool_call_id: str, result: str, is_error: bool) -> None:
        self.commands.append(("tool", tool_call_id, "error" if is_error else "ok", result))

    def close_call(self, call_id: str) -> None:
        self.commands.append(("close", call_id))

    async def drain(self, timeout_s: float) -> None:
        self.drained = True

    def stats(self) -> list[WorkerStats]:
        workers = [WorkerStats("w1", 1, 0, {}), WorkerStats("w2", 2, 0, {})]
        return [] if self.is_down else workers

    # what a worker tells

    def event(self, call_id: str, name: str, at_ms: int = 1000, **data: Any) -> None:
        self._say.send_nowait(CallEvent(call_id, name, at_ms, data))

    def turn(self, call_id: str, turn: int, role: str, text: str, **more: Any) -> None:
        self._say.send_nowait(TranscriptTurn(call_id, turn, role, text, 1000 + turn, **more))

    def ending(self, call_id: str, result: str = "completed", *, hang_up: bool) -> None:
        self._say.send_nowait(Ending(call_id, result, None, "agent ended the call", 5000, hang_up))

    def report(
        self,
        call_id: str,
        result: str = "completed",
        reason: str = "caller hung up",
        blame: str | None = None,
        attached: bool = True,
        media: dict[str, Any] | None = None,
        conversation_id: str | None = "conv_1",
        is_unnamed: bool = False,
    ) -> None:
        self.homes.pop(call_id, None)
        self._say.send_nowait(
            CallReport(
                call_id=call_id,
                result=result,
                blame=blame,
                reason=reason,
                at_ms=1_795_000_000_000,
                attached=attached,
                conversation_id=conversation_id,
                stream_sid="MZ1",
                twilio_call_sid=SID,
                media=media or {"frames": 7},
                legs={"agent": {"is_unnamed": True} if is_unnamed else {}},
            )
        )

    def lose(self, call_id: str) -> None:
        worker = self.homes.pop(call_id)
        self._say.send_nowait(WorkerLost(worker, (call_id,)))

    def spool_read(self, path: Path) -> None:
        """All that a worker had left in this file has been told."""
        self._say.send_nowait(SpoolRead(path))


@dataclass
class FakeTwilio:
    """`answers` are taken one by one for dial requests: a SID, or what to raise."""

    answers: list[Any] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    end_raises: Exception | None = None
    known: dict[str, CallSeen] = field(default_factory=dict)
    listed: list[CallSeen] = field(default_factory=list)
    dialling: trio.Event = field(default_factory=trio.Event)
    hold: trio.Event | None = None
    instructed: list[tuple[str, str]] = field(default_factory=list)
    """Calls that were sent to another document."""
    instruct_answers: list[Any] = field(default_factory=list)
    ended_answers: list[Any] = field(default_factory=list)
    """What the list of calls that have ended shows, in turn."""
    looked_back: list[tuple[datetime, datetime]] = field(default_factory=list)
    account_sid: str = "AC1"

    async def create_call(self, **asked: Any) -> Created:
        self.created.append(asked)
        self.dialling.set()
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.pop(0) if self.answers else SID
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Created) else Created(answer)

    async def instruct_call(self, sid: str, document: str) -> bool:
        self.instructed.append((sid, document))
        answer = self.instruct_answers.pop(0) if self.instruct_answers else True
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    async def end_call(self, sid: str) -> bool:
        if self.end_raises is not None:
            raise self.end_raises
        self.ended.append(sid)
        return True

    async def fetch_call(self, sid: str) -> CallSeen | None:
        return self.known.get(sid)

    async def list_calls(self, **asked: Any) -> list[CallSeen]:
        return list(self.listed)

    async def list_ended(self, *, since: datetime, until: datetime) -> list[CallSeen]:
        self.looked_back.append((since, until))
        answer = self.ended_answers.pop(0) if self.ended_answers else []
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


@dataclass
class Rig:
    switchboard: Switchboard
    store: Store
    pool: FakePool
    twilio: FakeTwilio
    tickets: Tickets
    metrics: Metrics

    def form(self, sid: str = SID, **more: str) -> dict[str, str]:
        """An inbound call's first question."""
        return {"CallSid": sid, "From": THEIRS, "To": OURS, "CallStatus": "ringing"} | more

    async def dial(self, to: str = THEIRS, **more: Any) -> Any:
        asked = {"agent_id": AGENT.id, "to": to, "tenant_id": "tnt_default"} | more
        return await self.switchboard.initiate(**asked)

    async def status(self, call_id: str | None, status: str, sid: str = SID, **more: str) -> None:
        form = {"CallSid": sid, "CallStatus": status} | more
        await self.switchboard.call_status(form, call_id)

    def expire(self, call_id: str) -> None:
        """The deadline at which somebody asks about this call has come."""
        call = self.switchboard._office.book.get(call_id)
        assert call is not None
        call.deadline_s = 0.0

    async def record(self, call_id: str) -> Any:
        return await self.store.read(table.get, call_id)

    async def queue(self) -> list[Any]:
        """The rows of the dial queue."""
        return await self.store.read(_queue)

    async def waiting(self) -> list[Any]:
        """Those whose turn has not come."""
        return [entry for entry in await self.queue() if entry.state == "waiting"]

    async def sid_of(self, call_id: str) -> str | None:
        return (await self.record(call_id)).twilio_call_sid

    async def only_record(self) -> Any:
        (record,), _ = await self.store.read(table.list_calls)
        return record

    async def names(self, call_id: str) -> list[str]:
        """The timeline's names, once everything that waits has been written."""
        call = self.switchboard._office.book.get(call_id)
        if call is not None:
            await self.switchboard._office.ledger.save([call])
        return [line.name for line in await self.store.read(table.events, call_id)]

    async def until(self, condition: Any) -> Any:
        """Wait for threads and tasks: the condition, or its awaited value, becomes true."""
        with trio.fail_after(30):
            while True:
                value = condition()
                if hasattr(value, "__await__"):
                    value = await value
                if value:
                    return value
                await trio.sleep(0.005)

    async def ended(self, call_id: str) -> Any:
        """The record, once it is closed and the call is out of the book."""

        async def closed() -> Any:
            record = await self.record(call_id)
            out = self.switchboard._office.book.get(call_id) is None
            return record if record and record.ended_at and out else None

        return await self.until(closed)

    def count(self, name: str, *labels: str) -> float:
        counter = getattr(self.metrics, name)
        return (counter.labels(*labels) if labels else counter)._value.get()


@asynccontextmanager
async def open_rig(
    tmp_path: Any,
    *,
    media: dict[str, Any] | None = None,
    cps: float = 1000.0,
    agent: AgentRecord | None = AGENT,
    before: Any = None,
    rules: tuple[str, ...] = ("system", "opt_out"),
    node: str = "127.0.0.1:8080",
    returned: dict[str, Any] | None = None,
    outlived: bool = False,
    control: dict[str, Any] | None = None,
    elevenlabs: dict[str, Any] | None = None,
    patience_s: float = 20,
    made_rules: Any = None,
) -> AsyncIterator[Rig]:
    """A running switchboard. `before(conn)` may put things into the store first.

    Several with the same folder share the store; then each has a `node` of its own. `returned` are calls that
    workers have carried on without us.
    """
    settings = replace(
        SETTINGS,
        control=replace(SETTINGS.control, listen=Listen.parse(node), **(control or {})),
        media=replace(MEDIA, **(media or {})),
        twilio=replace(SETTINGS.twilio, cps=cps),
        elevenlabs=replace(SETTINGS.elevenlabs, **(elevenlabs or {})),
    )
    store = Store.open(f"sqlite:///{tmp_path / 'calls.db'}")
    seats = settings.media.workers * settings.media.max_calls_per_worker
    pool, twilio, metrics = FakePool(seats=seats, returned=returned or {}), FakeTwilio(), Metrics()
    pool.outlived = outlived or bool(pool.returned)
    pool.homes |= dict.fromkeys(pool.returned, "w1")
    tickets = Tickets(trio.current_time)
    try:
        if agent is not None:
            await store.write(agents.insert, agent)
        if before is not None:
            await store.write(before)
        switchboard = Switchboard(
            settings=settings,
            store=store,
            pool=pool,
            twilio=twilio,
            rules=made_rules or load_rules(rules, {}, _no_plugins),
            clock=FakeClock(),
            metrics=metrics,
            tickets=tickets,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(switchboard.run)
            with trio.fail_after(patience_s):
                yield Rig(switchboard, store, pool, twilio, tickets, metrics)
            nursery.cancel_scope.cancel()
    finally:
        store.close()


def _queue(conn: Connection) -> list[QueueRecord]:
    statement = rows.query(dial_queue, QueueRecord).order_by(dial_queue.c.due_at)
    return [rows.build(QueueRecord, row) for row in conn.execute(statement)]


def _no_plugins(name: str) -> object:
    raise ImportError(name)


async def opt_out(rig: Rig, number: str = THEIRS) -> None:
    entry = OptOutRecord(number, "api", NOW)
    await rig.store.write(opt_outs.add, entry)


def verbs(document: str) -> list[str]:
    return [verb.tag for verb in ElementTree.fromstring(document.encode())]


def ticket_of(document: str) -> str:
    stream = ElementTree.fromstring(document.encode()).find("Connect/Stream")
    assert stream is not None
    return stream.attrib["url"].removeprefix("wss://gw.example.com/media/")


def name_of(document: str) -> str:
    stream = ElementTree.fromstring(document.encode()).find("Connect/Stream")
    assert stream is not None
    return stream.attrib["name"]


UNCERTAIN = TwilioUncertain("connection lost")


async def talking(rig, sid=SID):
    """An inbound call whose stream has started; returns its id."""
    call_id = name_of(await rig.switchboard.answer(rig.form(sid)))
    rig.pool.event(call_id, "stream_started")
    await rig.until(lambda: rig.switchboard._office.book.get(call_id).attached)
    return call_id


async def awaited(awaitable):
    """For `Rig.until`: a coroutine from within a lambda."""
    return await awaitable


def answered(sid=SID):
    """An outbound call's first question: the callee has picked up."""
    return {"CallSid": sid, "From": OURS, "To": THEIRS, "CallStatus": "in-progress"}
