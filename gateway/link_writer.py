"""What a worker has to tell control: a bounded queue, and the task that empties it. A shell.

While there is no control the queue waits for the next one (`gateway.lifeline`).
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque

import trio

from gateway import link
from gateway.errors import LinkError
from gateway.lifeline import is_of_a_call
from gateway.link import CallEvent, Heartbeat, ToolRequest, TranscriptTurn, Up
from gateway.voice import Voice

LINK_QUEUE_MAX = 20_000
"""Messages that wait for control. Above it timeline lines are dropped and counted, above twice as many what
was said as well; what ends a call never is (there is one of each for a call)."""
RETOLD_S = 10.0
"""Control writes down what it hears every half second; what was sent in this time is told again to the next one,
which drops what it finds in the store."""
RETOLD_MAX = 20_000
"""Messages kept for that; of more the oldest are forgotten."""


class LinkWriter:
    """The bounded queue towards control, and the task that empties it."""

    def __init__(self, sock: socket.socket, complain: Voice) -> None:
        """`sock` does not block."""
        self._complain = complain
        self._sock: socket.socket | None = sock
        self._queue: deque[Up] = deque()
        self._sent: deque[tuple[float, Up]] = deque(maxlen=RETOLD_MAX)
        """What a control process that is killed now may not have written down."""
        self._bell = trio.Event()
        self._sending = trio.Lock()
        self.dropped_events = 0

    def lose(self) -> None:
        """Control is gone: what it may not have written down is told again to the next one."""
        self._sock = None
        newest_s = trio.current_time() - RETOLD_S
        again = [message for at_s, message in self._sent if at_s >= newest_s]
        self._sent.clear()
        # Tools that were asked for are answered by the calls themselves: see `Call.forget_tools`.
        waiting = [message for message in self._queue if not isinstance(message, ToolRequest)]
        self._queue = deque([*again, *waiting])

    def find(self, sock: socket.socket, first: list[Up]) -> None:
        """A new control is there; `first` goes before all that waits."""
        self._queue.extendleft(reversed(first))
        self._sock = sock
        self._bell.set()

    def untold(self) -> list[Up]:
        """What waits and will not be sent any more."""
        left = list(self._queue)
        self._queue.clear()
        return left

    def tell(self, message: Up) -> None:
        """Queue a message; never waits."""
        waiting = len(self._queue)
        if waiting >= LINK_QUEUE_MAX and (
            isinstance(message, CallEvent | Heartbeat)
            or (isinstance(message, TranscriptTurn) and waiting >= 2 * LINK_QUEUE_MAX)
        ):
            self.dropped_events += 1
            return
        self._queue.append(message)
        self._bell.set()

    async def run(self) -> None:
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            await self.flush()

    async def flush(self) -> None:
        """Send what is queued, in order, also when two tasks ask for it at once.

        Without a pass through Trio for each packet: the media plane lets it have one every few milliseconds.
        """
        async with self._sending:
            while self._queue and (sock := self._sock) is not None:
                packet = self._packet(self._queue[0])
                try:
                    sock.send(packet)
                except BlockingIOError:
                    with contextlib.suppress(trio.ClosedResourceError):
                        await trio.lowlevel.wait_writable(sock)
                    continue
                except OSError:
                    # Control is gone; the link reader sees it too and looks for another.
                    return
                message = self._queue.popleft()
                now_s = trio.current_time()
                if is_of_a_call(message):
                    self._sent.append((now_s, message))
                while self._sent and self._sent[0][0] < now_s - RETOLD_S:
                    self._sent.popleft()

    def _packet(self, message: Up) -> bytes:
        try:
            return link.encode(message)
        except LinkError as error:
            self._complain("link_message_shortened", error=str(error))
            return link.encode(link.shortened(message))
