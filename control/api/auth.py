"""`Authorization: Bearer KEY`, checked before anything else is looked at."""

from __future__ import annotations

import hashlib
import hmac

from quart import request

from control.api.dependencies import dependencies
from control.api.problem import Problem

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})
"""Answered without a key: probes, scrapers, readers. None of them shows a call or a number."""


async def require_key() -> None:
    """Raises Problem (401) unless the request carries the admin key."""
    if request.path in OPEN_PATHS:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise _refused("send the admin key as `Authorization: Bearer KEY`", "")
    if not _same(given.strip(), dependencies().settings.control.admin_key.reveal()):
        raise _refused("this key is not known", ', error="invalid_token"')


def _same(given: str, key: str) -> bool:
    # Digests first: compare_digest takes its constant time only for texts of one length.
    one, other = (hashlib.sha256(text.encode()).digest() for text in (given, key))
    return hmac.compare_digest(one, other)


def _refused(detail: str, error: str) -> Problem:
    challenge = f'Bearer realm="tandem"{error}'
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": challenge})
