"""Ports for servers that are started by somebody else, who is told the number."""

from __future__ import annotations

import random
import socket

PORTS = range(20_000, 32_000)
"""Below what the kernel gives to outgoing connections (ip_local_port_range begins at 32,768 unless somebody
changed it): one of those takes a port that was free a moment ago before the server has bound it."""
TRIES = 200

_chance = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment. Raises OSError when none is found."""
    for _ in range(TRIES):
        port = _chance.choice(PORTS)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise OSError(f"no free port between {PORTS.start} and {PORTS.stop}")
