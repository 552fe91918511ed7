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
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

from control import log

HEAD_MAX_BYTES = 16 * 1024
CONNECTIONS_MAX = 4000
"""Open connections; beyond it the one that has been without a whole request for longest is closed for the newest."""
KEEP_ALIVE_S = 15
"""Also how long a request head may take to come."""
IDLE_READ_S = 40
"""Cuts a client that stops in the middle of a request. One that waits for its answer sends nothing, too: no handler may
take so long."""
SEND_DEADLINE_S = 30.0
"""For a part of an answer, of some kilobytes: cuts a client that does not read."""
ANSWERED_STAYS_S = 2.0
"""How long a connection on which nothing can follow waits for its client to close it. Hypercorn would read on for
as long as bytes of a body come that was answered already."""
SHUTDOWN_GRACE_S = 2.0

Serve = Callable[[trio.SocketStream], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Handle = Callable[[trio.SocketStream, Serve], Awaitable[None]]
"""What is done with a connection, given how HTTP is served on one."""


class HttpServer:
    """Serves an application with one task a connection."""

    def __init__(self, app: QuartTrio, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self._app = app
        self._connections_max = connections_max
        self._stopping = trio.Event()
        self._left_to_others = trio.Event()
        self._take: Callable[[trio.SocketStream, Handle], None] | None = None
        self._open: dict[trio.SocketStream, trio.CancelScope] = {}
        self._idle: dict[trio.SocketStream, None] = {}
        """Those that have no whole request under way, the oldest first."""
        self._requests = 0
        self._answered = trio.Event()
        self.refused = 0
        self.cut = 0
        """For newer ones."""

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._open)

    def take(self, stream: trio.SocketStream, handle: Handle) -> None:
        """Serve a connection that another process has accepted. One that comes too late is closed."""
        if self._take is None:
            stream.socket.close()
        else:
            self._take(stream, handle)

    def on_crowded(self, what: str) -> None:
        """A connection over the bound was `refused`, or an older one was `cut` for it."""

    def has_asked(self, stream: trio.SocketStream) -> None:
        """A request is whole: its connection is not cut for a newer one any more."""
        self._idle.pop(stream, None)

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
        state: dict[str, Any] = {}
        wrapped = wrap_app(self.counted, config.wsgi_max_body_size, "asgi")
        lifespan = Lifespan(wrapped, config, state)
        context = WorkerContext(None)

        async def serve_http(stream: trio.SocketStream) -> None:
            async def app(scope: Any, receive: Any, *rest: Any) -> None:
                await wrapped(scope, self._watched(stream, receive), *rest)
                self._answered_on(stream)

            server = _Connection(app, config, context, ConnectionState(state), stream)  # type: ignore[arg-type]  # its annotation forgets plain sockets
            await server.run()

        async with trio.open_nursery() as around:
            await around.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            async with trio.open_nursery() as connections:

                def take(stream: trio.SocketStream, handle: Handle) -> None:
                    connections.start_soon(self._serve_one, serve_http, handle, stream)

                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(
                            trio.serve_listeners,
                            partial(self._serve_one, serve_http, self.on_connection),
                            list(listeners),
                            handler_nursery=connections,
                        )
                    )
                    self._take = take
                    task_status.started()
                    await self._left_to_others.wait()
                    accepting.cancel_scope.cancel()
                await self._stopping.wait()
                self._take = None
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

    def app_on(self, stream: trio.SocketStream) -> App:
        """The application for the requests of one connection."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self.counted(scope, self._watched(stream, receive), send)
            self._answered_on(stream)

        return app

    def _answered_on(self, stream: trio.SocketStream) -> None:
        scope = self._open.get(stream)
        if scope is None:
            return
        if stream in self._idle:  # it has not sent all of its body: nothing can follow
            scope.deadline = min(scope.deadline, trio.current_time() + ANSWERED_STAYS_S)
        self._idle[stream] = None

    def _watched(self, stream: trio.SocketStream, receive: Any) -> Any:
        """The application's `receive`, which shows when a request is whole."""

        async def watched() -> Any:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                self.has_asked(stream)
            return message

        return watched

    async def counted(self, scope: Any, receive: Any, send: Any) -> None:
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
        self._left_to_others.set()
        self._stopping.set()

    def leave_to_others(self) -> None:
        """Accept no more connections: another process does, on the same socket. What is passed to `take` is served."""
        self._left_to_others.set()

    async def _cut_after_grace(self) -> None:
        # TCPServer shields its sends: a client that does not read would hold us for ever.
        await trio.sleep(SHUTDOWN_GRACE_S + 0.5)
        for stream in list(self._open):
            stream.socket.close()

    async def _serve_one(
        self, serve_http: Serve, handle: Handle, stream: trio.SocketStream
    ) -> None:
        """Documented boundary: whatever one connection raises ends that connection and no other."""
        if len(self._open) >= self._connections_max and not self._make_room():
            self.refused += 1
            self.on_crowded("refused")
            await trio.aclose_forcefully(stream)
            return
        self._open[stream] = scope = trio.CancelScope()
        self._idle[stream] = None
        try:
            with scope:
                async with stream:
                    await handle(stream, serve_http)
        except Exception as error:  # noqa: BLE001
            log.event("connection_failed", level="warning", error=error)
        finally:
            del self._open[stream]
            self._idle.pop(stream, None)

    def _make_room(self) -> bool:
        """Cut who has been idle for longest: a webhook has asked within milliseconds, who means harm never does."""
        oldest = next(iter(self._idle), None)
        if oldest is None:
            return False
        del self._idle[oldest]
        self._open[oldest].cancel()
        self.cut += 1
        self.on_crowded("cut")
        return True


class _Connection(TCPServer):
    """Hypercorn's sends are shielded and have no deadline: a client that does not read would stay for ever."""

    async def protocol_send(self, event: Event) -> None:
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        deadline_s = trio.current_time() + SEND_DEADLINE_S
        async with self.send_lock:
            try:
                with trio.CancelScope(deadline=deadline_s, shield=True) as patience:
                    await self.stream.send_all(event.data)
                is_sent = not patience.cancelled_caught
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                is_sent = False
        if not is_sent:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())


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
