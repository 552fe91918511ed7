"""Tell systemd that the daemon is ready, alive, or stopping (sd_notify(3)).

Without systemd, that is without NOTIFY_SOCKET, everything here does nothing. Sending never blocks and never
fails the daemon: a supervisor that does not listen is its own problem.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

import trio


class Notifier:
    """One datagram a message on the socket that the environment names (`@` = abstract)."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._watchdog_s = _watchdog_interval_s(environ)

    @property
    def watchdog_interval_s(self) -> float | None:
        """How often systemd wants a sign of life; None when it wants none."""
        return self._watchdog_s

    def ready(self, status: str = "") -> bool:
        """The daemon serves. Returns whether systemd was told."""
        return self._send("READY=1", status)

    def stopping(self, status: str = "") -> bool:
        """The daemon drains and will exit."""
        return self._send("STOPPING=1", status)

    def status(self, status: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("", status)

    def alive(self) -> bool:
        """One sign of life for the watchdog."""
        return self._send("WATCHDOG=1")

    async def run_watchdog(self, is_alive: Callable[[], bool] = lambda: True) -> None:
        """Send signs of life, two in each interval, until cancelled; returns at once when none is wanted.

        It runs as a task of the daemon's own loop, on purpose: a loop that is stuck misses its turn. `is_alive`
        speaks for the loops of other processes: while it is false nothing is sent.
        """
        if self._watchdog_s is None:
            return
        while True:
            if is_alive():
                self.alive()
            await trio.sleep(self._watchdog_s / 2)

    def _send(self, message: str, status: str = "") -> bool:
        if not self._address:
            return False
        lines = [message] if message else []
        if status:
            lines.append("STATUS=" + status.replace("\n", " "))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.connect(self._address)
                sock.send("\n".join(lines).encode())
        except OSError:
            return False
        return True


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """WATCHDOG_USEC in seconds, unless WATCHDOG_PID says that it is meant for another process."""
    interval_us = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", "")
    if not interval_us.isdecimal() or int(interval_us) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(interval_us) / 1e6
