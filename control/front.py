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

import h11
import trio
from quart_trio import QuartTrio

from control import log
from control.http import CONNECTIONS_MAX, HEAD_MAX_BYTES, HttpServer, Serve
from control.metrics import Metrics
from control.store import StoreUnavailable
from control.tickets import TicketRefused
from control.twilio import signature
from control.workers import WorkerGone

MEDIA_START = b"GET /media/"
HEAD_DEADLINE_S = 5.0
LINGER_S = 1.0
LINGER_READS = 16


class MediaDoor(Protocol):
    """What is used of `control.switchboard.Switchboard`."""

    def admit_stream(self, ticket: str) -> str: ...
    def tenant_of_ticket(self, ticket: str) -> str | None: ...
    async def join_stream(self, call_id: str, sock: socket.socket, head: bytes) -> None: ...


class Signing(Protocol):
    @property
    def tokens(self) -> Sequence[str]: ...


class Signers(Protocol):
    """Who may sign: see `control.tenants.access.TwilioAccess`."""

    async def signing_tenant(self, tenant_id: str) -> Signing | None: ...


class HeadRefused(Exception):
    """The request head is none of a media stream; `status` is the HTTP status to answer."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Front(HttpServer):
    """Sorts the connections of the public port. Media streams that a worker has taken are not counted."""

    requests_kept_alive = 0
    """A connection is sorted by its first bytes, once. A proxy that keeps connections to us would sooner or
    later send a media upgrade behind a webhook, on a connection that has been sorted already."""

    def __init__(
        self,
        app: QuartTrio,
        door: MediaDoor,
        *,
        media_url: str,
        tokens: Sequence[str],
        metrics: Metrics,
        signers: Signers | None = None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        super().__init__(app, connections_max=connections_max)
        self._door = door
        self._media_url = media_url
        self._tokens = tokens
        self._signers = signers
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
        if start == MEDIA_START:
            await self._serve_media(stream)
        else:
            await serve_http(stream)

    # ---- media ---------------------------------------------------------------------------------

    async def _serve_media(self, stream: trio.SocketStream) -> None:
        try:
            with trio.fail_after(HEAD_DEADLINE_S):
                request, head = await _read_head(stream)
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
    """The first bytes of the connection, left in the socket: at most len(MEDIA_START).

    Fewer only when the peer has sent its last. Raises OSError.
    """
    wanted = len(MEDIA_START)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
    # Not `recv` alone: it would return what is there at once, a single byte perhaps.
    await trio.lowlevel.wait_readable(sock)
    start = await sock.recv(wanted, socket.MSG_PEEK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return start


async def _read_head(stream: trio.SocketStream) -> tuple[h11.Request, bytes]:
    """The request, and all bytes read so far. Raises HeadRefused, BrokenResourceError."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX_BYTES)
    head = b""
    while True:
        data = await stream.receive_some(HEAD_MAX_BYTES)
        if not data:
            raise HeadRefused(400, "cut_off")
        head += data
        try:
            parser.receive_data(data)
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise HeadRefused(error.error_status_hint, "malformed") from error
        if isinstance(event, h11.Request):
            if len(head) > 2 * HEAD_MAX_BYTES:
                raise HeadRefused(431, "too_large")
            return event, head
        if len(head) > HEAD_MAX_BYTES:
            raise HeadRefused(431, "too_large")
