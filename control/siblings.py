"""Instances of this daemon on one machine: how one takes the public port from another, and passes on what is its own.

During a deploy two of them accept from one listening socket, so a media stream or a webhook may come to the one that
knows nothing of its call. Each has a door, a Unix socket in its part of the runtime directory. There the other one

    asks     who it is, whether it serves, and for the listening sockets of the public port
    offers   a connection, by its descriptor, that is about a ticket or a call that it may hold

One packet there, one back, both JSON. The folders have mode 0700, and both sides ask the kernel who the other is.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import trio

from control import log
from gateway.lifeline import in_folder, peer_of

DOOR = "door"
ASK_TIMEOUT_S = 2.0
BACKLOG = 64
PACKET_MAX_BYTES = 128 * 1024
"""A request head of 32 KiB in base64, and then some; below what a Unix socket takes at once."""
DESCRIPTORS_MAX = 16
LISTEN_RETRY_S = 0.3
"""For an instance that has bound the port in this very moment, and whose door is about to open."""


class Host(Protocol):
    """What the door opens to: see `control.daemon`."""

    @property
    def is_draining(self) -> bool: ...
    def takes(self, *, ticket: str, call_id: str, path: str) -> bool:
        """Whether such a connection is for us."""

    def serve(self, sock: socket.socket, head: bytes) -> None:
        """It is ours now; `head` are the bytes that were read from it already."""


@dataclass(frozen=True, slots=True)
class _Answer:
    body: dict[str, Any]
    sockets: list[socket.socket] = field(default_factory=list)


class Siblings:
    """Our own door, and the way to those of others. `folder` is our part of the runtime directory, and exists.

    `shared`, of `listeners` and `run`, says what instances have in common: the port, and the store in which each finds the
    other's calls. An instance with another word for it is a stranger.
    """

    def __init__(self, folder: Path, node: str) -> None:
        self._folder = folder
        self._node = node
        self._shared = ""
        self._listeners: Sequence[trio.SocketListener] = ()
        self.host: Host | None = None
        """Set when the daemon serves; until then nobody is handed anything."""

    # ---- asking others -------------------------------------------------------------------------

    def doors(self) -> list[Path]:
        """Those of others; the process behind one may be gone."""
        found = []
        with contextlib.suppress(OSError):
            for part in os.scandir(self._folder.parent):
                door = Path(part.path) / DOOR
                if part.name != self._folder.name and door.is_socket():
                    found.append(door)
        return sorted(found)

    async def listeners(self, shared: str) -> list[trio.SocketListener]:
        """The listening sockets of an instance that has the same port and store; none when there is no such instance."""
        for door in self.doors():
            answer = await _ask(door, {"ask": "listeners", "shared": shared})
            if answer is not None and answer.sockets:
                log.event("port_shared", sibling=answer.body.get("node"))
                made = [trio.socket.from_stdlib_socket(sock) for sock in answer.sockets]
                return [trio.SocketListener(sock) for sock in made]
        return []

    async def successor(self) -> str | None:
        """The name of an instance that serves the same public port and will go on to; None when there is none."""
        for door in self.doors():
            answer = await _ask(door, {"ask": "who", "shared": self._shared})
            if answer is not None and answer.body.get("goes_on") is True:
                return str(answer.body["node"])
        return None

    async def offer(
        self,
        sock: trio.socket.SocketType,
        *,
        ticket: str = "",
        call_id: str = "",
        path: str = "",
        head: bytes = b"",
    ) -> bool:
        """Whether another instance has taken the connection. Our descriptor is still the caller's to close."""
        request = {
            "ask": "take",
            "ticket": ticket,
            "call_id": call_id,
            "path": path,
            "head": base64.b64encode(head).decode(),
        }
        for door in self.doors():
            with trio.CancelScope(
                shield=True
            ):  # whoever does not wait for the answer would serve it a second time
                answer = await _ask(door, request, (sock.fileno(),))
            if answer is not None and answer.body.get("taken") is not False:
                log.event("connection_passed_on", call_id=call_id or None, is_stream=bool(ticket))
                return True
        return False

    # ---- our own door --------------------------------------------------------------------------

    async def run(
        self,
        shared: str,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer at our door until cancelled; `started` when others find it. Raises nothing: without a door we are alone."""
        self._shared, self._listeners = shared, listeners
        door = self._folder / DOOR
        try:
            sock = _bound(door)
        except OSError as error:
            log.event("door_closed", level="warning", error=str(error))
            task_status.started()
            return
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    await trio.lowlevel.wait_readable(sock)
                    try:
                        nursery.start_soon(self._attend, sock.accept()[0])
                    except OSError:  # no descriptor is left, perhaps: it stays readable
                        await trio.sleep(LISTEN_RETRY_S)
        finally:
            sock.close()
            door.unlink(missing_ok=True)

    async def _attend(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, ValueError), trio.move_on_after(ASK_TIMEOUT_S):
            sock.setblocking(False)
            if peer_of(sock)[1] != os.geteuid():
                return
            await trio.lowlevel.wait_readable(sock)
            packet, fds, _, _ = socket.recv_fds(sock, PACKET_MAX_BYTES, DESCRIPTORS_MAX)
            given = [socket.socket(fileno=fd) for fd in fds]
            try:
                self._reply(sock, _read(packet), given)
            finally:
                for one in given:
                    one.close()

    def _reply(
        self, sock: socket.socket, request: dict[str, Any], given: list[socket.socket]
    ) -> None:
        """`given` is emptied when what is in it is ours to keep. Raises OSError."""
        shares = request.get("shared") == self._shared and bool(self._listeners)
        match request.get("ask"):
            case "who":
                goes_on = shares and self.host is not None and not self.host.is_draining
                _send(sock, {"node": self._node, "goes_on": goes_on})
            case "listeners":
                fds = [one.socket.fileno() for one in self._listeners] if shares else []
                _send(sock, {"node": self._node}, [fd for fd in fds if fd >= 0])
            case "take" if len(given) == 1:
                host = self.host
                wanted = {key: str(request.get(key, "")) for key in ("ticket", "call_id", "path")}
                taken = host is not None and host.takes(**wanted)
                _send(sock, {"taken": taken})
                if taken and host is not None:
                    head = base64.b64decode(str(request.get("head", "")))
                    host.serve(given.pop(), head)


async def _ask(door: Path, request: dict[str, Any], fds: Sequence[int] = ()) -> _Answer | None:
    """What an instance answers; None when nobody is there.

    One that was given a descriptor and does not answer in time may serve it any moment: `{}` is no refusal.
    """
    asked = False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.setblocking(False)
            with in_folder(door.parent) as here:
                sock.connect(here + door.name)
            if peer_of(sock)[1] != os.geteuid():
                return None
            _send(sock, request, fds)
            asked = True
            with trio.fail_after(ASK_TIMEOUT_S):
                await trio.lowlevel.wait_readable(sock)
            packet, given, _, _ = socket.recv_fds(sock, PACKET_MAX_BYTES, DESCRIPTORS_MAX)
    except trio.TooSlowError:
        return _Answer({}) if asked else None
    except OSError:
        return None
    answer = _Answer(_read(packet), [socket.socket(fileno=fd) for fd in given])
    return answer if packet else None


def _bound(door: Path) -> socket.socket:
    """Listening, in place of one that a killed process has left. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.setblocking(False)
        with in_folder(door.parent) as here:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(here + door.name)
            sock.bind(here + door.name)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _send(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Raises OSError."""
    socket.send_fds(sock, [json.dumps(message).encode()], list(fds))


def _read(packet: bytes) -> dict[str, Any]:
    """What cannot be read says nothing."""
    try:
        message = json.loads(packet)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
