"""The media workers as control sees them: started, watched, chosen, replaced.

One `SOCK_SEQPACKET` pair to each. What a worker says comes out of `events` in order; when a worker dies its
calls are named in one `WorkerLost`, and a new worker takes its place (each is a `control.worker_process`). Workers that outlived a former control
process are taken over first (`control.returning`).
"""

from __future__ import annotations

import base64
import math
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import trio

from control import placement, returning
from control.headroom import Headroom
from control.placement import PoolBusy, PoolFull
from control.returning import Outliving, SpoolRead, receive
from control.worker_process import Worker, linked, spawn
from gateway import link, scheduling
from gateway.errors import LinkError
from gateway.link import (
    AgentSay,
    Attach,
    CallPlan,
    CallReport,
    Cancel,
    CloseCall,
    Configure,
    Down,
    Drain,
    Drained,
    HangUp,
    Heartbeat,
    HeldCall,
    Prepare,
    Ready,
    ToolResult,
    Up,
)
from gateway.settings import MediaSettings

__all__ = ["PoolBusy", "PoolFull", "WorkerGone", "WorkerLost", "WorkerPool", "WorkerStats"]

START_TIMEOUT_S = 20.0
HEARTBEAT_TIMEOUT_S = 10.0
"""A worker that says nothing for so long hangs: it is killed and replaced."""
SEAT_EMPTY_MAX_S = 60.0
"""Starting anew has not helped a seat for so long: systemd gets no sign of life any more and starts all of us anew."""
RESTART_MIN_S = 0.2
RESTART_MAX_S = 10.0
EXIT_TIMEOUT_S = 5.0
ATTACH_TIMEOUT_S = 2.0
"""How long a stream's socket may wait for room in a worker's queue."""
EVENTS_MAX = 10_000
"""Messages that wait for the switchboard. When it is full the readers wait, and then the workers' own bounded
queues fill: they drop timeline lines, never the end of a call."""


