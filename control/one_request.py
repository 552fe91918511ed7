"""An ASGI server for connections that carry one request: h11 on a Trio stream, nothing beside it.

A connection of the public port is for one request. Hypercorn's, made for many, costs three tasks and two timers a
connection, which was two fifths of what a call cost the control process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import h11
import trio

READ_BYTES = 16 * 1024
HEAD_MAX_BYTES = 16 * 1024
HEAD_DEADLINE_S = 15.0
"""From the first byte to the end of the head."""
BODY_PAUSE_S = 20.0
"""Between two parts of the body. The application has its own limits of size and time, which are stricter."""
ANSWER_DEADLINE_S = 10.0
"""For a peer to take the answer."""
LINGER_S = 1.0
LINGER_READS = 16

App = Callable[[Any, Any, Any], Awaitable[None]]


async def serve_one(stream: trio.SocketStream, app: App) -> None:
    """Read one request, have `app` answer it, say goodbye. Closing the stream is the caller's.

    What the peer does wrong is answered, or ends the exchange; what `app` raises comes out of here.
    """
    exchange = _Exchange(stream)
    try:
        try:
            with trio.fail_after(HEAD_DEADLINE_S):
                request = await exchange.head()
        except trio.TooSlowError:
            await exchange.refuse(408)
        except h11.RemoteProtocolError as error:
            await exchange.refuse(error.error_status_hint)
        else:
            if request is not None:
                await app(_scope(stream, request), exchange.receive, exchange.send)
        await exchange.goodbye()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # the peer is gone


class _Exchange:
    """The three callables of ASGI, and what happens before and after them."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._peer = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX_BYTES)
        self._start: h11.Response | None = None
        self._is_head = False
        self._is_gone = False
        self._writing = trio.Lock()
        """An application may answer while another task of it waits for the body."""
        self._told = False
        """Whether the application has been told that there will be no more of the body."""

    async def head(self) -> h11.Request | None:
        """None when the peer closed without a request. Raises RemoteProtocolError, BrokenResourceError."""
        event = await self._next()
        if not isinstance(event, h11.Request):
            return None
        self._is_head = event.method == b"HEAD"
        return event

    async def receive(self) -> dict[str, Any]:
        """A part of the body. Behind the last part this waits for ever: nobody is told of a peer that left,
        because what it asked for is done nevertheless."""
        if self._told:
            await trio.sleep_forever()
        if self._peer.they_are_waiting_for_100_continue:
            async with self._writing:
                if (
                    self._peer.they_are_waiting_for_100_continue
                ):  # still: it was not answered meanwhile
                    await self._write(h11.InformationalResponse(status_code=100, headers=[]))
        try:
            with trio.fail_after(BODY_PAUSE_S):
                event = await self._next()
        except (trio.TooSlowError, h11.RemoteProtocolError):
            event = None
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        self._told = True
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """The head waits for the first part of the body, so that both leave in one write. To a peer that is
        gone nothing is sent, and nobody minds."""
        if self._is_gone:
            return
        match message["type"]:
            case "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                self._start = h11.Response(status_code=message["status"], headers=headers)
            case "http.response.body":
                events: list[h11.Event] = [] if self._start is None else [self._start]
                self._start = None
                if message.get("body") and not self._is_head:
                    events.append(h11.Data(data=message["body"]))
                if not message.get("more_body", False):
                    events.append(h11.EndOfMessage())
                try:
                    async with self._writing:
                        await self._write(*events)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._is_gone = True
            case _:
                pass  # pushes and trailers: nothing that this server has promised

    async def refuse(self, status: int) -> None:
        """Answer for the application."""
        nothing = [(b"content-length", b"0"), (b"connection", b"close")]
        await self._write(h11.Response(status_code=status, headers=nothing), h11.EndOfMessage())

    async def goodbye(self) -> None:
        """Let the peer read the answer: closing with bytes unread would reset the connection under it."""
        if self._is_gone:
            return
        await self._stream.send_eof()
        if self._peer.their_state is h11.DONE and not self._peer.trailing_data[0]:
            return
        with trio.move_on_after(LINGER_S):
            for _ in range(LINGER_READS):
                if not await self._stream.receive_some(READ_BYTES):
                    return

    async def _next(self) -> h11.Event | None:
        """None when there will be no more. Raises RemoteProtocolError, BrokenResourceError."""
        while True:
            event = self._peer.next_event()
            if event is h11.NEED_DATA:
                self._peer.receive_data(await self._stream.receive_some(READ_BYTES))
            elif isinstance(event, h11.Event) and not isinstance(event, h11.ConnectionClosed):
                return event
            else:
                return None

    async def _write(self, *events: h11.Event) -> None:
        """Raises BrokenResourceError, also for a peer that does not read."""
        data = b"".join(self._peer.send(event) or b"" for event in events)
        try:
            with trio.fail_after(ANSWER_DEADLINE_S):
                await self._stream.send_all(data)
        except trio.TooSlowError as error:
            raise trio.BrokenResourceError("the peer does not read the answer") from error


def _scope(stream: trio.SocketStream, request: h11.Request) -> dict[str, Any]:
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version.decode("ascii"),
        "method": request.method.decode("ascii").upper(),
        "scheme": "http",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
        "client": stream.socket.getpeername()[:2],
        "server": stream.socket.getsockname()[:2],
        "state": {},
        "extensions": {},
    }
