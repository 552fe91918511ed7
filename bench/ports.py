"""Ports for servers that are started by somebody else, who is told the number.

A port that is free when it is looked for may be taken before its server has bound it: by another process that looks
for one at the same time, or by the kernel for an outgoing connection. The first is kept out by a lock on the port's
number, which this process holds until it ends; the second by taking no port that the kernel gives away itself.
"""

from __future__ import annotations

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path

PORTS = range(20_000, 32_000)
TRIES = 400
LOCAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

_chance = random.SystemRandom()
_reserved: set[int] = set()
"""A process does not stand in the way of its own locks: what it holds is remembered here."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and that no other caller of this function gets while this process
    lives. Raises OSError when none is found."""
    given_away = _given_away()
    for _ in range(TRIES):
        port = _chance.choice(PORTS)
        if port in given_away or port in _reserved or not _reserve(port):
            continue
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue  # of another program: it is left reserved, nobody here has to try it again
    raise OSError(f"no free port between {PORTS.start} and {PORTS.stop}")


def _given_away() -> range:
    """The ports that the kernel gives to outgoing connections; none when it does not say."""
    try:
        first, last = LOCAL_RANGE.read_text().split()
    except (OSError, ValueError):
        return range(0)
    return range(int(first), int(last) + 1)


def _reserve(port: int) -> bool:
    """Lock the byte of this number in the file that all processes of this user share."""
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _reserved.add(port)
    return True


@functools.cache
def _locks() -> int:
    """The open file of the locks. One descriptor for all of them: closing any other would drop every lock."""
    path = Path(tempfile.gettempdir(), f"tandem-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
