"""A WebSocket's socket in the loop: sends at once, keeps what the other side does not take yet."""

from __future__ import annotations

import socket
import ssl

from bench.load.loop import READ, READ_WRITE, Loop, now

RECV_BYTES = 16384
UNSENT_MAX_BYTES = 512 * 1024
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Peer:
    """Base of both roles; `_take` and `_lost` are theirs."""

    def __init__(self, loop: Loop, sock: socket.socket, rest: bytes) -> None:
        self._loop = loop
        self._sock = sock
        self._sock_send = sock.send
        self._sock_recv = sock.recv
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._unsent = b""
        self._rest = b""
        self.is_open = True
        loop.hand(sock, self._ready)
        if rest or self._is_tls:
            # What came with the handshake is no epoll event any more.
            loop.at(0.0, self._begin, rest)

    def _begin(self, rest: bytes) -> None:
        if rest:
            self._take(rest, now())
        if self._is_tls and self.is_open:
            self._ready(READ)

    def _ready(self, mask: int) -> None:
        if mask & ~READ and self._unsent:
            self._flush()
        while self.is_open:
            try:
                data = self._sock_recv(RECV_BYTES)
            except _NOT_NOW:
                return
            except OSError as error:
                self.lose(str(error))
                return
            if not data:
                self.lose("closed by the peer")
                return
            self._take(data, now())
            if not self._is_tls:
                return

    def send(self, data: bytes) -> None:
        """Now if possible, else in order as soon as it is."""
        if not self.is_open:
            return
        if self._unsent:
            self.keep(data)
            return
        try:
            sent = self._sock_send(data)
        except _NOT_NOW:
            sent = 0
        except OSError as error:
            self.lose(str(error))
            return
        if sent != len(data):
            self.keep(data[sent:])

    def keep(self, data: bytes) -> None:
        """Queue what could not be sent."""
        if not self._unsent:
            self._loop.change(self._sock, READ_WRITE)
        self._unsent += data
        if len(self._unsent) > UNSENT_MAX_BYTES:
            self.lose("the other side does not read")

    def _flush(self) -> None:
        try:
            sent = self._sock_send(self._unsent)
        except _NOT_NOW:
            return
        except OSError as error:
            self.lose(str(error))
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._loop.change(self._sock, READ)

    def lose(self, reason: str) -> None:
        """The connection is over."""
        if self.is_open:
            self.is_open = False
            self._loop.close(self._sock)
            self._lost(reason)

    def _take(self, data: bytes, at_s: float) -> None:
        raise NotImplementedError

    def _lost(self, reason: str) -> None:
        raise NotImplementedError
