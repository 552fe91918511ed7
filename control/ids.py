"""Identifiers: a prefix that says what it is, and 26 sortable characters (the ULID layout).

48 bits of milliseconds and 80 random bits in Crockford's base 32, so that text order is order of
creation. Ids made in one millisecond by one process count upwards, so a page never shuffles them.
Source: the ULID specification (github.com/ulid/spec).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import datetime

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ID_CHARS = 26
RANDOM_BITS = 80

CALL = "call"
AGENT = "agt"
TENANT = "tnt"
TENANT_KEY = "key"
CREDENTIAL = "cred"
DECISION = "dec"
DEFAULT_TENANT_ID = "tnt_default"
"""The tenant that is always there: its Twilio account is the one of the configuration."""


class IdSource:
    """Makes ids. Thread-safe; ids of the same millisecond rise."""

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes
        self._lock = threading.Lock()
        self._last_ms = -1
        self._last_random = 0

    def new(self, prefix: str, at: datetime) -> str:
        """`<prefix>_<26 characters>`; `at` is the (aware) moment of creation."""
        at_ms = int(at.timestamp() * 1000)
        with self._lock:
            if at_ms == self._last_ms:
                self._last_random += 1
            else:
                self._last_ms = at_ms
                # One bit short, so that counting up within a millisecond cannot overflow.
                fresh = int.from_bytes(self._random_bytes(RANDOM_BITS // 8))
                self._last_random = fresh >> 1
            value = (at_ms << RANDOM_BITS) | self._last_random
        return f"{prefix}_{_base32(value)}"


def _base32(value: int) -> str:
    shifts = range(5 * (ID_CHARS - 1), -1, -5)
    return "".join(ALPHABET[(value >> shift) & 31] for shift in shifts)


_SOURCE = IdSource()


def new_id(prefix: str, at: datetime) -> str:
    """An id from the process's own source: `new_id(ids.CALL, clock.now())`."""
    return _SOURCE.new(prefix, at)
