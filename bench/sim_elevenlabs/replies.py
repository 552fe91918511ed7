"""Requests, replies and errors of the REST resources, in the documented shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.sim_elevenlabs.fields import Problem

_NAMED = {
    400: ("bad_request", "Bad request"),
    401: ("invalid_api_key", "Invalid API key"),
    403: ("forbidden", "You do not have access to this resource"),
    404: ("document_not_found", "Document was not found"),
    422: ("quota_exceeded", "This request exceeds your quota"),
    429: ("too_many_concurrent_requests", "Too many concurrent requests"),
    500: ("internal_error", "Internal server error"),
    503: ("system_busy", "The system is busy"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """`path` without query; header names in lower case; `body` the parsed JSON or None."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """`delay_s` is waited before anything is written; a `str` body goes out as it is."""

    status: int
    body: Any
    delay_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """Ends the handling of a request with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def error(status: int, message: str | None = None, kind: str | None = None) -> Reply:
    """The object form of an error, with the status string that belongs to the HTTP status."""
    name, words = _NAMED.get(status, ("error", "Error"))
    return Reply(status, {"detail": {"status": kind or name, "message": message or words}})


def invalid(where: str, name: str, words: str = "field required") -> Reply:
    """The list form of 422."""
    kind = "value_error.missing" if words == "field required" else "value_error"
    return Reply(422, {"detail": [{"loc": [where, name], "msg": words, "type": kind}]})


def problems(found: Iterable[Problem]) -> None:
    """Refuse the request when there are any: the list form of 422, up to twenty at a time."""
    listed = [{"loc": place, "msg": words, "type": kind} for place, words, kind in found][:20]
    if listed:
        raise Refusal(Reply(422, {"detail": listed}))


def known_query(request: Request, names: Iterable[str]) -> None:
    """Refuse query parameters that are not documented."""
    problems(
        (["query", name], "Extra inputs are not permitted", "extra_forbidden")
        for name in request.query
        if name not in names
    )


def only(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise Refusal(Reply(405, {"detail": "Method Not Allowed"}))


def paged(request: Request, name: str, items: list[dict[str, Any]]) -> Reply:
    """`page_size` (30, at most 100) items from `cursor` on (here simply the position)."""
    size_text = request.query.get("page_size", "30")
    if not size_text.isdigit() or not 1 <= int(size_text) <= 100:
        return invalid("query", "page_size", "must be between 1 and 100")
    cursor = request.query.get("cursor", "0")
    if not cursor.isdigit():
        return invalid("query", "cursor", "invalid cursor")
    begin, end = int(cursor), int(cursor) + int(size_text)
    more = end < len(items)
    page = {name: items[begin:end], "next_cursor": str(end) if more else None, "has_more": more}
    return Reply(200, page)
