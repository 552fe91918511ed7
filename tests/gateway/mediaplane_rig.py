"""A media plane that runs, with sockets in pairs and a stand-in for the bridge."""

import contextlib
import socket

import trio

from gateway.mediaplane import MediaPlane
from gateway.outlet import Outlet
from gateway.playout import Playout
from gateway.settings import MediaSettings

BOUND = 100_000


class FakeBridge:
    """Notes what it is told, says what it is given, raises where it is asked to."""

    def __init__(self, *, raises: str = "") -> None:
        self.raises = raises
        self.told: list[tuple] = []
        self.caller_out = b""
        self.agent_out = b""
        self.events: list = []
        self.outlet = Outlet(Playout(MediaSettings()), [], 0)
        self.ticks: list[float] = []
        self.barge_ins = 0
        self.caller_is_done = False
        self.express_sid = None
        self.said = trio.Event()

    @property
    def to_caller(self) -> bytes:
        return self.caller_out

    @property
    def to_agent(self) -> bytes:
        return self.agent_out

    @property
    def ended(self) -> object | None:
        return self.caller_is_done or None

    def _note(self, name: str, *details: object) -> None:
        self.told.append((name, *details))
        self.said.set()
        if name == self.raises:
            raise RuntimeError(f"bug in {name}")

    def caller_opened(self, now_s):
        self._note("caller_opened")

    def caller_bytes(self, data, now_s):
        self._note("caller_bytes", data)

    def caller_closed(self, now_s, reason):
        self._note("caller_closed", reason)

    def caller_failed(self, reason, now_s):
        self._note("caller_failed", reason)

    def agent_opened(self, now_s):
        self._note("agent_opened")

    def agent_bytes(self, data, now_s):
        self._note("agent_bytes", data)

    def agent_closed(self, now_s, reason):
        self._note("agent_closed", reason)

    def agent_failed(self, reason, now_s):
        self._note("agent_failed", reason)

    def tick(self, now_s):
        self.ticks.append(now_s)
        self._note("tick")

    def take_caller(self):
        data, self.caller_out = self.caller_out, b""
        return data

    def take_agent(self):
        data, self.agent_out = self.agent_out, b""
        return data

    def names(self) -> list[str]:
        return [name for name, *_ in self.told]

    def heard(self, leg: str) -> bytes:
        return b"".join(told[1] for told in self.told if told[0] == f"{leg}_bytes")

    async def until(self, condition) -> None:
        while not condition():
            self.said = trio.Event()
            await self.said.wait()


class Observer:
    def __init__(self, bridge: FakeBridge) -> None:
        self.bridge = bridge
        self.events: list = []
        self.gone = 0
        self.crashes: list[Exception] = []

    def on_events(self):
        self.events += self.bridge.events
        self.bridge.events = []

    def on_leg_gone(self):
        self.gone += 1

    def on_crash(self, error):
        self.crashes.append(error)


class Stage:
    """A running plane, and calls with their peers."""

    def __init__(self, plane: MediaPlane, stack: contextlib.ExitStack) -> None:
        self.plane = plane
        self._stack = stack

    def call(self, **options):
        bridge = FakeBridge(**options)
        observer = Observer(bridge)
        return bridge, observer, self.plane.add(bridge, observer)

    def pair(self, buffer_bytes: int = 0) -> tuple[socket.socket, socket.socket]:
        """Ours (goes to the plane) and theirs."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            self._stack.callback(sock.close)
            if buffer_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        theirs.setblocking(False)
        return ours, theirs

    def tcp_pair(self) -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        for sock in (ours, theirs):
            self._stack.callback(sock.close)
        theirs.setblocking(False)
        return ours, theirs


async def settle() -> None:
    """Let the plane do all that it can do at once. (Its grid never lets all tasks block for long.)"""
    for _ in range(50):
        await trio.lowlevel.checkpoint()


def pattern(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]
