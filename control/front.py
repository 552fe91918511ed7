"""The public port: media streams to the workers, everything else to the webhooks' application.

The first eleven bytes are looked at without being taken. `GET /media/` is a media stream: its head is read
here, its signature checked and its ticket redeemed, and then the socket itself is passed to the worker that
holds the call. Nothing has been opened upstream for whoever is refused.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qs

import h11
import trio
from quart_trio import QuartTrio

from control import log
from control.http import CONNECTIONS_MAX, HEAD_MAX_BYTES, HttpServer, Serve
from control.metrics import Metrics
from control.one_request import serve_one
from control.store import StoreUnavailable
from control.tickets import TicketRefused
from control.twilio import signature
from control.workers import WorkerGone

MEDIA_START = b"GET /media/"
HEAD_DEADLINE_S = 5.0
LINGER_S = 1.0
LINGER_READS = 16
LINE_MAX_BYTES = 2048
"""Of a request line that is looked at for the call it is about; ours have some hundred bytes."""


class MediaDoor(Protocol):
    """What is used of `control.switchboard.Switchboard`."""

    def admit_stream(self, ticket: str) -> str: ...
    def is_about_ours(self, *, ticket: str = "", call_id: str = "", path: str = "") -> bool: ...
    def tenant_of_ticket(self, ticket: str) -> str | None: ...
    async def join_stream(self, call_id: str, sock: socket.socket, head: bytes) -> None: ...


class Signing(Protocol):
    @property
    def tokens(self) -> Sequence[str]: ...


class Signers(Protocol):
    """Who may sign: see `control.tenants.access.TwilioAccess`."""

    async def signing_tenant(self, tenant_id: str) -> Signing | None: ...


class Others(Protocol):
    """What is used of `control.siblings.Siblings`."""

    def doors(self) -> Sequence[object]: ...
    async def offer(
        self,
        sock: trio.socket.SocketType,
        *,
        ticket: str = "",
        call_id: str = "",
        path: str = "",
        head: bytes = b"",
    ) -> bool: ...


class HeadRefused(Exception):
    """The request head is none of a media stream; `status` is the HTTP status to answer."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Front(HttpServer):
    """Sorts the connections of the public port. Media streams that a worker has taken are not counted.

    A connection is sorted by its first bytes, once, and so it is for one request: a proxy that keeps connections
    to us would sooner or later send a media upgrade behind a webhook, on one that has been sorted already.
    """

    def __init__(
        self,
        app: QuartTrio,
        door: MediaDoor,
        *,
        media_url: str,
        tokens: Sequence[str],
        metrics: Metrics,
        signers: Signers | None = None,
        others: Others | None = None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        super().__init__(app, connections_max=connections_max)
        self._door = door
        self._media_url = media_url
        self._tokens = tokens
        self._signers = signers
        self._others = others
        self._metrics = metrics

    def on_crowded(self, what: str) -> None:
        self._metrics.connections_crowded.labels(what).inc()

    async def on_connection(self, stream: trio.SocketStream, serve_http: Serve) -> None:
        """Look at the first bytes, then decide."""
        start = b""
        try:
            with trio.move_on_after(HEAD_DEADLINE_S) as patience:
                start = await _peek(stream.socket)
        except OSError:
            return
        if patience.cancelled_caught or not start:
            return
        if start.startswith(MEDIA_START):
            await self._serve_media(stream)
        elif not await self._is_passed_on(stream, start):
            await serve_one(stream, self.app_on(stream))

    def adopt(self, sock: socket.socket, head: bytes) -> None:
        """A connection that another instance has accepted and that is about a call of ours."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))

        async def handle(stream: trio.SocketStream, serve_http: Serve) -> None:
            # Not sorted once more: what is not ours after all is refused here, and never passed back.
            if head:
                await self._serve_media(stream, head)
            else:
                await serve_one(stream, self.app_on(stream))

        self.take(stream, handle)

    async def _is_passed_on(self, stream: trio.SocketStream, start: bytes) -> bool:
        """Whether this is about a call of another instance, and that instance has taken the connection, unread.

        `start`: what was seen of it.
        """
        if self._others is None or self._is_ours(start) or not self._others.doors():
            return False
        try:
            with trio.fail_after(HEAD_DEADLINE_S):
                path, call_id = _asked(await _peek_line(stream.socket))
        except (OSError, trio.TooSlowError):
            return False
        if not call_id or self._door.is_about_ours(call_id=call_id, path=path):
            return False
        return await self._others.offer(stream.socket, call_id=call_id, path=path)

    def _is_ours(self, start: bytes) -> bool:
        """Whether nobody else has to be looked for, as far as the bytes show that were seen: so it is, nearly always."""
        line, end, _ = start.partition(b"\n")
        path, call_id = _asked(line)
        return bool(end) and self._door.is_about_ours(call_id=call_id, path=path)

    # ---- media ---------------------------------------------------------------------------------

    async def _serve_media(self, stream: trio.SocketStream, head: bytes = b"") -> None:
        """`head`: what was read already, by another instance."""
        is_passed = bool(head)
        try:
            with trio.fail_after(HEAD_DEADLINE_S):
                request, head = await _read_head(stream, head)
                if not is_passed and await self._is_anothers(request, stream, head):
                    return
                tokens = await self._tokens_for(request)
            call_id = self._admit(request, tokens)
            self.has_asked(stream)
        except trio.TooSlowError:
            await self._refuse(stream, 408, "slow")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        except HeadRefused as refusal:
            await self._refuse(stream, refusal.status, refusal.why)
        except TicketRefused as refusal:
            await self._refuse(stream, refusal.status, f"ticket_{refusal.why}")
        else:
            await self._hand_over(call_id, stream, head)

    async def _is_anothers(
        self, request: h11.Request, stream: trio.SocketStream, head: bytes
    ) -> bool:
        ticket = _ticket_of(request.target.decode("latin-1"))
        if self._others is None or self._door.is_about_ours(ticket=ticket):
            return False
        return await self._others.offer(stream.socket, ticket=ticket, head=head)

    async def _tokens_for(self, request: h11.Request) -> Sequence[str]:
        """What this stream may be signed with: the request names no account, its ticket's call has one."""
        ticket = _ticket_of(request.target.decode("latin-1"))
        tenant_id = self._door.tenant_of_ticket(ticket) if self._signers else None
        if self._signers is None or tenant_id is None:
            return self._tokens
        try:
            account = await self._signers.signing_tenant(tenant_id)
        except StoreUnavailable as error:
            raise HeadRefused(503, "store") from error
        return account.tokens if account is not None else ()

    def _admit(self, request: h11.Request, tokens: Sequence[str]) -> str:
        """The call that this stream belongs to. Nothing is spent on a request that is not Twilio's."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers
        }
        target = request.target.decode("latin-1")
        given = headers.get("x-twilio-signature")
        if not signature.valid(self._media_url + target, None, given, tokens):
            self._metrics.signature_failures.inc()
            raise HeadRefused(403, "signature")
        # Before the ticket, which is good for one try only.
        if headers.get("upgrade", "").lower() != "websocket" or not headers.get(
            "sec-websocket-key"
        ):
            raise HeadRefused(426, "no_upgrade")
        return self._door.admit_stream(_ticket_of(target))

    async def _hand_over(self, call_id: str, stream: trio.SocketStream, head: bytes) -> None:
        sock = socket.socket(fileno=stream.socket.detach())
        try:
            await self._door.join_stream(call_id, sock, head)
        except WorkerGone:
            # The socket is closed; Twilio goes on with the verbs behind the stream and asks us.
            log.event("stream_without_worker", level="warning", call_id=call_id)
            self._metrics.webhooks.labels("/media", "worker_gone").inc()
        else:
            self._metrics.webhooks.labels("/media", "admitted").inc()

    async def _refuse(self, stream: trio.SocketStream, status: int, why: str) -> None:
        self._metrics.webhooks.labels("/media", str(status)).inc()
        log.event("stream_refused", level="warning", status=status, why=why)
        answer = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        with trio.move_on_after(HEAD_DEADLINE_S):
            try:
                await stream.send_all(answer.encode("ascii"))
                await stream.send_eof()
                await _linger(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return


def _ticket_of(target: str) -> str:
    return target.partition("?")[0][len("/media/") :].rstrip("/")


async def _linger(stream: trio.SocketStream) -> None:
    """Let the peer read the refusal: closing with bytes unread would reset the connection under it."""
    with trio.move_on_after(LINGER_S):
        for _ in range(LINGER_READS):
            if not await stream.receive_some(HEAD_MAX_BYTES):
                return


async def _peek(sock: trio.socket.SocketType) -> bytes:
    """The first bytes of the connection, left in the socket: at most LINE_MAX_BYTES.

    Fewer than len(MEDIA_START) only when the peer has sent its last. Raises OSError.
    """
    wanted = len(MEDIA_START)
    start = await sock.recv(LINE_MAX_BYTES, socket.MSG_PEEK)
    if not start or len(start) >= wanted:
        return start
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
    # Not `recv` alone: it would return what is there at once, a single byte perhaps.
    await trio.lowlevel.wait_readable(sock)
    start = await sock.recv(LINE_MAX_BYTES, socket.MSG_PEEK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return start


async def _peek_line(sock: trio.socket.SocketType) -> bytes:
    """The request line, left in the socket; empty when it is none of a sensible length. Raises OSError."""
    seen = await sock.recv(LINE_MAX_BYTES, socket.MSG_PEEK)
    try:
        while b"\n" not in seen and len(seen) < LINE_MAX_BYTES:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(seen) + 1)
            await trio.lowlevel.wait_readable(sock)
            before, seen = len(seen), await sock.recv(LINE_MAX_BYTES, socket.MSG_PEEK)
            if len(seen) == before:
                return b""  # it was the peer's last
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    line, _, rest = seen.partition(b"\n")
    return line if rest or seen.endswith(b"\n") else b""


def _asked(line: bytes) -> tuple[str, str]:
    """Path and call of a request line; the call is empty when it names none."""
    words = line.decode("latin-1").split(" ")
    path, _, query = (words[1] if len(words) > 1 else "").partition("?")
    return path, parse_qs(query).get("call_id", [""])[0]


async def _read_head(stream: trio.SocketStream, data: bytes = b"") -> tuple[h11.Request, bytes]:
    """The request, and all bytes read so far, `data` first. Raises HeadRefused, BrokenResourceError."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX_BYTES)
    head = b""
    while True:
        data = data or bytes(await stream.receive_some(HEAD_MAX_BYTES))
        if not data:
            raise HeadRefused(400, "cut_off")
        head += data
        try:
            parser.receive_data(data)
            data = b""
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise HeadRefused(error.error_status_hint, "malformed") from error
        if isinstance(event, h11.Request):
            if len(head) > 2 * HEAD_MAX_BYTES:
                raise HeadRefused(431, "too_large")
            return event, head
        if len(head) > HEAD_MAX_BYTES:
            raise HeadRefused(431, "too_large")
