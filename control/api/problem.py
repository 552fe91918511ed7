"""Errors as `application/problem+json` (RFC 9457): one registry of kinds, one exception, one answer.

`type` is a relative reference into our own documentation page, where every kind is explained.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from quart import Response, request
from werkzeug.exceptions import HTTPException

from control import log
from control.store import BadCursor, StoreUnavailable

CONTENT_TYPE = "application/problem+json"
STORE_RETRY_AFTER_S = 5
_TRACE_FRAMES = 6


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of error: its HTTP status and what it means, in words for the documentation."""

    status: int
    title: str
    meaning: str


KINDS: dict[str, Kind] = {
    "malformed-json": Kind(400, "Malformed JSON", "The body is not a JSON document."),
    "bad-request": Kind(400, "Bad request", "The request is not valid HTTP for this API."),
    "unauthorized": Kind(401, "Unauthorized", "The API key is missing or wrong."),
    "forbidden": Kind(
        403, "Scope missing", "The API key is known, but not for this; see its scopes."
    ),
    "policy-refused": Kind(
        403,
        "Refused by policy",
        "A rule forbids the call; nothing was dialled. `decision` says which rule and why, `call_id` "
        "names the record of the attempt.",
    ),
    "not-found": Kind(404, "Not found", "There is no such path, or no such thing."),
    "method-not-allowed": Kind(
        405, "Method not allowed", "The path is known, the method is not; see the `Allow` header."
    ),
    "request-timeout": Kind(408, "Request timeout", "The body did not come in time."),
    "conflict": Kind(409, "Conflict", "The state of the thing does not allow this."),
    "in-flight": Kind(
        409,
        "Request in flight",
        "An earlier request with this Idempotency-Key has no answer yet, or lost it. Its outcome is not "
        "known here: look at the list before using a new key.",
    ),
    "too-large": Kind(413, "Body too large", "The body is larger than 64 KiB."),
    "invalid": Kind(
        422, "Invalid request", "A field or a parameter is wrong; `errors` names each one."
    ),
    "not-supported": Kind(
        422,
        "Not supported yet",
        "A documented field or value that this version does not act upon; nothing was done.",
    ),
    "key-reused": Kind(
        422,
        "Idempotency-Key reused",
        "The key was used before with another request; nothing was done.",
    ),
    "internal": Kind(500, "Internal error", "A mistake of ours. It is in the log."),
    "no-such-numbers": Kind(
        422,
        "No such numbers",
        "Twilio sells no such numbers, or has none now; `nearby` names area codes that have some.",
    ),
    "requirements-missing": Kind(
        422,
        "Requirements missing",
        "The country asks for an address or a regulatory bundle; `missing` lists what it wants to see, each "
        "with the field that takes it, if one does.",
    ),
    "twilio-refused": Kind(
        502,
        "Refused by Twilio",
        "Twilio did not do what was asked; `twilio` holds its code and message.",
    ),
    "dial-refused": Kind(
        502,
        "Refused by Twilio",
        "Twilio did not accept the call; `twilio` holds its code and message.",
    ),
    "too-many-requests": Kind(
        429,
        "Too many requests",
        "The tenant's requests come faster than its limit; see `Retry-After`.",
    ),
    "unavailable": Kind(
        503, "Unavailable", "Not now: no room, draining, or the store does not answer."
    ),
    "outcome-unknown": Kind(
        504, "No outcome in time", "The work goes on; what came of it will be in the list."
    ),
}


class Problem(Exception):
    """Answer the request with this error.

    `had_effect` says that something was done or recorded before it, so that a repeat with the same
    Idempotency-Key must get this same answer instead of another try.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        had_effect: bool = False,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.had_effect = had_effect
        self.members = members

    def response(self) -> Response:
        """The HTTP answer."""
        kind = KINDS[self.kind]
        body: dict[str, Any] = {
            "type": f"/docs#problem-{self.kind}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "instance": request.path,
        }
        if errors := self.errors or self._about_path():
            body["errors"] = [{"field": field, "detail": detail} for field, detail in errors]
        return Response(
            orjson.dumps(body | self.members),
            status=kind.status,
            headers=self.headers,
            content_type=CONTENT_TYPE,
        )

    def _about_path(self) -> Sequence[tuple[str, str]]:
        """What is not there was named in the path: the parameter whose value the words repeat, else the last one."""
        if self.kind != "not-found" or not request.view_args:
            return ()
        given = list(request.view_args.items())
        named = [name for name, value in given if str(value) in self.detail]
        return [(name, self.detail) for name in named or [given[-1][0]]]


def invalid(field: str, detail: str, kind: str = "invalid") -> Problem:
    """One wrong field."""
    return Problem(kind, f"{field}: {detail}", errors=[(field, detail)])


def not_found(what: str, field: str | None = None) -> Problem:
    """There is no such thing; `field` names where the request spoke of it."""
    errors = [(field, what)] if field else []
    return Problem("not-found", what, errors=errors)


def store_unavailable(error: StoreUnavailable) -> Problem:
    """The database does not answer."""
    return Problem(
        "unavailable",
        f"the store does not answer: {error}",
        headers={"Retry-After": str(STORE_RETRY_AFTER_S)},
    )


_OF_STATUS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "too-large",
}


async def on_problem(error: Problem) -> Response:
    """Error handler for our own."""
    return error.response()


async def on_bad_cursor(error: BadCursor) -> Response:
    """Error handler: a cursor that no list gave out."""
    return invalid("cursor", str(error)).response()


async def on_store_unavailable(error: StoreUnavailable) -> Response:
    """Error handler: whichever handler met it, the store is away."""
    log.event("store_unavailable", level="warning", error=error, path=request.path)
    return store_unavailable(error).response()


async def on_http_exception(error: HTTPException) -> Response:
    """Error handler for what the framework raises: routing, body limits, redirects."""
    answer = error.get_response()
    status = error.code or answer.status_code
    if status < 400:
        return Response(
            b"", status=status, headers={"Location": answer.headers.get("Location", "")}
        )
    kind = _OF_STATUS.get(status, "internal" if status >= 500 else "bad-request")
    detail = KINDS[kind].meaning
    if kind == "not-found":
        detail = f"there is no path {request.path}"
    if kind == "method-not-allowed":
        detail = f"{request.method} is not a method of {request.path}"
    allow = answer.headers.get("Allow")
    errors = [("body", detail)] if kind in ("too-large", "request-timeout") else []
    headers = {"Allow": allow} if allow else None
    return Problem(kind, detail, errors=errors, headers=headers).response()


def _where(error: Exception) -> str:
    """The last lines of the trace: a log without them helps nobody."""
    return " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in reversed(traceback.extract_tb(error.__traceback__)[-_TRACE_FRAMES:])
    )


async def on_exception(error: Exception) -> Response:
    """Error handler of last resort: a mistake of ours costs one request, not the daemon."""
    log.event(
        "api_internal_error", level="error", error=error, where=_where(error), path=request.path
    )
    return Problem("internal", KINDS["internal"].meaning).response()
