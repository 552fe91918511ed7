"""How a worker outlives the control process: a named socket on which a new one finds it, and a spool. A shell.

In the runtime directory a worker has `<pid>.sock` while it lives, on which it takes a connection only while it
has no control; and, when none came in time, it leaves `<pid>-<token>.spool`: what it had to tell, one packet a line.
Both belong to our own user and are of no use to another one: the directory has mode 0700, and both sides ask the
kernel who the other is.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import trio

from gateway import link
from gateway.errors import LinkError
from gateway.link import CallEvent, CallReport, Ending, Heartbeat, Resume, Up

SOCKET_SUFFIX = ".sock"
SPOOL_SUFFIX = ".spool"
SPOOL_MAX_BYTES = 32 * 1024 * 1024
"""Above it timeline lines and what was said are left out; how calls ended never is."""
HELLO_TIMEOUT_S = 5.0
"""How long somebody who has connected may take to say who it is."""
_CREDENTIALS = struct.Struct("iII")


class Lifeline:
    """The worker's end. Raises OSError when the directory cannot be used."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._name = str(os.getpid())
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with in_folder(self._folder) as here:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(here + self._name + SOCKET_SUFFIX)  # of a process long gone
                self._sock.bind(here + self._name + SOCKET_SUFFIX)
            self._sock.listen(1)
        except OSError:
            self._sock.close()
            raise
        self._sock.setblocking(False)

    async def control(self, timeout_s: float) -> tuple[socket.socket, Resume] | None:
        """The link to a control process that has come back, and its first message; None after `timeout_s`."""
        with trio.move_on_after(timeout_s):
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                try:
                    sock, _ = self._sock.accept()
                except OSError:
                    continue
                sock.setblocking(False)
                hello = await _hello(sock) if peer_of(sock)[1] == os.geteuid() else None
                if hello is not None:
                    return sock, hello
                sock.close()
        return None

    def turn_away(self) -> None:
        """Close connections that came while there was a control: there can only be one."""
        with contextlib.suppress(OSError):
            while True:
                self._sock.accept()[0].close()

    def spool(self, messages: Iterable[Up]) -> int:
        """Leave what could not be told, on the disk when this returns. The number of messages left out.

        Under a name of its own: in a container a later worker has the same pid, and the file may not have been read yet.
        """
        path = self._folder / f"{self._name}-{secrets.token_hex(4)}{SPOOL_SUFFIX}"
        partial = path.with_suffix(".partial")
        size = left_out = 0
        with os.fdopen(
            os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
        ) as file:
            for message in messages:
                if isinstance(message, Heartbeat):
                    continue
                line = _line(message)
                if size + len(line) > SPOOL_MAX_BYTES and not isinstance(
                    message, CallReport | Ending
                ):
                    left_out += 1
                    continue
                size += file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if size:
            partial.rename(path)
        else:
            partial.unlink()
        return left_out

    def close(self) -> None:
        self._sock.close()
        (self._folder / (self._name + SOCKET_SUFFIX)).unlink(missing_ok=True)


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel says (unix(7), SO_PEERCRED)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[str]:
    """A short prefix for socket names in `folder`: their length is limited to 107 bytes, that of folders is not."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/"
    finally:
        os.close(fd)


def is_of_a_call(message: Up) -> bool:
    """Whether a message may be told a second time to a control process that may have heard it."""
    return isinstance(message, CallEvent | CallReport | Ending | link.TranscriptTurn)


def _line(message: Up) -> bytes:
    try:
        return link.encode(message) + b"\n"
    except LinkError:
        return link.encode(link.shortened(message)) + b"\n"


async def _hello(sock: socket.socket) -> Resume | None:
    with trio.move_on_after(HELLO_TIMEOUT_S):
        while True:
            try:
                packet = sock.recv(link.PACKET_MAX_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock)
                continue
            except OSError:
                return None
            try:
                message = link.decode(packet)
            except LinkError:
                return None
            return message if isinstance(message, Resume) else None
    return None
