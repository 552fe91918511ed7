"""A TCP proxy that spoils what it carries. It knows nothing of the protocols above TCP.

Each connection is a `Link` with two pipes. A pipe reads, stamps what it read with the moment at which it is due,
and delivers in order. Rules are looked up again for every piece, so they can be changed at any time and act on
connections that are already open.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import trio

Way: TypeAlias = Literal["up", "down", "both"]
"""`up`: from the client towards the server; `down`: from the server towards the client."""

PIECE_BYTES = 16 * 1024
PIECES_MAX = 256
"""Pieces that wait in one pipe; then it reads no more, and the sender's own buffers fill."""
HEAD_BYTES = 2_048
"""So much of what a client says first is kept, to know the connection by."""
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to the bytes of one direction. Nothing by default."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    """Up to so much more latency, at random; order is kept, as TCP keeps it."""
    bytes_per_s: float = 0.0
    """Bandwidth; 0 = unlimited."""
    slice_bytes: int = 0
    """Largest piece that is sent at once, each for itself; 0 = as read."""
    slice_pause_s: float = 0.0
    blackhole: bool = False
    """Nothing passes and nothing is lost; it goes on when the fault is taken away."""
    garbage: int = 0
    """So many bytes at the head of each piece become random ones."""
    close_after_bytes: int | None = None
    """An orderly end after so many bytes of this direction, counted from the fault's beginning."""
    reset_after_bytes: int | None = None
    """RST after so many bytes."""


NO_FAULT = Fault()


@dataclass(frozen=True, slots=True)
class _Rule:
    way: Way
    about: bytes
    fault: Fault


