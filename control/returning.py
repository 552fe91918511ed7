"""Workers that outlived a former control process: found in the runtime directory, met, taken over.

Each keeps its calls talking for `media.control_return_timeout_s` and waits on a socket of its own
(`gateway.lifeline`). One that waited in vain has left a file with what it had to tell.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trio

from control.config import Settings
from gateway import link
from gateway.errors import LinkError
from gateway.lifeline import SOCKET_SUFFIX, SPOOL_SUFFIX, in_folder, peer_of
from gateway.link import CallReport, HeldCall, Resume, Returned, Up

MEET_TIMEOUT_S = 3.0
"""A worker that waits answers at once. One that does not has a control process, or hangs."""
Log = Callable[..., None]


class OutlivingProcess:
    """A process that is not our child. What `control.workers` uses of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        """Raises OSError when it is gone."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)  # the number may be given to another process, this may not

    def kill(self) -> None:
        try:
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)
        except ProcessLookupError:
            return

    def wait(self) -> int:
        """Until it has ended; its exit code is its parent's to know."""
        watch = select.poll()
        watch.register(self._fd, select.POLLIN)
        watch.poll()
        return 0

    def __del__(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Outliving:
    """A worker that is ours again; what it has to tell comes out of `sock` next."""

    process: OutlivingProcess
    sock: socket.socket
    worker_id: str
    version: str
    calls: tuple[HeldCall, ...]


@dataclass(frozen=True, slots=True)
class SpoolRead:
    """All messages of a spool have been told; its file may go when they are written down."""

    path: Path


def runtime_dir(settings: Settings) -> str:
    """The folder of this daemon's workers, made if need be: `media.runtime_dir`, systemd's, or beside the store.

    Raises OSError. Daemons that share a folder have each their own part of it, by `control.listen`.
    """
    given = settings.media.runtime_dir or os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    path = settings.store.url.partition(":///")[2].partition("?")[0]
    beside = Path(path).parent if settings.store.url.startswith("sqlite") and path else Path()
    base = Path(given) if given else beside / "run"
    folder = base / str(settings.control.listen).replace(":", "-")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "belongs to another user", str(folder))
    folder.chmod(0o700)
    return str(folder.resolve())


async def find(folder: Path, version: str, log: Log) -> list[Outliving]:
    """All workers that wait there. Those that do not answer are left alone."""
    found: list[Outliving] = []

    async def meet(path: Path) -> None:
        try:
            found.append(await _meet(path, version))
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                os.unlink(path)  # its process is gone
        except (OSError, LinkError, trio.TooSlowError) as error:
            log("worker_not_met", worker=path.stem, error=str(error) or type(error).__name__)

    async with trio.open_nursery() as nursery:
        for path in _with_suffix(folder, SOCKET_SUFFIX):
            nursery.start_soon(meet, path)
    return found


def spools(folder: Path) -> list[Path]:
    """Files of workers that have waited in vain, the oldest first."""
    return sorted(_with_suffix(folder, SPOOL_SUFFIX), key=lambda path: path.stat().st_mtime)


def _with_suffix(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob("*" + suffix))


def read_spool(path: Path, log: Log) -> list[Up]:
    """Its messages; lines that cannot be read are left out."""
    messages = []
    for line in path.read_bytes().splitlines():
        try:
            messages.append(cast("Up", link.decode(line)))
        except LinkError as error:
            log("spool_line_unreadable", error=str(error))
    return messages


async def read_spools(folder: Path, log: Log) -> list[tuple[Path, list[Up]]]:
    """What workers left that waited in vain."""
    read = []
    for path in spools(folder):
        try:
            messages = await trio.to_thread.run_sync(read_spool, path, log)
        except OSError as error:
            log("spool_unreadable", error=str(error))
            continue
        log("spool_read", messages=len(messages))
        read.append((path, messages))
    return read


def reported_in(read: list[tuple[Path, list[Up]]]) -> set[str]:
    """Calls whose reports are among it."""
    return {
        message.call_id
        for _, messages in read
        for message in messages
        if isinstance(message, CallReport)
    }


async def _meet(path: Path, version: str) -> Outliving:
    """Raises OSError, LinkError, TooSlowError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with in_folder(path.parent) as here:
            sock.connect(here + path.name)
        pid, uid = peer_of(sock)
        if uid != os.geteuid():
            raise PermissionError(errno.EPERM, "belongs to another user")
        process = OutlivingProcess(pid)
        with trio.fail_after(MEET_TIMEOUT_S):
            sock.send(link.encode(Resume(version)))
            calls = []
            while isinstance(message := await receive(sock), HeldCall):
                calls.append(message)
        if not isinstance(message, Returned):
            raise LinkError("the worker has a control process")
        return Outliving(process, sock, message.worker_id, message.version, tuple(calls))
    except BaseException:
        sock.close()
        raise


_packet = memoryview(bytearray(link.PACKET_MAX_BYTES))
"""Whatever comes is decoded before anybody else has a turn; a new buffer of this size for each packet cost more
than its decoding."""


async def receive(sock: socket.socket) -> Up | None:
    """The next message of a worker; None at the end of the link. Raises LinkError."""
    while True:
        try:
            length = sock.recv_into(_packet)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
            continue
        except OSError:
            return None
        if not length:
            return None
        return cast("Up", link.decode(_packet[:length]))  # a worker only ever sends Up messages
