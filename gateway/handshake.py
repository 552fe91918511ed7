"""The HTTP/1.1 upgrade that opens a WebSocket (RFC 6455 section 4, RFC 9112), both roles, without I/O.

h11 reads the grammar; what it is lenient about (bare line feeds, folded headers, control characters) is
refused before it sees it. Neither role ever agrees to an extension or a subprotocol.

Error texts never hold header values, keys or query strings of ours: they go into logs and call records.
"""

from __future__ import annotations

import base64
import hashlib
import http
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import h11

from gateway.errors import GatewayError

MAX_HEAD_BYTES: Final = 16 * 1024
BODY_READ_MAX_BYTES: Final = 1024
"""How much of a refusal's body is read; the sample in the error is cut from it."""
SAMPLE_MAX_CHARS: Final = 200

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = "13"
_FORBIDDEN_IN_HEAD: Final = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?=[^\n])|(?<!\r)\n|\r\n[ \t]"
)
_SINGLE: Final = ("sec-websocket-key", "sec-websocket-version", "sec-websocket-accept")
_OURS: Final = re.compile(
    r"host|connection|upgrade|content-length|transfer-encoding|sec-websocket-.*"
)
_MIN_SECRET_CHARS: Final = 8


class HandshakeError(GatewayError):
    """There is no WebSocket. `status` is the HTTP status to answer with (server) or that was answered
    (client); `None` when the answer was no HTTP response or none came.
    """

    def __init__(self, status: int | None, reason: str) -> None:
        super().__init__(reason if status is None else f"{status}: {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """A valid upgrade request. Its contents are kept out of `repr`: targets and headers hold secrets."""

    target: str = field(repr=False)
    """Path and query as sent."""
    headers: dict[str, str] = field(repr=False)
    """Lower-case names; several headers of one name are joined with `, `."""
    key: str = field(repr=False)
    rest: bytes = field(repr=False)
    """What came behind the head."""


# ---- server -----------------------------------------------------------------------------------


def parse_upgrade(data: bytes, max_head_bytes: int = MAX_HEAD_BYTES) -> UpgradeRequest | None:
    """The request in `data`, everything received so far; `None` while its head is incomplete.

    Raises HandshakeError: 400 malformed, 405 not a GET, 426 no WebSocket upgrade of version 13, 431 head
    too long. `refuse_response` makes the answer.
    """
    try:
        head = _split_head(data, max_head_bytes)
        if head is None:
            return None
        request = _parse_request(head)
    except h11.RemoteProtocolError as error:
        status = 431 if error.error_status_hint == 431 else 400
        reason = "request head too long" if status == 431 else "malformed request head"
        raise HandshakeError(status, reason) from None
    if request.method != b"GET":
        raise HandshakeError(405, "only GET is allowed here")
    headers = _headers(request.headers, 400)
    _check_upgrade(request, headers)
    return UpgradeRequest(
        target=request.target.decode("ascii"),
        headers=headers,
        key=headers["sec-websocket-key"],
        rest=data[len(head) :],
    )


def accept_response(request: UpgradeRequest) -> bytes:
    """The 101 that opens the WebSocket."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % _accept(request.key.encode("ascii"))
    )


def refuse_response(status: int, reason: str) -> bytes:
    """An error answer with `reason` as its text, after which the connection is to be closed."""
    body = (reason + "\n").encode("utf-8", "replace")
    extra = {
        405: "Allow: GET\r\nConnection: close\r\n",
        426: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: close, Upgrade\r\n",
    }.get(status, "Connection: close\r\n")
    head = (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode("ascii") + body


def _parse_request(head: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head))
    connection.receive_data(head)
    request = connection.next_event()
    assert isinstance(request, h11.Request)  # a whole head gives a request or an error
    return request


def _check_upgrade(request: h11.Request, headers: Mapping[str, str]) -> None:
    if request.http_version != b"1.1" or not request.target.startswith(b"/"):
        raise HandshakeError(400, "malformed request line")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise HandshakeError(400, "an upgrade request has no body")
    if not _switches_to_websocket(headers):
        raise HandshakeError(426, "WebSocket upgrade expected")
    if headers.get("sec-websocket-version") != _VERSION:
        raise HandshakeError(426, f"WebSocket version {_VERSION} expected")
    if not _is_key(headers.get("sec-websocket-key", "")):
        raise HandshakeError(400, "missing or malformed Sec-WebSocket-Key")


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except ValueError:
        return False


# ---- client -----------------------------------------------------------------------------------