class WorkerGone(Exception):
    """The worker that held the call is not there any more."""


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker died with these calls on it."""

    worker_id: str
    call_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkerStats:
    worker_id: str
    pid: int
    calls: int
    counters: dict[str, int | float]
    timings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """See `gateway.link.Heartbeat`."""
    admits: bool = True
    """Whether new calls are placed there."""


PoolEvent: TypeAlias = Up | WorkerLost | SpoolRead


class WorkerPool:
    """`run` starts and keeps `count` workers. All commands are synchronous and only queue."""

    def __init__(
        self,
        settings: MediaSettings,
        *,
        log_level: str = "info",
        log_format: str = "json",
        log: Callable[..., None] | None = None,
        version: str = "",
    ) -> None:
        """`settings.runtime_dir`: an existing folder where workers may be found again, or empty."""
        self._settings = settings
        self._version = version
        self._log_level = log_level
        self._log_format = log_format
        self._log = log or (lambda *_args, **_fields: None)
        self.count = settings.workers or max(1, (os.cpu_count() or 2) - 1)
        self._workers: dict[str, Worker] = {}
        self._cores: dict[str, int] = {}
        """What workers are bound to, from before they are ready."""
        self._homes: dict[str, Worker] = {}
        self._events_in: trio.MemorySendChannel[PoolEvent]
        self._events_in, self.events = trio.open_memory_channel[PoolEvent](EVENTS_MAX)
        self.returned: dict[str, HeldCall] = {}
        """Calls that a former control process began and that go on, as they were when this one started."""
        self.outlived = False
        """Whether any worker has: what it had to tell comes first of all."""
        self.reported: set[str] = set()
        """Calls that ended without a control process: their reports come first of all."""
        self._started = 0
        self.restarts = 0
        self._is_draining = False
        self._all_turned_s: float | None = None
        self._worker_gone = trio.Event()
        self._nursery: trio.Nursery | None = None

    # ---- life ----------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive until cancelled; `started` when all of them take calls."""
        folder = Path(self._settings.runtime_dir) if self._settings.runtime_dir else None
        seated: list[Worker] = []
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for outliving in (
                await returning.find(folder, self._version, self._log) if folder else ()
            ):
                worker = self._take_over(outliving)
                if outliving.version == self._version and len(seated) < self.count:
                    seated.append(worker)
                else:
                    nursery.start_soon(self._let_finish, worker)
            if folder is not None:
                spools = await returning.read_spools(folder, self._log)
                self.reported = returning.reported_in(spools)
                nursery.start_soon(self._tell_spools, spools)
            for n in range(self.count):
                await nursery.start(self._keep_worker, seated[n] if n < len(seated) else None)
            task_status.started()

    def _take_over(self, outliving: Outliving) -> Worker:
        """A worker that waited for a control process. From here on it holds its calls."""
        number = outliving.worker_id.removeprefix("w")
        self._started = max(self._started, int(number) if number.isdecimal() else 0)
        worker = linked(outliving.worker_id, outliving.process, outliving.sock, self._settings)
        worker.is_ready = self.outlived = True
        if (
            self._settings.pin_workers
            and (core := scheduling.core_of(worker.process.pid)) is not None
        ):
            self._cores[worker.worker_id] = core
        for held in outliving.calls:
            worker.calls.add(held.call_id)
            self._homes[held.call_id] = worker
            self.returned[held.call_id] = held
        self._workers[worker.worker_id] = worker
        self._log(
            "worker_returned",
            worker=worker.worker_id,
            pid=worker.process.pid,
            calls=len(worker.calls),
            version=outliving.version,
        )
        return worker

    async def _let_finish(self, worker: Worker) -> None:
        """A worker of another version, or one too many: its calls go on, and then it ends."""
        worker.is_draining = True
        self._queue(worker, Drain(self._settings.max_call_s))
        try:
            await self._run_worker(lambda: None, worker)
        except (LinkError, OSError) as error:
            self._log("worker_failed", error=str(error))

    async def _tell_spools(self, spools: list[tuple[Path, list[Up]]]) -> None:
        for path, messages in spools:
            for message in messages:
                await self._events_in.send(message)
            await self._events_in.send(SpoolRead(path))

    async def _keep_worker(
        self,
        first: Worker | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """One seat: a worker, and after its death another, with growing pauses while they die young."""
        pause_s = RESTART_MIN_S
        is_told = False

        def tell_started() -> None:
            nonlocal is_told
            if not is_told:
                is_told = True
                task_status.started()

        while True:
            began_s = trio.current_time()
            try:
                worker, first = first, None
                await self._run_worker(tell_started, worker)
            except (LinkError, OSError) as error:
                if not is_told and not self._workers:
                    raise LinkError(f"a media worker could not be started: {error}") from error
                self._log("worker_failed", error=str(error))
            tell_started()  # one seat that needs another try does not keep the others from working
            if trio.current_time() - began_s > 30.0:
                pause_s = RESTART_MIN_S
            else:
                pause_s = min(pause_s * 2, RESTART_MAX_S)
            if not self._is_draining:
                await trio.sleep(pause_s)
            if self._is_draining:
                return
            self.restarts += 1

    async def _run_worker(self, on_ready: Callable[[], None], worker: Worker | None = None) -> None:
        worker = worker or self._spawn()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.write, self._log)
                failure = await self._attend(worker, on_ready)
                nursery.cancel_scope.cancel()
            if failure is not None:
                raise failure
        finally:
            self._workers.pop(worker.worker_id, None)
            self._cores.pop(worker.worker_id, None)
            worker.empty_outbox()
            worker.sock.close()
            worker.process.kill()
            self._lose_calls(worker)
            with trio.CancelScope(shield=True), trio.move_on_after(EXIT_TIMEOUT_S):
                await trio.to_thread.run_sync(worker.process.wait, abandon_on_cancel=True)
            self._worker_gone.set()

    async def _attend(self, worker: Worker, on_ready: Callable[[], None]) -> LinkError | None:
        """Listen to a worker until its link ends. Returns what went wrong, if anything did."""
        try:
            if worker.is_ready:  # since a former control process
                on_ready()
                await self._read_link(worker)
                return None
            with trio.fail_after(START_TIMEOUT_S):
                message = await receive(worker.sock)
            if not isinstance(message, Ready):
                raise LinkError("worker ended before it was ready")
            if self._is_draining:
                return None  # it came too late to be told of the drain
            worker.is_ready = True
            worker.headroom = Headroom(self._settings, trio.current_time())  # its start is over
            self._workers[worker.worker_id] = worker
            self._log("worker_ready", worker=worker.worker_id, pid=worker.process.pid)
            on_ready()
            await self._events_in.send(message)  # whoever reads this may place calls on it
            await self._read_link(worker)
        except LinkError as error:
            return error
        except trio.TooSlowError:
            return LinkError(f"worker was not ready after {START_TIMEOUT_S:g} s")
        return None

    def _spawn(self) -> Worker:
        self._started += 1
        worker_id, settings = f"w{self._started}", self._settings
        configure = Configure(worker_id, settings, self._log_level, self._log_format, self._version)
        worker = spawn(worker_id, settings, configure)
        if settings.pin_workers:
            core = scheduling.pin(worker.process.pid, self._cores.values())
            if core is not None:
                self._cores[worker_id] = core
        return worker

    async def _read_link(self, worker: Worker) -> None:
        with trio.CancelScope() as patience:
            while True:
                # Only the worker's silence counts: when the switchboard is slow the worker is not to blame.
                patience.deadline = trio.current_time() + HEARTBEAT_TIMEOUT_S
                message = await receive(worker.sock)
                if message is None or isinstance(message, Drained):
                    return
                self._note(worker, message)
                if not isinstance(message, Heartbeat):
                    try:
                        self._events_in.send_nowait(message)
                    except trio.WouldBlock:
                        patience.deadline = math.inf
                        await self._events_in.send(message)
        self._log("worker_silent", worker=worker.worker_id)

    def _note(self, worker: Worker, message: Up) -> None:
        worker.heard_s = trio.current_time()
        if isinstance(message, Heartbeat):
            worker.counters, worker.timings = message.counters, message.timings
            was_over = worker.headroom.is_over
            worker.headroom.beat(message.counters, worker.heard_s)
            if worker.headroom.is_over != was_over:
                self._log(
                    "worker_takes_calls" if was_over else "worker_takes_no_calls",
                    worker=worker.worker_id,
                    load_percent=worker.headroom.load_percent,
                    lateness_ms=worker.headroom.lateness_ms,
                )
        elif isinstance(message, CallReport):
            worker.calls.discard(message.call_id)
            if self._homes.get(message.call_id) is worker:
                del self._homes[message.call_id]

    def _lose_calls(self, worker: Worker) -> None:
        lost = tuple(sorted(worker.calls))
        for call_id in lost:
            if self._homes.get(call_id) is worker:
                del self._homes[call_id]
        if lost:
            self._log("worker_lost", worker=worker.worker_id, calls=len(lost))
            # Never dropped: its calls would wait for a word of it until they are too long. Behind all that it said itself.
            if self._nursery is not None:
                news = WorkerLost(worker.worker_id, lost)
                self._nursery.start_soon(self._events_in.send, news)

    # ---- placing calls -------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        return len(self._workers) == self.count

    def prepare(self, plan: CallPlan, *, goes_on: bool = False) -> str:
        """Place a call, see `control.placement.choose`. Returns the worker's id; raises PoolFull."""
        limit, now_s = self._settings.max_calls_per_worker, trio.current_time()
        worker = placement.choose(self._open(), limit, now_s, goes_on=goes_on)
        if not self._queue(worker, Prepare(plan)):
            raise PoolFull
        worker.headroom.place(now_s)
        worker.calls.add(plan.call_id)
        self._homes[plan.call_id] = worker
        return worker.worker_id

    def _open(self) -> list[Worker]:
        return [] if self._is_draining else list(self._workers.values())

    def room(self) -> int:
        """How many new calls may be placed now, as far as one can tell."""
        limit, now_s = self._settings.max_calls_per_worker, trio.current_time()
        return placement.room(self._open(), limit, now_s)

    async def attach(
        self, call_id: str, sock: socket.socket, head: bytes, twilio_call_sid: str | None = None
    ) -> None:
        """Hand the media stream's socket to the worker that holds the call. Raises WorkerGone.

        Our copy of the descriptor is closed once it has been sent; `sock` must not be used afterwards.
        """
        worker = self._homes.get(call_id)
        if worker is None:
            sock.close()
            raise WorkerGone(call_id)
        packet = link.encode(Attach(call_id, base64.b64encode(head).decode(), twilio_call_sid))
        fd = sock.detach()
        is_queued = False
        try:
            with trio.move_on_after(ATTACH_TIMEOUT_S):
                await worker.send.send((packet, fd))
                is_queued = True
        except trio.BrokenResourceError:
            pass  # the worker has died meanwhile
        finally:
            # An open descriptor that nobody serves would keep the caller in dead air: Twilio goes on
            # only when the stream is closed.
            if not is_queued:
                os.close(fd)
        if not is_queued:
            raise WorkerGone(call_id)

    @property
    def held(self) -> int:
        """Calls on all workers."""
        return len(self._homes)

    def holds(self, call_id: str) -> bool:
        return call_id in self._homes

    def home_of(self, call_id: str) -> str | None:
        """The worker that holds the call."""
        worker = self._homes.get(call_id)
        return None if worker is None else worker.worker_id

    def cancel(self, call_id: str, reason: str) -> None:
        self._command(call_id, Cancel(call_id, reason))

    def hang_up(
        self,
        call_id: str,
        reason: str,
        blame: str | None = None,
        *,
        drain: bool = False,
        hand_over: bool = False,
    ) -> None:
        """End a call; with `drain` when the caller has heard what was said so far; `hand_over`: not the telephone call."""
        self._command(call_id, HangUp(call_id, reason, blame, drain, hand_over))

    def close_call(self, call_id: str) -> None:
        self._command(call_id, CloseCall(call_id))

    def say(self, call_id: str, kind: str, text: str) -> None:
        self._command(call_id, AgentSay(call_id, kind, text))

    def tool_result(self, call_id: str, tool_call_id: str, result: str, is_error: bool) -> None:
        """The answer to a tool that the call's agent asked for."""
        self._command(call_id, ToolResult(call_id, tool_call_id, result, is_error))

    def _command(self, call_id: str, message: Down) -> None:
        worker = self._homes.get(call_id)
        if worker is not None:
            self._queue(worker, message)

    def _queue(self, worker: Worker, message: Down) -> bool:
        return worker.queue(message, self._log)

    async def drain(self, timeout_s: float) -> None:
        """Let all calls end within `timeout_s` and the workers exit. Returns when they are gone."""
        self._is_draining = True
        for worker in list(self._workers.values()):
            worker.is_draining = True
            self._queue(worker, Drain(timeout_s))
        while self._workers:
            self._worker_gone = trio.Event()
            await self._worker_gone.wait()

    def turns(self) -> bool:
        """Whether the loop of every seat's worker turns, or did less than `SEAT_EMPTY_MAX_S` ago. For the watchdog,
        which asks often."""
        now_s = trio.current_time()
        turning = sum(
            now_s - worker.heard_s < HEARTBEAT_TIMEOUT_S for worker in self._workers.values()
        )
        if turning >= self.count or self._is_draining or self._all_turned_s is None:
            self._all_turned_s = now_s
        return now_s - self._all_turned_s < SEAT_EMPTY_MAX_S

    def stats(self) -> list[WorkerStats]:
        now_s = trio.current_time()
        return [
            WorkerStats(
                worker.worker_id,
                worker.process.pid,
                len(worker.calls),
                dict(worker.counters),
                dict(worker.timings),
                worker.headroom.takes(now_s) and not worker.is_draining,
            )
            for worker in self._workers.values()
        ]
