"""Bytes below the WebSocket: looking at a request head first, and breaking TCP on purpose."""

from __future__ import annotations

import contextlib
import socket
import struct

import trio

MAX_HEAD_BYTES = 16 * 1024
HEAD_DEADLINE_S = 30.0


class ReplayedStream(trio.abc.Stream):
    """A stream some of whose bytes were read already: they come first again."""

    def __init__(self, stream: trio.abc.Stream, first: bytes) -> None:
        self.stream = stream
        self._first = first

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._first:
            return bytes(await self.stream.receive_some(max_bytes))
        await trio.lowlevel.checkpoint()
        cut = len(self._first) if max_bytes is None else max_bytes
        head, self._first = self._first[:cut], self._first[cut:]
        return head

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()


async def read_head(stream: trio.abc.Stream) -> bytes | None:
    """Everything read up to at least the end of an HTTP request head; None when there is none."""
    data = b""
    with trio.move_on_after(HEAD_DEADLINE_S):
        while b"\r\n\r\n" not in data:
            if len(data) > MAX_HEAD_BYTES:
                return None
            more = await stream.receive_some(4096)
            if not more:
                return None
            data += more
        return data
    return None


def wants_upgrade(head: bytes) -> bool:
    """Whether this request head asks for a WebSocket."""
    lines = head.split(b"\r\n\r\n", 1)[0].lower().split(b"\r\n")[1:]
    return any(
        line.startswith(b"upgrade:") and b"websocket" in line.split(b":", 1)[1] for line in lines
    )


async def reset(stream: trio.abc.Stream) -> None:
    """End TCP with RST where there is a socket below; a memory stream is just closed."""
    bottom = stream
    while not isinstance(bottom, trio.SocketStream):
        below = getattr(bottom, "stream", None) or getattr(bottom, "transport_stream", None)
        if below is None:
            break
        bottom = below
    if isinstance(bottom, trio.SocketStream):
        with contextlib.suppress(OSError):
            bottom.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        bottom.socket.close()
        return
    await trio.aclose_forcefully(bottom)


async def end_of_file(stream: trio.abc.Stream) -> None:
    """End TCP with FIN (no WebSocket close frame, no TLS goodbye)."""
    bottom = stream
    while below := getattr(bottom, "stream", None) or getattr(bottom, "transport_stream", None):
        bottom = below
    if isinstance(bottom, trio.SocketStream):
        # Closing at once with unread bytes in the kernel would send RST; the peer reads our FIN.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await bottom.send_eof()
            await trio.sleep(0.2)
    await trio.aclose_forcefully(bottom)
