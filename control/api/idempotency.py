"""`Idempotency-Key`: a repeated `POST` gets the first one's answer.

Source: The Idempotency-Key HTTP Header Field (IETF draft), with the usual reading: another body under the
same key is 422, a first request that has no answer yet is 409.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial, wraps
from typing import ParamSpec

import orjson
import trio
from quart import Response, g, request

from control import log
from control.api.auth import principal
from control.api.dependencies import dependencies
from control.api.problem import Problem, invalid
from control.store import StoreUnavailable, idempotency

HEADER = "Idempotency-Key"
ANSWER_DEADLINE_S = 60.0
KEPT_BODY = "tandem_kept_body"
"""A handler whose answer shows a secret once sets this name of `quart.g` to what repeats are answered."""
_KEPT_HEADERS = ("Content-Type", "Location", "Retry-After")

P = ParamSpec("P")


def idempotent(
    handler: Callable[P, Awaitable[Response]],
) -> Callable[P, Awaitable[Response]]:
    """Make a creating handler honour the header; without it nothing changes."""

    @wraps(handler)
    async def once(*args: P.args, **kwargs: P.kwargs) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return await handler(*args, **kwargs)
        if not re.fullmatch(rf"[\x21-\x7e]{{1,{idempotency.KEY_MAX_CHARS}}}", key):
            raise invalid(HEADER, "1 to 255 printable ASCII characters without spaces")
        return await _once(key, partial(handler, *args, **kwargs))

    return once


async def _once(key: str, handler: Callable[[], Awaitable[Response]]) -> Response:
    store, now = dependencies().store, dependencies().clock.now()
    fingerprint = await _fingerprint()
    claim = await store.write(idempotency.claim, _whose(), key, fingerprint, now)
    if claim.outcome == idempotency.MISMATCH:
        raise Problem(
            "key-reused",
            "this Idempotency-Key was used with another request",
            errors=[(HEADER, "used before with another request")],
        )
    if claim.outcome == idempotency.IN_FLIGHT:
        raise Problem("in-flight", "an earlier request with this Idempotency-Key has no answer yet")
    if claim.outcome == idempotency.REPLAY:
        headers = (claim.headers or {}) | {"Idempotent-Replayed": "true"}
        return Response(claim.body, status=claim.status, headers=headers)
    return await _first(key, handler)


async def _first(key: str, handler: Callable[[], Awaitable[Response]]) -> Response:
    # Shielded: the framework cancels a handler whose client has gone, and a client that comes back
    # with the same key is what this is for. An exception that is no Problem leaves the claim as it
    # is, because then nobody knows what was done.
    with trio.move_on_after(ANSWER_DEADLINE_S, shield=True):
        try:
            response = await handler()
        except Problem as problem:
            if not problem.had_effect:
                await _settle(partial(idempotency.release, key=key))
                raise
            response = problem.response()
        await _settle(await _answer(key, response))
        return response
    raise Problem("outcome-unknown", f"no answer within {ANSWER_DEADLINE_S:g} s")


async def _answer(key: str, response: Response) -> Callable[..., None]:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    body = g.get(KEPT_BODY) or await response.get_data(as_text=True)
    return partial(
        idempotency.finish, key=key, status=response.status_code, headers=headers, body=body
    )


async def _settle(fn: Callable[..., None]) -> None:
    """Note what became of the claim. A store that is away now must not spoil an answer that is true."""
    try:
        await dependencies().store.write(fn, tenant_id=_whose())
    except StoreUnavailable as error:
        log.event("idempotency_unsettled", level="warning", error=error)


def _whose() -> str:
    """Whose keys these are: the admin's are none of the default tenant's, who must not see the answers."""
    return principal().tenant_id or "admin"


async def _fingerprint() -> str:
    """Of method, path and body; two spellings of one JSON document count as one."""
    raw = await request.get_data(cache=True)
    assert isinstance(raw, bytes)
    with suppress(orjson.JSONDecodeError):  # the handler will say so
        raw = orjson.dumps(orjson.loads(raw), option=orjson.OPT_SORT_KEYS)
    text = b"\0".join((request.method.encode(), request.path.encode(), raw))
    return hashlib.sha256(text).hexdigest()