class Link:
    """One connection through the proxy. `head` is the beginning of what the client said."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.head = b""
        self.carried = {"up": 0, "down": 0}
        """Bytes delivered."""
        self.is_open = True
        self._client, self._server = client, server
        self._scope = trio.CancelScope()

    def reset(self) -> None:
        """RST to both sides, now."""
        for stream in (self._client, self._server):
            _send_reset_on_close(stream.socket)
        self._scope.cancel()

    def close(self) -> None:
        """End of file to both sides, now; what was on its way is dropped."""
        self._scope.cancel()


class FaultProxy:
    """Listens on loopback and forwards to `upstream_port`. `links` are all connections so far."""

    def __init__(self, upstream_port: int, *, seed: int = 0) -> None:
        self.links: list[Link] = []
        self.base_url = ""
        self.refusing = False
        """New connections are reset at once."""
        self._upstream_port = upstream_port
        self._dice = random.Random(seed)
        self._rules: list[_Rule] = []
        self._changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Forward until cancelled; reports `http://127.0.0.1:port`."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.base_url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._carry, listeners)
            task_status.started(self.base_url)

    # ---- levers ------------------------------------------------------------------------------

    def set(self, fault: Fault, *, way: Way = "both", about: bytes = b"") -> None:
        """From now on `fault` holds for connections whose head contains `about` (b"": for all).

        Later rules go before earlier ones, and the same `way` and `about` are replaced.
        """
        kept = [rule for rule in self._rules if (rule.way, rule.about) != (way, about)]
        self._rules = [_Rule(way, about, fault), *kept]
        self._wake()

    def heal(self, about: bytes | None = None) -> None:
        """Take away the faults of `about`, or all."""
        self._rules = [r for r in self._rules if about is not None and r.about != about]
        self._wake()

    def open_links(self, about: bytes = b"") -> list[Link]:
        """The connections that are up, of those whose head contains `about`."""
        return [link for link in self.links if link.is_open and about in link.head]

    def reset(self, about: bytes = b"") -> int:
        """RST on all of them; how many there were."""
        return self._each(Link.reset, about)

    def close(self, about: bytes = b"") -> int:
        """Close all of them without a word of the protocol above; how many there were."""
        return self._each(Link.close, about)

    def _each(self, act: Callable[[Link], None], about: bytes) -> int:
        links = self.open_links(about)
        for link in links:
            act(link)
        return len(links)

    # ---- inside ------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _fault_of(self, link: Link, way: str) -> Fault:
        for rule in self._rules:
            if rule.way in (way, "both") and rule.about in link.head:
                return rule.fault
        return NO_FAULT

    async def _carry(self, client: trio.SocketStream) -> None:
        server = None if self.refusing else await self._connect()
        if server is None:
            _send_reset_on_close(client.socket)
            await trio.aclose_forcefully(client)
            return
        link = Link(client, server)
        self.links.append(link)
        try:
            with link._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pipe, link, "up", client, server)
                    nursery.start_soon(self._pipe, link, "down", server, client)
        finally:
            link.is_open = False
            client.socket.close()
            server.socket.close()

    async def _connect(self) -> trio.SocketStream | None:
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                return await trio.open_tcp_stream("127.0.0.1", self._upstream_port)
        except (OSError, trio.TooSlowError):
            return None

    async def _pipe(
        self, link: Link, way: str, source: trio.SocketStream, sink: trio.SocketStream
    ) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](PIECES_MAX)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, link, way, source, send)
                await self._deliver(link, way, sink, receive)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            # One side is gone without a goodbye: the other must learn it in the same way.
            link.reset()

    async def _read(
        self,
        link: Link,
        way: str,
        source: trio.SocketStream,
        send: trio.MemorySendChannel[tuple[float, bytes]],
    ) -> None:
        due = 0.0
        async with send:
            while True:
                data = bytes(await source.receive_some(PIECE_BYTES))
                if way == "up" and len(link.head) < HEAD_BYTES:
                    link.head += data[: HEAD_BYTES - len(link.head)]
                fault = self._fault_of(link, way)
                delay_s = fault.latency_s + self._dice.uniform(0.0, fault.jitter_s)
                due = max(due, trio.current_time() + delay_s)
                await send.send((due, data))
                if not data:
                    return

    async def _deliver(
        self,
        link: Link,
        way: str,
        sink: trio.SocketStream,
        receive: trio.MemoryReceiveChannel[tuple[float, bytes]],
    ) -> None:
        counted_for, counted = NO_FAULT, 0
        async for due, data in receive:
            await trio.sleep_until(due)
            while self._fault_of(link, way).blackhole:
                await self._changed.wait()
            fault = self._fault_of(link, way)
            if fault is not counted_for:
                counted_for, counted = fault, 0
            if not data:
                await sink.send_eof()
                return
            limit = _limit(fault)
            room = data if limit is None else data[: max(0, limit - counted)]
            await self._write(link, way, sink, self._spoilt(room, fault), fault)
            counted += len(room)
            if limit is not None and counted >= limit:
                (link.close if fault.reset_after_bytes is None else link.reset)()
                await trio.sleep_forever()

    async def _write(
        self, link: Link, way: str, sink: trio.SocketStream, data: bytes, fault: Fault
    ) -> None:
        step = fault.slice_bytes or (1_400 if fault.bytes_per_s else PIECE_BYTES)
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            if fault.bytes_per_s:
                await trio.sleep(len(piece) / fault.bytes_per_s)
            if fault.slice_pause_s and at:
                await trio.sleep(fault.slice_pause_s)
            await sink.send_all(piece)
            link.carried[way] += len(piece)

    def _spoilt(self, data: bytes, fault: Fault) -> bytes:
        count = min(fault.garbage, len(data))
        return self._dice.randbytes(count) + data[count:] if count else data


def _limit(fault: Fault) -> int | None:
    limits = (fault.close_after_bytes, fault.reset_after_bytes)
    return min((limit for limit in limits if limit is not None), default=None)


def _send_reset_on_close(sock: trio.socket.SocketType) -> None:
    with contextlib.suppress(OSError):  # closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
