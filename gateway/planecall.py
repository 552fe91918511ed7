"""A call and its sockets as the media plane drives them. A shell."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from gateway.bridge import Bridge
from gateway.grid import Histogram
from gateway.intake import RECV_BYTES


class CallObserver(Protocol):
    """The call's own task, as the media plane sees it. Both are called synchronously."""

    def on_events(self) -> None:
        """The bridge has events."""

    def on_leg_gone(self) -> None:
        """One of the call's sockets was closed."""

    def on_crash(self, error: Exception) -> None:
        """Driving the bridge raised: the call is over, its sockets are closed."""


class Nobody:
    """Observes a call whose task has ended."""

    def on_events(self) -> None:
        """They have no reader."""

    def on_leg_gone(self) -> None:
        """Nobody waits for it."""

    def on_crash(self, error: Exception) -> None:
        """The call is over."""


TLS_RECORD_BYTES = 16 * 1024
"""OpenSSL gives out one record at a time: room for more would only be made and given back."""


class Leg:
    """One socket of a call. Invariant: `fd` is in the epoll set until `close`."""

    __slots__ = ("call", "fd", "feed", "is_agent", "is_tls", "pending", "recv_bytes", "sock")

    def __init__(self, call: PlaneCall, sock: socket.socket, *, is_agent: bool) -> None:
        self.call = call
        self.sock = sock
        self.fd = sock.fileno()
        self.is_agent = is_agent
        self.is_tls = isinstance(sock, ssl.SSLSocket)
        self.recv_bytes = TLS_RECORD_BYTES if self.is_tls else RECV_BYTES
        self.feed = call.bridge.agent_bytes if is_agent else call.bridge.caller_bytes
        self.pending = bytearray()

    @property
    def lane_write(self) -> Callable[[bytes], int] | None:
        """For the compiled lane: what `SSLSocket.send` comes to in the end; None for a plain socket.

        Fifty times a second and call, the Python of `send` costs a tenth of a frame. What it calls is an
        implementation detail of every CPython so far; where that is missing, it is `send` itself. As with the
        bare descriptor of a plain leg, the lane has to be left before the socket is closed.
        """
        if not self.is_tls:
            return None
        write: Callable[[bytes], int]
        write = getattr(getattr(self.sock, "_sslobj", None), "write", self.sock.send)
        return write


class PlaneCall:
    """A bridge and its sockets, as the plane drives them."""

    __slots__ = (
        "agent",
        "agent_peak_bytes",
        "barge_ins_seen",
        "bridge",
        "caller",
        "caller_peak_bytes",
        "clear_latency",
        "is_express",
        "is_gone",
        "observer",
        "phase",
        "uplink_count",
        "uplink_latency",
    )

    def __init__(self, bridge: Bridge, observer: CallObserver, phase: int) -> None:
        self.bridge = bridge
        self.observer = observer
        self.phase = phase
        self.caller: Leg | None = None
        self.agent: Leg | None = None
        self.is_gone = False
        self.is_express = False
        """Whether the usual caller audio goes past the bridge."""
        self.caller_peak_bytes = 0
        self.agent_peak_bytes = 0
        self.barge_ins_seen = 0
        self.uplink_count = 0
        self.uplink_latency = Histogram()
        self.clear_latency = Histogram()