class ClientHandshake:
    """Our request, and the reading of its answer.

    `host` goes into the Host header as it is, with its port unless that is the scheme's own. `target` is
    path and query. `headers` come on top (an API key, an origin); those of the handshake itself cannot be
    set. `key` is the nonce, 16 bytes. Raises ValueError, without the value, for what no request can carry.
    """

    def __init__(
        self,
        *,
        host: str,
        target: str,
        headers: dict[str, str] | None = None,
        key: bytes | None = None,
    ) -> None:
        nonce = os.urandom(16) if key is None else key
        if len(nonce) != 16:
            raise ValueError("a WebSocket key has 16 bytes")
        extra = headers or {}
        for name in extra:
            if _OURS.fullmatch(name.lower()):
                raise ValueError(f"header {name!r} belongs to the handshake")
        self._key = base64.b64encode(nonce)
        self._secrets = _secrets(target, extra.values())
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._received = bytearray()
        self._head_bytes_left = MAX_HEAD_BYTES
        self._refusal: h11.Response | None = None
        self._body = b""
        self.request = self._encode_request(host, target, extra)

    def receive(self, data: bytes) -> bytes | None:
        """The bytes behind the 101 (often `b""`) once it is there and right; `None` = need more.

        Raises HandshakeError: with the status and a short, printable sample of the body for any answer
        but 101, when that body is complete or long enough; with status 101 for one that does not fit our
        request; with `None` for what is no HTTP response or has a head of more than 16 KiB.
        """
        try:
            if self._refusal is not None:
                self._read_body(data)
                return None
            self._received += data
            while (head := self._next_head()) is not None:
                answer = self._read_head(head)
                rest = bytes(self._received)
                if isinstance(answer, h11.Response):
                    self._refusal = answer
                    self._read_body(rest)
                    return None
                if answer.status_code == 101:
                    self._check_accepted(answer)
                    return rest
        except h11.RemoteProtocolError:
            raise self._malformed() from None
        return None

    def give_up(self) -> HandshakeError:
        """The error for an answer that will not get complete: the peer closed, or its time is over.

        Holds the status when there is one already.
        """
        if self._refusal is None:
            return HandshakeError(None, "no complete answer to the WebSocket upgrade")
        text = self._body[:BODY_READ_MAX_BYTES].decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        sample = _printable(text) or _printable(self._refusal.reason.decode("latin-1"))
        return HandshakeError(self._refusal.status_code, sample or "refused without a word")

    def _encode_request(self, host: str, target: str, extra: Mapping[str, str]) -> bytes:
        own = {
            "Host": host,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": self._key.decode("ascii"),
            "Sec-WebSocket-Version": _VERSION,
        }
        try:
            request = h11.Request(
                method="GET", target=target, headers=list((own | dict(extra)).items())
            )
        except (h11.LocalProtocolError, UnicodeEncodeError):
            raise ValueError("host, target or a header cannot be sent in a request") from None
        encoded = self._connection.send(request) or b""
        if _FORBIDDEN_IN_HEAD.search(encoded) or not target.startswith("/"):
            raise ValueError("host, target or a header cannot be sent in a request")
        self._connection.send(h11.EndOfMessage())
        return encoded

    def _next_head(self) -> bytes | None:
        # Interim answers (1xx) count, or an endless row of them would be an endless head.
        head = _split_head(bytes(self._received), self._head_bytes_left)
        if head is not None:
            self._head_bytes_left -= len(head)
            del self._received[: len(head)]
        return head

    def _read_head(self, head: bytes) -> h11.InformationalResponse | h11.Response:
        self._connection.receive_data(head)
        answer = self._connection.next_event()
        assert isinstance(answer, h11.InformationalResponse | h11.Response)
        return answer

    def _read_body(self, data: bytes) -> None:
        """Collect the body of a refusal; raises it when there is enough."""
        if data:
            self._connection.receive_data(data)
        while len(self._body) < BODY_READ_MAX_BYTES:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                return
            if not isinstance(event, h11.Data):
                break
            self._body += event.data
        raise self.give_up()

    def _malformed(self) -> HandshakeError:
        if self._refusal is not None:
            return self.give_up()
        return HandshakeError(None, "the answer to the WebSocket upgrade is not a valid HTTP head")

    def _check_accepted(self, answer: h11.InformationalResponse) -> None:
        headers = _headers(answer.headers, 101)
        if answer.http_version != b"1.1" or not _switches_to_websocket(headers):
            raise HandshakeError(101, "switched to something that is no WebSocket")
        if headers.get("sec-websocket-accept") != _accept(self._key).decode("ascii"):
            raise HandshakeError(101, "wrong or missing Sec-WebSocket-Accept")
        for name in ("sec-websocket-extensions", "sec-websocket-protocol"):
            if name in headers:
                raise HandshakeError(101, f"{name} was not offered")


def _secrets(target: str, header_values: Iterable[str]) -> tuple[str, ...]:
    """What an error page may echo but no log may hold; the longest first, so that none leaves a piece."""
    query = re.split(r"[?&=]", target)[1:]
    found = {text for text in (*query, *header_values) if len(text) >= _MIN_SECRET_CHARS}
    return tuple(sorted(found, key=len, reverse=True))


def _printable(text: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(shown.split())[:SAMPLE_MAX_CHARS]


# ---- both -------------------------------------------------------------------------------------


def _split_head(data: bytes, max_head_bytes: int) -> bytes | None:
    """The head at the start of `data` with its empty line, `None` while it is incomplete.

    Raises h11.RemoteProtocolError, as h11 does for the rest of the grammar.
    """
    end = data.find(b"\r\n\r\n", 0, max_head_bytes)
    if end >= 0:
        head = data[: end + 4]
    elif len(data) >= max_head_bytes:
        raise h11.RemoteProtocolError("head too long", error_status_hint=431)
    else:
        head = data[:64]  # whoever speaks TLS or worse here need not be waited for
    if _FORBIDDEN_IN_HEAD.search(head):
        raise h11.RemoteProtocolError("forbidden character in head")
    return head if end >= 0 else None


def _headers(items: Iterable[tuple[bytes, bytes]], status: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in items:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        if name in headers and name in _SINGLE:
            raise HandshakeError(status, f"more than one {name}")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _switches_to_websocket(headers: Mapping[str, str]) -> bool:
    return "websocket" in _tokens(headers, "upgrade") and "upgrade" in _tokens(
        headers, "connection"
    )


def _tokens(headers: Mapping[str, str], name: str) -> set[str]:
    return {token.strip().lower() for token in headers.get(name, "").split(",")}


def _accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
