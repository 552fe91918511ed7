"""API keys of tenants: how they are made, digested, and what they may do. Pure.

A key is 32 random bytes. Because nobody can guess among 2^256 of them, one SHA-256 is the right digest: the
slow hashes that passwords need protect what people choose, and would cost every request tens of milliseconds.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Final

MARK = "tdm_"
"""So that a key is recognised where it does not belong: in a log, in a repository."""
PREFIX_CHARS = len(MARK) + 6
KEY_BYTES = 32

ADMIN = "admin"
"""The scope of the admin key alone. No tenant's key has it."""
TENANT: Final = "tenant"
"""Everything of one tenant, its keys among it."""
ERASE: Final = "calls:erase"
"""Calls erased for good: not among what `calls:write` may do."""
SCOPES = ("calls:read", "calls:write", ERASE, "agents:read", "agents:write", "lists", TENANT)
"""What a tenant's key may be given."""


def new_key() -> str:
    """A key, to be shown once."""
    return MARK + secrets.token_urlsafe(KEY_BYTES)


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def prefix(key: str) -> str:
    """The part of a key by which its owner tells it from others."""
    return key[:PREFIX_CHARS]


def allows(scopes: Iterable[str], needed: str) -> bool:
    """Whether a key with `scopes` may do what needs `needed`."""
    held = frozenset(scopes)
    if ADMIN in held:
        return True
    return needed != ADMIN and (needed in held or TENANT in held)
