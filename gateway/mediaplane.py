"""All sockets of a worker and its playout grid in one Trio task. A shell.

Trio's price is per suspended read and write, not per byte. An epoll descriptor can itself be polled, so one
task waits for *all* sockets with `wait_readable(inner_epoll)`; each wake then reads every ready socket,
feeds its bridge and writes the results, all without blocking. And it stays awake for a slice of two
milliseconds, waiting in the inner set itself: a pass through Trio's own loop costs as much as several frames.

Nothing in here awaits per frame, locks, logs or touches a disk. What a call raises ends that call and no
other: every step of a call is behind such a boundary (`tests/test_architecture.py` lists them).
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import trio

from gateway import lane
from gateway.bridge import Bridge
from gateway.grid import PHASES, Grid, Load
from gateway.intake import NewIntake, Ready, new_intake
from gateway.looks import Looks
from gateway.outlet import PlainOutlet
from gateway.planecall import CallObserver, Leg, PlaneCall
from gateway.planetimes import PlaneTimes
from gateway.playout import Pace

_READ = select.EPOLLIN | select.EPOLLRDHUP
_READ_WRITE = _READ | select.EPOLLOUT
_READS_PER_WAKE = 16
"""Reads of one TLS socket in one wake; a peer that floods us does not starve the others."""

SLICE_S = 0.002
"""How long the plane works before the rest of the process (the link, legs being opened) has its turn."""
BATCH_EVENTS = 32
PAUSE_S = 0.001
LOOK_AFTER_S = 0.0002
"""Between the steps of other tasks the plane looks at its sockets when it has not for so long: see `looks.py`."""
PAUSE_CALLS = 8
"""While fewer than BATCH_EVENTS sockets are ready at once the plane sleeps up to PAUSE_S before it looks again,
so that a wake has more to do. With a handful of calls it never sleeps, at the top neither."""
LATENCY_SAMPLE = 8
"""One uplink latency in so many is measured."""


class MediaPlane:
    """Drives the bridges of one worker. `run` it once; `add` calls, `adopt_*` their sockets."""

    def __init__(self, *, leg_write_max_bytes: int, intake: NewIntake = new_intake) -> None:
        self._write_max_bytes = leg_write_max_bytes
        self._epoll = select.epoll()
        self._intake = intake(self._epoll, trio.current_time, LATENCY_SAMPLE)
        self._legs: dict[int, Leg] = {}
        self._again: list[Leg] = []
        self._again_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._again_fd, select.EPOLLIN)
        self._phases: list[list[PlainOutlet]] = [[] for _ in range(PHASES)]
        self.pace = Pace()
        """Handed to every bridge of this worker."""
        self.grid = Grid()
        self.load = Load()
        self.calls = 0
        self.wakes = 0
        self._times = PlaneTimes(self.grid)
        self._turned_s = 0.0
        self._rest = trio.CancelScope()
        self._failed: Exception | None = None

    # ---- calls and their sockets ---------------------------------------------------------------

    def add(self, bridge: Bridge, observer: CallObserver) -> PlaneCall:
        """A new call; it is ticked from now on, in the emptiest phase of the grid."""
        phase = min(range(PHASES), key=lambda index: len(self._phases[index]))
        call = PlaneCall(bridge, observer, phase)
        bridge.outlet.owner = call
        self._phases[phase].append(bridge.outlet)
        self.calls += 1
        if self.calls == 1:
            self.grid.start(trio.current_time())
            os.eventfd_write(self._again_fd, 1)  # the loop may be asleep without a deadline
        return call

    def remove(self, call: PlaneCall) -> None:
        """Forget the call and close what it still has open. Idempotent."""
        if call.is_gone:
            return
        call.is_gone = True
        outlet = call.bridge.outlet
        self._phases[call.phase].remove(outlet)
        outlet.owner = None
        self.calls -= 1
        if not self.calls:
            self.grid.stop()
        for leg in (call.caller, call.agent):
            if leg is not None:
                self._close(leg)

    def command(self, call: PlaneCall, step: Callable[[float], None]) -> None:
        """Drive the bridge outside of a wake, and send what it queued: behind the same boundary.

        `step` gets the time. Nothing happens when the call is gone.
        """
        if call.is_gone:
            return
        now_s = trio.current_time()
        self._guarded(call, lambda: step(now_s))
        self._flush_guarded(call)

    def adopt_agent(self, call: PlaneCall, sock: socket.socket, rest: bytes) -> None:
        """The agent leg's socket, upgraded; `rest` are the bytes that came with the answer."""

        def join(now_s: float) -> None:
            call.agent = leg = self._adopt(call, sock, is_agent=True)
            call.bridge.agent_opened(now_s)
            if rest:
                call.bridge.agent_bytes(rest, now_s)
            if leg.is_tls:
                self._read(leg, now_s)  # it may have been decrypted with the answer to the upgrade

        self._join(call, sock, join)

    def adopt_caller(self, call: PlaneCall, sock: socket.socket, rest: bytes) -> None:
        """The caller leg's socket, upgraded."""

        def join(now_s: float) -> None:
            call.caller = self._adopt(call, sock, is_agent=False)
            call.bridge.caller_opened(now_s)
            if rest:
                call.bridge.caller_bytes(rest, now_s)

        self._join(call, sock, join)

    def drop_agent(self, call: PlaneCall) -> None:
        """Close the agent leg that the bridge has given up; another one may be adopted."""
        if call.agent is not None:
            self._close(call.agent)

    def _join(self, call: PlaneCall, sock: socket.socket, join: Callable[[float], None]) -> None:
        if call.is_gone:
            sock.close()  # the call ended while this leg came up
        else:
            self.command(call, join)

    def _adopt(self, call: PlaneCall, sock: socket.socket, *, is_agent: bool) -> Leg:
        sock.setblocking(False)
        leg = Leg(call, sock, is_agent=is_agent)
        try:
            self._epoll.register(leg.fd, _READ)
        except OSError:
            sock.close()
            raise
        self._legs[leg.fd] = leg
        if not leg.is_tls:
            self._intake.watch(leg.sock)
        return leg

    def flush(self, call: PlaneCall) -> None:
        """Send what the bridge has queued outside of a wake (a command), and tell its events."""
        self._flush_guarded(call)

    # ---- the loop --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled; closes every socket at the end."""
        looks = Looks(self._look)
        trio.lowlevel.add_instrument(looks)
        try:
            await self._run()
        finally:
            trio.lowlevel.remove_instrument(looks)
            for leg in list(self._legs.values()):
                self._close(leg)
            self._epoll.close()
            os.close(self._again_fd)

    async def _run(self) -> None:
        """Sleep in Trio while nothing is to be done, work in slices while there is.

        Trio's pass through its own loop costs as much as several frames. So a slice goes on for
        `SLICE_S`, waiting in the inner epoll set itself, before the rest of Trio has its turn again.
        """
        inner_fd = self._epoll.fileno()
        while True:
            with trio.CancelScope(deadline=self.grid.due_s) as self._rest:
                await trio.lowlevel.wait_readable(inner_fd)
            if self._failed is not None:
                raise self._failed
            self._slice(trio.current_time())

    def _slice(self, now_s: float) -> None:
        """One turn of the plane. Without calls it is over at once."""
        self.wakes += 1
        grid = self.grid
        end_s = now_s + SLICE_S if self.calls else now_s
        wait_s = 0.0
        while True:
            pause_s = PAUSE_S if self.calls >= PAUSE_CALLS else 0.0
            ready = self._turn(wait_s, pause_s)
            now_s = self._turned_s
            if now_s >= end_s:
                break
            wait_s = max(min(end_s, grid.due_s) - now_s, 0.0)
            if ready and pause_s and ready < BATCH_EVENTS:
                time.sleep(min(pause_s * (1.0 - ready / BATCH_EVENTS), wait_s))
                wait_s = max(min(end_s, grid.due_s) - trio.current_time(), 0.0)
        self._take_samples()
        self.pace.frames = self.load.frames_per_message

    def _turn(self, wait_s: float, pause_s: float) -> int:
        """Wait for sockets, handle those that are ready and the tick that is due. Returns how many were ready."""
        grid, intake = self.grid, self._intake
        lane_s = intake.busy_s
        ready = intake.poll(wait_s, pause_s, BATCH_EVENTS)
        lane_s = intake.busy_s - lane_s
        now_s = began_s = trio.current_time()
        if now_s >= grid.due_s:
            for phase in grid.take(now_s):
                self._tick(phase, now_s)
        if ready:
            self._wake(ready, now_s)
        now_s = self._turned_s = trio.current_time()
        self.load.add(lane_s + now_s - began_s, now_s)
        return len(ready)

    def _look(self) -> None:
        """Between the steps of other tasks."""
        if self.calls and trio.current_time() - self._turned_s >= LOOK_AFTER_S:
            try:
                self._turn(0.0, 0.0)
            except Exception as error:  # noqa: BLE001  Trio would log it, and let the plane go on with bytes lost
                self._failed = error
                self._rest.cancel()
            self._rest.deadline = self.grid.due_s  # it may have been the one that starts the grid

    def _take_samples(self) -> None:
        samples = self._intake.samples
        if samples:
            self._intake.samples = []
            for call, latency_ms in samples:
                own = call.uplink_latency if isinstance(call, PlaneCall) else None
                self._times.uplink(own, latency_ms)

    def _wake(self, ready: list[Ready], now_s: float) -> None:
        """Think about all that was received, then send.

        In this order, because every system call costs the interpreter its warm caches.
        """
        legs = self._legs
        touched: list[PlaneCall] = []
        for fd, mask, data in ready:
            leg = legs.get(fd)
            if leg is None:
                if fd == self._again_fd:
                    self._read_again(now_s)
                continue
            try:
                if not mask and type(data) is bytes:  # from the lane, which could not send it
                    lane.leave(self._intake, leg.call)  # as it has already done itself
                    self._write(leg, data, now_s)
                    lane.choose(self._intake, leg.call)
                    touched.append(leg.call)
                    continue
                touched.append(leg.call)
                if mask & select.EPOLLOUT:
                    self._write_pending(leg, now_s)
                if type(data) is bytes and data:
                    leg.feed(data, now_s)
                    if not leg.is_agent:
                        lane.choose(self._intake, leg.call)  # it may have brought half a message
                elif data is not None:
                    self._lost(leg, now_s, _why_lost(data))
                elif leg.is_tls and mask & ~select.EPOLLOUT:
                    self._read(leg, now_s)
            except Exception as error:  # noqa: BLE001  the boundary around one call
                self._crashed(leg.call, error)
        self._flush_all(touched, now_s)

    def _tick(self, phase: int, now_s: float) -> None:
        ticked: list[PlaneCall] = []
        for call, unsent in self._intake.tick(self._phases[phase], now_s):
            if not isinstance(call, PlaneCall) or call.is_gone:
                continue
            ticked.append(call)
            try:
                if unsent is None:
                    call.bridge.tick(now_s)
                elif call.caller is not None:
                    self._write(call.caller, unsent, now_s)
            except Exception as error:  # noqa: BLE001  the boundary around one call
                self._crashed(call, error)
        self._flush_all(ticked, now_s)

    def _flush_all(self, calls: list[PlaneCall], now_s: float) -> None:
        for call in calls:
            if not call.is_gone:
                try:
                    self._flush(call, now_s)
                except Exception as error:  # noqa: BLE001  the boundary around one call
                    self._crashed(call, error)

    # ---- one socket ----------------------------------------------------------------------------

    def _ready(self, leg: Leg, mask: int, now_s: float) -> None:
        call = leg.call
        try:
            if mask & select.EPOLLOUT:
                self._write_pending(leg, now_s)
            if mask & ~select.EPOLLOUT:
                self._read(leg, now_s)
            self._flush(call, now_s)
        except Exception as error:  # noqa: BLE001  the boundary around one call
            self._crashed(call, error)

    def _read(self, leg: Leg, now_s: float) -> None:
        """Everything that is there. A TLS object can hold bytes that epoll does not announce."""
        feed = leg.feed
        for _ in range(_READS_PER_WAKE):
            try:
                data = leg.sock.recv(leg.recv_bytes)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self._lost(leg, now_s, error.strerror or type(error).__name__)
                return
            if not data:
                self._lost(leg, now_s, "connection closed by the peer")
                return
            feed(data, now_s)
            # What is still in the kernel, epoll tells again; only what TLS has decrypted it does not.
            if not isinstance(leg.sock, ssl.SSLSocket) or not leg.sock.pending():
                return
        # Still more: epoll is silent about what the TLS object holds, so the next wake is of our making.
        self._again.append(leg)
        os.eventfd_write(self._again_fd, 1)

    def _read_again(self, now_s: float) -> None:
        os.eventfd_read(self._again_fd)
        legs = self._again
        self._again = []
        for leg in legs:
            if self._legs.get(leg.fd) is leg:  # the number may be another socket's by now
                self._ready(leg, select.EPOLLIN, now_s)

    def _lost(self, leg: Leg, now_s: float, reason: str) -> None:
        if self._legs.get(leg.fd) is not leg:
            return
        self._close(leg)
        if leg.is_agent:
            leg.call.bridge.agent_closed(now_s, reason)
        else:
            leg.call.bridge.caller_closed(now_s, reason)

    def _close(self, leg: Leg) -> None:
        if self._legs.get(leg.fd) is not leg:
            return
        del self._legs[leg.fd]
        lane.leave(self._intake, leg.call)
        self._intake.forget(leg.fd)
        self._epoll.unregister(leg.fd)
        leg.sock.close()
        if leg.is_agent:
            leg.call.agent = None
        else:
            leg.call.caller = None
        leg.call.observer.on_leg_gone()

    # ---- out -----------------------------------------------------------------------------------

    def _flush(self, call: PlaneCall, now_s: float) -> None:
        bridge = call.bridge
        if bridge.to_agent:
            data = bridge.take_agent()
            if data and call.agent is not None:
                self._write(call.agent, data, now_s)
                call.uplink_count += 1
                if not call.uplink_count % LATENCY_SAMPLE:
                    self._times.uplink(call.uplink_latency, (trio.current_time() - now_s) * 1000.0)
        if bridge.to_caller:
            data = bridge.take_caller()
            if data and call.caller is not None:
                self._write(call.caller, data, now_s)
                if bridge.barge_ins != call.barge_ins_seen:
                    call.barge_ins_seen = bridge.barge_ins
                    self._times.clear(call.clear_latency, (trio.current_time() - now_s) * 1000.0)
        if bridge.ended is not None and bridge.caller_is_done:
            caller = call.caller
            if caller is not None and not caller.pending:
                self._lost(caller, now_s, "closing handshake complete")
        if bridge.events:
            lane.choose(self._intake, call)
            call.observer.on_events()

    def _write(self, leg: Leg, data: bytes, now_s: float) -> None:
        if leg.pending:
            self._keep(leg, data, now_s)
            return
        try:
            sent = leg.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = 0
        except OSError as error:
            self._broken(leg, now_s, error)
            return
        if sent < len(data):
            self._keep(leg, data[sent:], now_s)
            if self._legs.get(leg.fd) is leg:
                self._epoll.modify(leg.fd, _READ_WRITE)

    def _keep(self, leg: Leg, data: bytes, now_s: float) -> None:
        """The socket takes nothing at the moment: bounded, and over the bound the leg has failed."""
        call = leg.call
        lane.leave(self._intake, call)
        leg.pending += data
        size = len(leg.pending)
        if leg.is_agent:
            call.agent_peak_bytes = max(call.agent_peak_bytes, size)
        else:
            call.caller_peak_bytes = max(call.caller_peak_bytes, size)
        if size <= self._write_max_bytes:
            return
        self._close(leg)
        reason = f"stalled with {size} bytes unsent"
        if leg.is_agent:
            call.bridge.agent_failed(reason, now_s)
            call.bridge.agent_closed(now_s, reason)
        else:
            call.bridge.caller_failed(reason, now_s)
            call.bridge.caller_closed(now_s, reason)

    def _write_pending(self, leg: Leg, now_s: float) -> None:
        try:
            while leg.pending:
                sent = leg.sock.send(leg.pending)
                del leg.pending[:sent]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self._broken(leg, now_s, error)
            return
        self._epoll.modify(leg.fd, _READ)
        lane.choose(self._intake, leg.call)

    def _broken(self, leg: Leg, now_s: float, error: OSError) -> None:
        """A write failed. What the peer said before it went (`stop`, a close and its reason) still counts."""
        for _ in range(_READS_PER_WAKE):
            if self._legs.get(leg.fd) is leg:
                self._read(leg, now_s)
        self._lost(leg, now_s, error.strerror or type(error).__name__)

    # ---- the boundary --------------------------------------------------------------------------

    def _guarded(self, call: PlaneCall, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001  the boundary around one call
            self._crashed(call, error)

    def _flush_guarded(self, call: PlaneCall) -> None:
        if not call.is_gone:
            self._guarded(call, lambda: self._flush(call, trio.current_time()))

    def _crashed(self, call: PlaneCall, error: Exception) -> None:
        if not call.is_gone:
            self.remove(call)
            call.observer.on_crash(error)

    def report(self) -> dict[str, int | float]:
        """Figures for the worker's heartbeat, which asks once a beat: counters since the start, and what was
        measured in the newest `WINDOW_BEATS` beats (`_ms`, `load_percent`)."""
        return {
            "calls": self.calls,
            "wakes": self.wakes,
            "ticks_missed": self.grid.missed,
            "grid_resets": self.grid.resets,
            "load_percent": round(self.load.beat(trio.current_time()) * 100.0, 1),
            "frames_per_message": self.load.frames_per_message,
            **self._times.beat(),
        }

    def timings(self) -> dict[str, dict[str, Any]]:
        """All latencies since the start, in buckets; see `Histogram.buckets`."""
        return self._times.buckets()


def _why_lost(data: bytes | int) -> str:
    return os.strerror(data) if isinstance(data, int) else "connection closed by the peer"
