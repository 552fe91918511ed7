"""Opening the two legs of a call: the agent leg dialled, the caller leg upgraded. A shell.

Everything in here waits, so everything has a named deadline, and what goes wrong is told as a `LegError`
that says who broke it. Once a leg is up its socket belongs to the media plane.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote_plus, urlsplit

import httpcore
import orjson
import trio

from gateway.errors import LegClosed, LegError, LegProtocolError, LegRefused, LegTimeout
from gateway.handshake import (
    ClientHandshake,
    HandshakeError,
    accept_response,
    parse_upgrade,
    refuse_response,
)
from gateway.link import CallPlan
from gateway.settings import MediaSettings

SIGNED_URL_MAX_BYTES = 64 * 1024
SIGNED_URL_CONNECTIONS_MAX = 64
SIGNED_URL_IDLE_MAX = 16
SIGNED_URL_IDLE_S = 5.0
"""A connection that is kept for the next call; servers close idle ones soon after."""
_RECV_BYTES = 64 * 1024
_AGENT_HOST_SUFFIX = ".elevenlabs.io"


@dataclass(frozen=True, slots=True)
class OpenLeg:
    """A socket after its upgrade, and the bytes that came behind the handshake."""

    sock: socket.socket
    rest: bytes


def agent_tls_context() -> ssl.SSLContext:
    """TLS towards the agent: made once per worker, because loading the trust store costs milliseconds."""
    return ssl.create_default_context()


_NO_ANSWER = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


def http_client(
    tls: ssl.SSLContext, network: httpcore.AsyncNetworkBackend | None = None
) -> httpcore.AsyncConnectionPool:
    """The client for signed URLs: HTTP/1.1, connections are kept, redirects are not followed.

    httpcore is what is under httpx: one short GET of a known form needs no more, and costs less.
    """
    return httpcore.AsyncConnectionPool(
        ssl_context=tls,
        max_connections=SIGNED_URL_CONNECTIONS_MAX,
        max_keepalive_connections=SIGNED_URL_IDLE_MAX,
        keepalive_expiry=SIGNED_URL_IDLE_S,
        network_backend=network or httpcore.TrioBackend(),
    )


@contextmanager
def _deadline(leg: str, what: str, seconds: float) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise LegTimeout(leg, f"{what} took longer than {seconds:g} s") from None


async def open_agent_leg(
    plan: CallPlan,
    settings: MediaSettings,
    http: httpcore.AsyncConnectionPool,
    tls: ssl.SSLContext,
    note: Callable[[str], None],
) -> OpenLeg:
    """Dial the agent: signed URL, TCP (happy eyeballs, RFC 8305), TLS, WebSocket upgrade.

    Raises LegRefused, LegTimeout, LegClosed or LegProtocolError, all with `leg="agent"`.
    """
    with _deadline("agent", "signed URL", settings.agent_handshake_timeout_s):
        url = await _signed_url(plan, http)
    note("agent_signed_url")
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_tls = parts.scheme == "wss"
    port = parts.port or (443 if is_tls else 80)
    with _deadline("agent", "TCP connect", settings.agent_connect_timeout_s):
        sock = await _connect(host, port)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setblocking(False)
        if is_tls:
            with _deadline("agent", "TLS handshake", settings.agent_handshake_timeout_s):
                sock = await _tls_handshake(sock, tls, host)
        note("agent_socket_open")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        authority = f"[{host}]" if ":" in host else host
        if parts.port is not None:
            authority += f":{parts.port}"
        with _deadline("agent", "WebSocket upgrade", settings.agent_handshake_timeout_s):
            rest = await _upgrade(sock, ClientHandshake(host=authority, target=target))
    except BaseException:
        sock.close()
        raise
    return OpenLeg(sock, rest)


async def _signed_url(plan: CallPlan, http: httpcore.AsyncConnectionPool) -> str:
    """GET /v1/convai/conversation/get-signed-url. The answer is a credential and is never logged."""
    base = plan.elevenlabs_base_url.rstrip("/")
    agent_id = quote_plus(plan.elevenlabs_agent_id)
    try:
        async with http.stream(
            "GET",
            f"{base}/v1/convai/conversation/get-signed-url?agent_id={agent_id}",
            headers=[
                ("host", urlsplit(base).netloc.rpartition("@")[2]),
                ("accept", "*/*"),
                ("accept-encoding", "identity"),
                ("user-agent", "tandem"),
                ("xi-api-key", plan.elevenlabs_api_key),
            ],
            # No timeouts of its own: the caller's deadline covers connect and reply.
        ) as response:
            if response.status != 200:
                raise LegRefused("agent", "signed URL was refused", code=response.status)
            body = b""
            async for piece in response.aiter_stream():
                # Read to its end, but not kept: an iterator left half-way would leave its closing to chance.
                body += piece[: SIGNED_URL_MAX_BYTES + 1 - len(body)]
        if len(body) > SIGNED_URL_MAX_BYTES:
            raise LegProtocolError("agent", "answer to the signed-URL request is too large")
        url = orjson.loads(body).get("signed_url")
    except _NO_ANSWER as error:
        raise LegClosed("agent", f"signed URL: {type(error).__name__}") from error
    except (ValueError, AttributeError) as error:
        raise LegProtocolError(
            "agent", "answer to the signed-URL request is no JSON object"
        ) from error
    if not isinstance(url, str):
        raise LegProtocolError("agent", "answer to the signed-URL request has no signed_url")
    _check_signed_url(url, base)
    return url


def _check_signed_url(url: str, base_url: str) -> None:
    """Connect only to ElevenLabs, or to the host that the configuration names; never less secretly than
    the URL itself was asked for. Raises LegProtocolError."""
    base = urlsplit(base_url)
    try:
        target = urlsplit(url)
        is_sound = target.port != 0 and url.isascii() and url.isprintable()
    except ValueError:  # no such port, or half an IPv6 address
        is_sound = False
    if not is_sound or target.scheme not in ("ws", "wss"):
        raise LegProtocolError("agent", "signed URL is no WebSocket address")
    if target.scheme == "ws" and base.scheme != "http":
        raise LegProtocolError("agent", "signed URL would not be encrypted")
    host = target.hostname or ""
    if host == base.hostname or (host.endswith(_AGENT_HOST_SUFFIX) and target.scheme == "wss"):
        return
    raise LegProtocolError("agent", f"signed URL names a foreign host: {host[:80]}")


async def _connect(host: str, port: int) -> socket.socket:
    try:
        stream = await trio.open_tcp_stream(host, port)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        raise LegClosed("agent", f"TCP connect: {error}") from error
    # Trio's wrapper gives the descriptor up; from here on the socket is polled by hand.
    return socket.socket(fileno=stream.socket.detach())


async def _tls_handshake(sock: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        wrapped = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:
        raise LegProtocolError("agent", f"TLS: {error}") from error
    try:
        while True:
            try:
                wrapped.do_handshake()
                return wrapped
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(wrapped)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(wrapped)
    except BaseException as error:
        wrapped.close()
        if isinstance(error, OSError):
            raise LegProtocolError("agent", f"TLS: {error}") from error
        raise


async def _upgrade(sock: socket.socket, handshake: ClientHandshake) -> bytes:
    try:
        await _send_all(sock, handshake.request)
        while True:
            try:
                data = sock.recv(_RECV_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                await trio.lowlevel.wait_readable(sock)
                continue
            if not data:
                raise handshake.give_up()
            rest = handshake.receive(data)
            if rest is not None:
                return rest
    except HandshakeError as error:
        raise LegRefused(
            "agent", f"WebSocket upgrade was refused: {error.reason}", code=error.status
        ) from error
    except OSError as error:
        raise LegClosed("agent", f"WebSocket upgrade: {error}") from error


async def _send_all(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            await trio.lowlevel.wait_writable(sock)


def upgrade_caller(sock: socket.socket, head: bytes) -> OpenLeg:
    """Answer Twilio's upgrade. `head` is the whole request head, already checked and admitted by control.

    Raises LegError (`leg="caller"`) after an HTTP refusal when the head is no WebSocket upgrade. Does not
    wait: the answer is smaller than any socket buffer.
    """
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        request = parse_upgrade(head)
        if request is None:
            raise HandshakeError(400, "request head is incomplete")
        sock.send(accept_response(request))
    except HandshakeError as error:
        _refuse(sock, error)
        raise LegRefused("caller", error.reason, code=error.status) from error
    except OSError as error:
        raise LegClosed("caller", f"upgrade: {error}") from error
    return OpenLeg(sock, request.rest)


def _refuse(sock: socket.socket, error: HandshakeError) -> None:
    try:
        sock.send(refuse_response(error.status or 400, error.reason))
    except OSError:
        return  # the peer is gone already; the refusal has no reader


__all__ = [
    "LegError",
    "OpenLeg",
    "agent_tls_context",
    "http_client",
    "open_agent_leg",
    "upgrade_caller",
]
