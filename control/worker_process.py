"""One media worker as control holds it: its process, its end of the link, what waits to be sent.

Made by `spawn`, or out of a process that outlived a former control process (`control.returning`). The pool that keeps
workers, and places calls on them, is `control.workers`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import trio

import gateway
from control.headroom import Headroom
from gateway import link
from gateway.errors import LinkError
from gateway.link import Configure, Down
from gateway.settings import MediaSettings

SEND_QUEUE_MAX = 10_000

Log = Callable[..., None]


class Process(Protocol):
    """A child, or a process that outlived its parent."""

    @property
    def pid(self) -> int: ...
    def kill(self) -> None: ...
    def wait(self) -> int: ...


@dataclass(slots=True)
class Worker:
    """One process and its link, from start to end."""

    worker_id: str
    process: Process
    sock: socket.socket
    send: trio.MemorySendChannel[tuple[bytes, int | None]]
    outbox: trio.MemoryReceiveChannel[tuple[bytes, int | None]]
    """Packets, each with the descriptor that goes beside it. Whoever takes one out closes the descriptor."""
    headroom: Headroom
    calls: set[str] = field(default_factory=set)
    is_ready: bool = False
    heard_s: float = 0.0
    """When it last said anything."""
    is_draining: bool = False
    counters: dict[str, int | float] = field(default_factory=dict)
    timings: dict[str, dict[str, Any]] = field(default_factory=dict)
    watch: trio.CancelScope = field(default_factory=trio.CancelScope)

    def queue(self, message: Down, log: Log) -> bool:
        """Queue a message that carries no descriptor. False when it cannot be sent."""
        try:
            self.send.send_nowait((link.encode(message), None))
        except LinkError as error:
            log("worker_message_refused", worker=self.worker_id, error=str(error))
            return False
        except trio.WouldBlock:
            # Ten thousand commands unread: this worker hangs, and the watch will replace it.
            log("worker_link_full", worker=self.worker_id)
            return False
        except trio.BrokenResourceError:
            return False  # it has died; its calls are being told as lost
        return True

    async def write(self, log: Log) -> None:
        """Send what is queued, until the link ends or this is cancelled."""
        async for packet, fd in self.outbox:
            try:
                await _send(self.sock, packet, fd)
            except (BrokenPipeError, ConnectionResetError):
                return  # the reader sees the end of the link as well
            except OSError as error:
                log("worker_link_error", worker=self.worker_id, error=str(error))
            finally:
                if fd is not None:
                    os.close(fd)

    def empty_outbox(self) -> None:
        """Close the descriptors that were not sent, and let later senders know that nobody listens."""
        while True:
            try:
                _, fd = self.outbox.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            if fd is not None:
                os.close(fd)
        self.outbox.close()


def spawn(worker_id: str, settings: MediaSettings, configure: Configure) -> Worker:
    """Start a worker's process; `configure` is the first thing that it is told. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    try:
        process = subprocess.Popen(
            worker_command(theirs.fileno()),
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env=worker_environment(),
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    worker = linked(worker_id, process, ours, settings)
    worker.send.send_nowait((link.encode(configure), None))
    return worker


def linked(
    worker_id: str, process: Process, sock: socket.socket, settings: MediaSettings
) -> Worker:
    """A process with which we share a link."""
    send, outbox = trio.open_memory_channel[tuple[bytes, "int | None"]](SEND_QUEUE_MAX)
    headroom = Headroom(settings, trio.current_time())
    return Worker(worker_id, process, sock, send, outbox, headroom)


async def _send(sock: socket.socket, packet: bytes, fd: int | None) -> None:
    """One packet, whole or not at all, with a copy of `fd` beside it."""
    while True:
        try:
            if fd is None:
                sock.send(packet)
            else:
                socket.send_fds(sock, [packet], [fd])
            return
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)


FROZEN_WORKER = "media-worker"
"""First argument with which the single-file executable is a media worker."""


def worker_command(link_fd: int) -> list[str]:
    """The command line of a worker process."""
    if getattr(sys, "frozen", False):  # the single-file executable
        return [sys.executable, FROZEN_WORKER, "--link-fd", str(link_fd)]
    return [sys.executable, "-m", "gateway.worker", "--link-fd", str(link_fd)]


def worker_environment() -> dict[str, str]:
    """Our environment, with the place this package was loaded from in front of the module path.

    Numerical libraries are told to stay on one thread: a worker is one loop on one core.
    """
    home = str(Path(gateway.__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH", "")
    return {
        **os.environ,
        "PYTHONPATH": f"{home}{os.pathsep}{path}" if path else home,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
