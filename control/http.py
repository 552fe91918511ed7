"""HTTP on a listening socket that is ours: Hypercorn's `TCPServer` with bounds, and an orderly end.

`TCPServer` and `Lifespan` are not documented API: the version is pinned and a test covers them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

from control import log

HEAD_MAX_BYTES = 16 * 1024
CONNECTIONS_MAX = 4000
"""Open connections; beyond it the newest is closed."""
KEEP_ALIVE_S = 15
"""Also how long a request head may take to come."""
IDLE_READ_S = 40
"""Cuts a client that stops in the middle of a request. One that waits for its answer sends nothing, too: no handler may
take so long."""
SHUTDOWN_GRACE_S = 2.0

Serve = Callable[[trio.SocketStream], Awaitable[None]]


class HttpServer:
    """Serves an application with one task a connection."""

    requests_kept_alive = 1000
    """So many requests may follow the first on one connection."""

    def __init__(self, app: QuartTrio, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self._app = app
        self._connections_max = connections_max
        self._stopping = trio.Event()
        self._open: set[trio.SocketStream] = set()
        self._requests = 0
        self._answered = trio.Event()
        self.refused = 0

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._open)

    async def on_connection(self, stream: trio.SocketStream, serve_http: Serve) -> None:
        """What is done with a connection: here, HTTP."""
        await serve_http(stream)

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Until `stop`; then requests under way get SHUTDOWN_GRACE_S to be answered."""
        config = hypercorn_config()
        config.keep_alive_max_requests = self.requests_kept_alive
        state: dict[str, Any] = {}
        wrapped = wrap_app(self._counted, config.wsgi_max_body_size, "asgi")
        lifespan = Lifespan(wrapped, config, state)
        context = WorkerContext(None)

        async def serve_http(stream: trio.SocketStream) -> None:
            server = TCPServer(wrapped, config, context, ConnectionState(state), stream)  # type: ignore[arg-type]  # its annotation forgets plain sockets
            await server.run()

        async with trio.open_nursery() as around:
            await around.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(
                            trio.serve_listeners,
                            partial(self._serve_one, serve_http),
                            list(listeners),
                            handler_nursery=connections,
                        )
                    )
                    task_status.started()
                    await self._stopping.wait()
                    accepting.cancel_scope.cancel()
                await context.terminated.set()
                around.start_soon(self._cut_after_grace)
                with trio.move_on_after(SHUTDOWN_GRACE_S):
                    while self._requests:
                        self._answered = trio.Event()
                        await self._answered.wait()
                # Idle connections too: quart-trio cancels the task in which Hypercorn restarts its idle
                # timer, so after the first request nobody else would close them.
                connections.cancel_scope.cancel()
            with trio.move_on_after(SHUTDOWN_GRACE_S):
                await lifespan.wait_for_shutdown()
            around.cancel_scope.cancel()

    async def _counted(self, scope: Any, receive: Any, send: Any) -> None:
        """The application, with requests under way counted."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        self._requests += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._requests -= 1
            self._answered.set()

    def stop(self) -> None:
        """Accept no more connections and let `serve` come to its end."""
        self._stopping.set()

    async def _cut_after_grace(self) -> None:
        # TCPServer shields its sends: a client that does not read would hold us for ever.
        await trio.sleep(SHUTDOWN_GRACE_S + 0.5)
        for stream in list(self._open):
            stream.socket.close()

    async def _serve_one(self, serve_http: Serve, stream: trio.SocketStream) -> None:
        """Documented boundary: whatever one connection raises ends that connection and no other."""
        if len(self._open) >= self._connections_max:
            self.refused += 1
            await trio.aclose_forcefully(stream)
            return
        self._open.add(stream)
        try:
            async with stream:
                await self.on_connection(stream, serve_http)
        except Exception as error:  # noqa: BLE001
            log.event("connection_failed", level="warning", error=error)
        finally:
            self._open.discard(stream)


def hypercorn_config() -> Config:
    """Bounds and silence: every line of the log goes through ours."""
    config = Config()
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.read_timeout = IDLE_READ_S
    config.h11_max_incomplete_size = HEAD_MAX_BYTES
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.graceful_timeout = SHUTDOWN_GRACE_S
    return config
