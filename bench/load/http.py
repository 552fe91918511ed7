"""As much HTTP/1.1 as the providers need: one request a connection as a client, small answers as a server."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from bench.load.loop import READ, READ_WRITE, Loop, now

EXCHANGE_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Status 0: there was none, and `body` says why. `rest` is what came behind the head of a 101."""

    status: int
    body: bytes
    rest: bytes = b""


class Exchange:
    """Connect, send one request, wait for its answer, call `done(answer, socket)`. Never blocks.

    After a 101 the socket stays open and is the receiver's; else it is closed and None.
    """

    def __init__(
        self,
        loop: Loop,
        address: tuple[str, int],
        request: bytes,
        done: Callable[[Answer, socket.socket | None], None],
    ) -> None:
        self._loop = loop
        self._request = request
        self._done: Callable[[Answer, socket.socket | None], None] | None = done
        self._data = b""
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self._sock.connect_ex(address)
        loop.add(self._sock, self._ready, READ_WRITE)
        loop.at(now() + EXCHANGE_TIMEOUT_S, self._too_late)
        if code not in (0, errno.EINPROGRESS):
            self._finish(Answer(0, f"connect: {errno.errorcode.get(code, code)}".encode()))

    def _too_late(self, _: object) -> None:
        self._finish(Answer(0, b"no answer in time"))

    def _ready(self, mask: int) -> None:
        try:
            if self._request:
                sent = self._sock.send(self._request)
                self._request = self._request[sent:]
                if not self._request:
                    self._loop.change(self._sock, READ)
                return
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(Answer(0, str(error).encode()))
            return
        self._data += data
        answer = _parse(self._data, ended=not data)
        if answer is not None:
            self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if answer.status == 101:
            done(answer, self._sock)
        else:
            self._loop.close(self._sock)
            done(answer, None)


def _parse(data: bytes, *, ended: bool) -> Answer | None:
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return Answer(0, b"connection closed before an answer") if ended else None
    status = int(head[9:12])
    if status == 101:
        return Answer(101, b"", rest)
    length = _header(head, b"content-length")
    if (length is not None and len(rest) >= int(length)) or ended:
        return Answer(status, rest)
    return None


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was received whole."""

    method: str
    target: str
    key: str | None
    """`Sec-WebSocket-Key` of an upgrade."""
    form: dict[str, list[str]]
    size: int
    """Bytes it took."""


def parse_request(data: bytes) -> Request | None:
    """The first request in `data`, or None while it is incomplete."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    length = int(_header(head, b"content-length") or 0)
    if len(rest) < length:
        return None
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    key = _header(head, b"sec-websocket-key")
    return Request(
        method,
        target,
        key.decode() if key else None,
        parse_qs(rest[:length].decode(errors="replace")),
        len(head) + 4 + length,
    )


def json_answer(status: int, body: dict[str, Any]) -> bytes:
    """A whole answer; the connection stays open."""
    text = json.dumps(body).encode()
    return (
        f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    ).encode() + text
