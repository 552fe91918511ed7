"""A round-robin balancer for TCP connections, in front of several daemons: no health checks but the connection itself.

    balancer = Balancer([8443, 8444])
    url = await nursery.start(balancer.run)
    balancer.only = 1          # from now on everything goes to the second one

A port that refuses is passed over, as a balancer does that tries the next server. It knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import trio

CONNECT_TIMEOUT_S = 2.0
PIECE_BYTES = 16 * 1024


class Balancer:
    """Listens on loopback. `carried[i]` counts the connections that the port `ports[i]` got."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.carried = [0] * len(ports)
        self.only: int | None = None
        """The index of the one port that gets everything as long as it takes connections; None: in turn."""
        self._ports = tuple(ports)
        self._turns = count()

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Forward until cancelled; reports `http://127.0.0.1:port`."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._carry, listeners)
            task_status.started(url)

    def _order(self) -> Iterator[int]:
        first = next(self._turns) if self.only is None else self.only
        for step in range(len(self._ports)):
            yield (first + step) % len(self._ports)

    async def _carry(self, client: trio.SocketStream) -> None:
        async with client:
            for index in self._order():
                server = await _connected(self._ports[index])
                if server is not None:
                    self.carried[index] += 1
                    async with server:
                        await _between(client, server)
                    return


async def _connected(port: int) -> trio.SocketStream | None:
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            return await trio.open_tcp_stream("127.0.0.1", port)
    except (OSError, trio.TooSlowError):
        return None


async def _between(client: trio.SocketStream, server: trio.SocketStream) -> None:
    """Both directions until both have ended, or one side is gone without a goodbye."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pipe, client, server)
            nursery.start_soon(_pipe, server, client)
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _pipe(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    while data := await source.receive_some(PIECE_BYTES):
        await sink.send_all(data)
    await sink.send_eof()
