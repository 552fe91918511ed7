"""One epoll set and one heap of deadlines: what callers and agents of a generator run on."""

from __future__ import annotations

import heapq
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from bench.load.hot import swift

READ = select.EPOLLIN
READ_WRITE = select.EPOLLIN | select.EPOLLOUT

EVENTS_MAX = 128
"""Of one look: what is due to be said must not wait for all that is to be heard."""
TIMERS_PER_LOOK = 32
"""A loop that is late must not stop listening while it catches up."""

now = time.monotonic


class _PlainLook:
    """The loop's look at its sockets, where nothing was compiled."""

    def __init__(self, epoll: select.epoll) -> None:
        self._poll = epoll.poll
        self._handlers: dict[int, Callable[[int], None]] = {}

    def hand(self, fd: int, handler: Callable[[int], None] | None) -> None:
        """Who looks after a descriptor; None: nobody."""
        if handler is None:
            self._handlers.pop(fd, None)
        else:
            self._handlers[fd] = handler

    def turn(self, wait_s: float, events_max: int) -> float:
        """Wait, then let everybody do what they have to; the instant of waking."""
        ready = self._poll(wait_s, events_max)
        woken_s = now()
        for fd, mask in ready:
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(mask)
        return woken_s


class Loop:
    """`run` until `stop`. A handler is called with the epoll mask when its socket is ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._look = _PlainLook(self._epoll) if swift is None else swift.Look(self._epoll.fileno())
        self._watched: set[int] = set()
        self._timers: list[tuple[float, int, Callable[..., None], Any]] = []
        self._count = 0
        self._running = False
        self.busy_max_s = 0.0
        """The longest time between two looks at the sockets since it was last reset."""

    def add(self, sock: socket.socket, handler: Callable[[int], None], events: int = READ) -> None:
        """Watch a socket."""
        self.watch(sock.fileno(), handler, events)

    def watch(self, fd: int, handler: Callable[[int], None], events: int = READ) -> None:
        """Watch a descriptor."""
        self._look.hand(fd, handler)
        self._watched.add(fd)
        self._epoll.register(fd, events)

    def change(self, sock: socket.socket, events: int) -> None:
        """Watch for something else."""
        self._epoll.modify(sock.fileno(), events)

    def hand(self, sock: socket.socket, handler: Any) -> None:
        """Somebody else looks after this socket now: to be called with the mask, or compiled (`_swift`)."""
        self._look.hand(sock.fileno(), handler)
        self._epoll.modify(sock.fileno(), READ)

    def close(self, sock: socket.socket) -> None:
        """Forget and close; closing twice is as good as once."""
        fd = sock.fileno()
        if fd in self._watched:
            self._watched.remove(fd)
            self._look.hand(fd, None)
            self._epoll.unregister(fd)
        sock.close()

    def at(self, due_s: float, run: Callable[..., None], argument: Any = None) -> None:
        """Call `run(argument)` at `due_s` of the monotonic clock."""
        self._count += 1
        heapq.heappush(self._timers, (due_s, self._count, run, argument))

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        """Until `stop`."""
        turn = self._look.turn
        timers = self._timers
        pop = heapq.heappop
        self._running = True
        looked_s = now()
        while self._running:
            wait_s = timers[0][0] - now() if timers else 1.0
            woken_s = turn(wait_s if wait_s > 0.0 else 0.0, EVENTS_MAX)
            budget = TIMERS_PER_LOOK
            while budget and timers and timers[0][0] <= now():
                _, _, run, argument = pop(timers)
                run(argument)
                budget -= 1
            looked_s = now()
            busy_s = looked_s - woken_s
            if busy_s > self.busy_max_s:
                self.busy_max_s = busy_s
