"""A small HTTP/1.1 server over any Trio stream, on h11.

Not a framework, because a simulator must do what frameworks prevent: take a request, act on it, and
close the connection without a word.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cached_property
from typing import TypeAlias
from urllib.parse import parse_qsl, urlsplit

import h11
import trio

BODY_MAX_BYTES = 1024 * 1024
IDLE_DEADLINE_S = 75.0
_RECEIVE_BYTES = 16 * 1024


@dataclass(frozen=True)
class Request:
    """One request with its whole body."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return urlsplit(self.target).path

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """Query parameters in order, blank values kept."""
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    @cached_property
    def form(self) -> list[tuple[str, str]]:
        """Form parameters in order, blank values kept."""
        return parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler: TypeAlias = Callable[[Request], Awaitable[Response | None]]
"""`None` = close the connection without an answer."""


async def serve_connection(stream: trio.abc.Stream, handler: Handler) -> None:
    """Serve requests on `stream` until the peer closes, breaks the protocol or falls silent."""
    connection = h11.Connection(h11.SERVER)
    try:
        while connection.our_state is h11.IDLE:
            with trio.move_on_after(IDLE_DEADLINE_S) as scope:
                request = await _receive(stream, connection)
            if scope.cancelled_caught or request is None:
                break
            response = await handler(request)
            if response is None:
                break
            await stream.send_all(_encode(connection, response))
            if _may_go_on(connection):
                connection.start_next_cycle()
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
        pass  # the peer is gone or talks nonsense: nobody is left to tell
    finally:
        await trio.aclose_forcefully(stream)


def _may_go_on(connection: h11.Connection) -> bool:
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


async def _receive(stream: trio.abc.Stream, connection: h11.Connection) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = connection.send(h11.InformationalResponse(status_code=100, headers=[]))
                await stream.send_all(go_on or b"")
            connection.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_MAX_BYTES:
                return None
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return _request(head, bytes(body))
        else:
            return None


def _request(head: h11.Request, body: bytes) -> Request:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode(), head.target.decode("latin-1"), headers, body)


def _encode(connection: h11.Connection, response: Response) -> bytes:
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Date", formatdate(usegmt=True)),
        *response.headers.items(),
    ]
    parts = [
        connection.send(h11.Response(status_code=response.status, headers=headers)),
        connection.send(h11.Data(data=response.body)) if response.body else b"",
        connection.send(h11.EndOfMessage()),
    ]
    return b"".join(part or b"" for part in parts)
