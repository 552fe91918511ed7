"""Waiting for all sockets of a worker, reading them, sending what is due: `PlainIntake`, or the compiled one.

    intake.watch(sock)               its bytes are received here
    intake.join(caller_fd, …)        the usual caller audio needs no bridge: straight to the agent leg
    intake.part(caller_fd)           it needs the bridge again
    intake.poll(wait_s, …)           what is left for Python: `(fd, epoll mask, data)`
    intake.tick(outlets, now_s)      the usual agent audio goes out; what is left for Python: `(owner, unsent)`

Only the compiled intake has express lanes; for `PlainIntake` `join` and `part` mean nothing, every byte comes
out of `poll` and every call that is due out of `tick`. What reaches the peers and the call's record is the
same with both. A shell.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from typing import Protocol, TypeAlias

from gateway import flow
from gateway.flow import PlainCallerFlow
from gateway.g711 import ulaw_to_pcm16
from gateway.outlet import PlainOutlet

EVENTS_MAX = 1024
RECV_BYTES = 64 * 1024

Ready: TypeAlias = tuple[int, int, bytes | int | None]
"""Descriptor, epoll mask, and: the bytes received (none: the peer has closed), or the `errno` of the failure,
or None for a descriptor that is not watched. With mask 0: bytes for this agent leg that were not sent."""

Due: TypeAlias = tuple[object, bytes | None]
"""Owner of an outlet, and the end of a message that its socket did not take; None: the bridge is to be ticked."""


class Socket(Protocol):
    def fileno(self) -> int: ...
    def recv(self, size: int, /) -> bytes: ...


class Intake(Protocol):
    """See the module's docstring."""

    samples: list[tuple[object, float]]
    """Owner of a lane, and milliseconds from the wake to the frame's leaving; one in `sample_every` frames."""
    relayed_frames: int
    busy_s: float
    """How long the lane has worked, all in all."""

    def watch(self, sock: Socket, /) -> None: ...
    def forget(self, fd: int, /) -> None: ...
    def join(
        self,
        caller_fd: int,
        agent_fd: int,
        write: Callable[[bytes], int] | None,
        flow: PlainCallerFlow,
        stream_sid: bytes,
        fir: object | None,
        is_pcm: bool,
        owner: object,
        /,
    ) -> None: ...
    def part(self, caller_fd: int, /) -> None: ...
    def poll(self, wait_s: float, pause_s: float, batch: int, /) -> list[Ready]:
        """Wait up to `wait_s` until something is to be done in Python.

        While fewer than `batch` sockets were ready and the lane took care of all of them, rest up to
        `pause_s` before looking again, so that a wake has more to do.
        """
        ...

    def tick(self, outlets: list[PlainOutlet], now_s: float, /) -> list[Due]:
        """Go through the outlets of a phase of the grid."""
        ...


class PlainIntake:
    """In Python, for any build."""

    def __init__(self, epoll: select.epoll) -> None:
        self.samples: list[tuple[object, float]] = []
        self.relayed_frames = 0
        self.busy_s = 0.0
        self._poll = epoll.poll
        self._recv: dict[int, Callable[[int], bytes]] = {}

    def watch(self, sock: Socket, /) -> None:
        self._recv[sock.fileno()] = sock.recv

    def forget(self, fd: int, /) -> None:
        self._recv.pop(fd, None)

    def join(
        self,
        caller_fd: int,
        agent_fd: int,
        write: Callable[[bytes], int] | None,
        flow: PlainCallerFlow,
        stream_sid: bytes,
        fir: object | None,
        is_pcm: bool,
        owner: object,
        /,
    ) -> None:
        """No lane: the bridge does it."""

    def part(self, caller_fd: int, /) -> None:
        """No lane."""

    def poll(self, wait_s: float, pause_s: float, batch: int, /) -> list[Ready]:
        """Wait up to `wait_s`; one receive from every ready socket, before anything is thought about.

        Returns as soon as anything was ready, so `pause_s` is the caller's to keep.
        """
        ready = self._poll(max(wait_s, 0.0), EVENTS_MAX)
        rest: list[Ready] = []
        for fd, mask in ready:
            recv = self._recv.get(fd)
            if recv is None or not mask & ~select.EPOLLOUT:
                rest.append((fd, mask, None))
                continue
            try:
                rest.append((fd, mask, recv(RECV_BYTES)))
            except BlockingIOError:
                if mask & select.EPOLLOUT:
                    rest.append((fd, select.EPOLLOUT, None))
            except OSError as error:
                rest.append((fd, mask, error.errno or errno.EIO))
        return rest

    def tick(self, outlets: list[PlainOutlet], now_s: float, /) -> list[Due]:
        """Those that are due."""
        return [(outlet.owner, None) for outlet in outlets if outlet.next_s <= now_s]


NewIntake: TypeAlias = Callable[[select.epoll, Callable[[], float], int], Intake]


def plain_intake(epoll: select.epoll, clock: Callable[[], float], sample_every: int) -> Intake:
    """Without the compiled lane, whether it was built or not."""
    return PlainIntake(epoll)


def new_intake(epoll: select.epoll, clock: Callable[[], float], sample_every: int) -> Intake:
    """The compiled one if it was built. `clock` gives the time that bridges are driven with."""
    if not flow.IS_COMPILED:
        return PlainIntake(epoll)
    from gateway import _express

    linear = ulaw_to_pcm16(bytes(range(256)))
    return _express.Intake(epoll, clock, linear, sample_every)
