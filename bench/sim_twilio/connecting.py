"""Opening a media stream's WebSocket: URL rules, signature, and what Twilio calls each failure.

Source: Twilio, "Media Streams" error codes 31901 to 31923.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit, urlunsplit

import trio
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream

from bench.sim_twilio.signing import HEADER, signature, stream_url_as_signed

MESSAGE_MAX_BYTES = 16 * 1024 * 1024

OpenStream: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Connects to a host and port; replaced in tests by memory streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How the simulator treats media streams."""

    require_wss: bool = False
    """Twilio refuses anything but `wss`; off by default so that loopback needs no certificate."""
    trailing_slash: bool = False
    """Sign the URL with a slash appended, as Twilio sometimes does."""
    sid_first: bool = False
    """Put `streamSid` before `media` in media messages."""
    connect_deadline_s: float = 10.0
    ssl_context: ssl.SSLContext | None = None
    open_stream: OpenStream = trio.open_tcp_stream
    stop_deadline_s: float = 2.0
    """For `stop` and the close handshake."""
    keep_audio: bool = True
    """Keep what was said and heard; a load run turns it off to save memory."""


class ConnectFailure(Exception):
    """The stream could not be opened: Twilio's code and words for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message


@contextmanager
def in_time(deadline: float) -> Iterator[None]:
    """A piece of connecting that ends by `deadline` on Trio's clock. Raises: ConnectFailure 31901."""
    try:
        with trio.fail_at(deadline):
            yield
    except trio.TooSlowError as error:
        raise ConnectFailure(31901, "WebSocket connection timeout") from error


class WatchedStream(trio.abc.Stream):
    """Passes everything on, and notes who ended the connection, which a WebSocket library hides."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.ended = trio.Event()
        self.peer_is_gone = False
        self.first_bytes = b""
        """The beginning of what the peer sent: the status line of its handshake."""
        self._inner = inner

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the inner stream; end of file and breakage are noted."""
        try:
            data = await self._inner.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self._lost()
            raise
        if not data:
            self._lost()
        elif not self.first_bytes:
            self.first_bytes = bytes(data[:64])
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the inner stream; breakage is noted."""
        try:
            await self._inner.send_all(data)
        except trio.BrokenResourceError:
            self._lost()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        """As the inner stream."""
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """As the inner stream."""
        self.ended.set()
        await self._inner.aclose()

    def _lost(self) -> None:
        if not self.ended.is_set():
            self.peer_is_gone = True
        self.ended.set()


def split_stream_url(url: str, *, require_wss: bool) -> tuple[SplitResult, bool]:
    """The parts of a `<Stream>` URL without its query, which Twilio drops, and whether it had one.

    Raises: ConnectFailure 31923 (malformed), 31922 (scheme).
    """
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port != 0
    except ValueError as error:
        raise ConnectFailure(31923, f"Malformed URL: {error}") from error
    if not parts.scheme or not parts.hostname or not port_is_fine:
        raise ConnectFailure(31923, "Malformed URL")
    if parts.scheme != "wss" and (require_wss or parts.scheme != "ws"):
        raise ConnectFailure(31922, f"URL schema not supported: {parts.scheme}")
    return parts._replace(query="", fragment=""), bool(parts.query)


async def open_transport(url: SplitResult, options: StreamOptions) -> WatchedStream:
    """Connect, with TLS for `wss`. Raises: ConnectFailure 31901, 31902, 31904, 31910."""
    assert url.hostname is not None
    secure = url.scheme == "wss"
    try:
        stream = await options.open_stream(url.hostname, url.port or (443 if secure else 80))
        if secure:
            context = options.ssl_context or ssl.create_default_context()
            tls = trio.SSLStream(
                stream, context, server_hostname=url.hostname, https_compatible=True
            )
            await tls.do_handshake()
            return WatchedStream(tls)
        return WatchedStream(stream)
    except ConnectionRefusedError as error:
        raise ConnectFailure(31902, "Connection refused") from error
    except (ssl.SSLError, trio.BrokenResourceError) as error:
        raise ConnectFailure(31910, f"SSL protocol error: {error}") from error
    except socket.gaierror as error:
        raise ConnectFailure(31904, "Host unreachable: unknown name") from error
    except OSError as error:
        refused = "refused" in str(error) or isinstance(error.__cause__, ConnectionRefusedError)
        raise ConnectFailure(31902 if refused else 31904, str(error)) from error


async def upgrade(
    nursery: trio.Nursery,
    stream: WatchedStream,
    url: SplitResult,
    auth_token: str,
    options: StreamOptions,
) -> WebSocketConnection:
    """The signed WebSocket handshake; the reader runs in `nursery`.

    Raises: ConnectFailure 31920 for an answer that is no upgrade, 31903 when the server hangs up
    without one. A well-formed refusal reaches the nursery as `ConnectionRejected`, see `rejection`.
    """
    signed = stream_url_as_signed(urlunsplit(url), trailing_slash=options.trailing_slash)
    headers = [
        (b"User-Agent", b"Twilio.TmeWs/1.0"),
        (HEADER.lower().encode(), signature(auth_token, signed).encode()),
        (b"Accept-Encoding", b"gzip"),
    ]
    opened: WebSocketConnection | None = None
    async with trio.open_nursery() as race:

        async def give_up_when_ended() -> None:
            await stream.ended.wait()
            race.cancel_scope.cancel()

        race.start_soon(give_up_when_ended)
        opened = await wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # any Trio stream will do
            url.netloc.rpartition("@")[2],
            url.path or "/",
            extra_headers=headers,
            max_message_size=MESSAGE_MAX_BYTES,
        )
        race.cancel_scope.cancel()
    if opened is None:
        if stream.first_bytes:
            line = stream.first_bytes.split(b"\r\n")[0].decode("latin-1")
            raise ConnectFailure(31920, f"Handshake error: {line!r}")
        raise ConnectFailure(31903, "Connection broken pipe: closed during the handshake")
    return opened


def rejection(error: ConnectionRejected) -> ConnectFailure:
    """What Twilio says of any answer but 101."""
    return ConnectFailure(31920, f"Handshake error: HTTP status {error.status_code}")
