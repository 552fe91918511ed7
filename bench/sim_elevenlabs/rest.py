"""The REST resources: signed URLs, agents, conversations. A request in, a reply out; no sockets.

Errors come in the documented shapes: `{"detail": {"status", "message"}}`, the list form of 422, and
the bare `{"detail": "Not Found"}` of an unknown path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bench.sim_elevenlabs import views
from bench.sim_elevenlabs.book import Agent, Book

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


Handler: TypeAlias = Callable[[Book, Request, str], Reply]


def error(status: int, message: str | None = None, kind: str | None = None) -> Reply:
    """The object form of an error, with the status string that belongs to the HTTP status."""
    name, words = _NAMED.get(status, ("error", "Error"))
    return Reply(status, {"detail": {"status": kind or name, "message": message or words}})


def invalid(where: str, name: str, words: str = "field required") -> Reply:
    """The list form of 422."""
    kind = "value_error.missing" if words == "field required" else "value_error"
    return Reply(422, {"detail": [{"loc": [where, name], "msg": words, "type": kind}]})


def answer(book: Book, base_socket_url: str, request: Request) -> Reply:
    """The reply to one request. `base_socket_url` is the `ws(s)://host:port` of signed URLs."""
    if request.headers.get("xi-api-key") != book.api_key:
        return error(401)
    try:
        return _route(book, base_socket_url, request)
    except Refusal as refusal:
        return refusal.reply


def _route(book: Book, base_socket_url: str, request: Request) -> Reply:
    parts = request.path.strip("/").split("/")
    if parts[:2] != ["v1", "convai"]:
        return Reply(404, {"detail": "Not Found"})
    if parts[2:] == ["conversation", "get-signed-url"]:
        _only(request, "GET")
        return _signed_url(book, base_socket_url, request)
    if parts[2:] == ["analytics", "live-count"]:
        _only(request, "GET")
        agent_id = request.query.get("agent_id")
        return Reply(200, {"count": book.live([agent_id] if agent_id else book.agents)})
    if parts[2] == "agents":
        return _agents(book, request, parts[3:])
    if parts[2] == "conversations":
        return _conversations(book, request, parts[3:])
    return Reply(404, {"detail": "Not Found"})


def _only(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise Refusal(Reply(405, {"detail": "Method Not Allowed"}))


def _agent(book: Book, agent_id: str) -> Agent:
    agent = book.agents.get(agent_id)
    if agent is None:
        raise Refusal(error(404, f"Agent with id {agent_id} not found", "agent_not_found"))
    return agent


def _signed_url(book: Book, base_socket_url: str, request: Request) -> Reply:
    agent_id = request.query.get("agent_id")
    if not agent_id:
        return invalid("query", "agent_id")
    agent = _agent(book, agent_id)
    faults = agent.script.rest
    if faults.signed_url_status is not None:
        failed = error(faults.signed_url_status)
        limits = {"current-concurrent-requests": "20", "maximum-concurrent-requests": "20"}
        headers = limits if faults.signed_url_status == 429 else {}
        return Reply(failed.status, failed.body, faults.signed_url_delay_s, headers)
    single = request.query.get("include_conversation_id", "").lower() == "true"
    conversation_id = book.new_conversation_id() if single else None
    url = f"{base_socket_url}/v1/convai/conversation?agent_id={agent_id}"
    url += f"&conversation_signature={book.sign(agent_id, conversation_id)}"
    url += f"&conversation_id={conversation_id}" if conversation_id else ""
    body: Any = "<html>gateway</html>" if faults.signed_url_garbage else {"signed_url": url}
    return Reply(200, body, faults.signed_url_delay_s)


def _agents(book: Book, request: Request, rest: list[str]) -> Reply:
    if not rest:
        _only(request, "GET")
        search = request.query.get("search", "").lower()
        found = [a for a in book.agents.values() if search in str(a.config.get("name")).lower()]
        return _page(request, "agents", [views.agent_item(agent) for agent in found])
    if rest == ["create"]:
        _only(request, "POST")
        return _create_agent(book, request)
    if len(rest) > 1:
        return Reply(404, {"detail": "Not Found"})
    agent = _agent(book, rest[0])
    if agent.script.rest.agent_status is not None:
        return error(agent.script.rest.agent_status)
    _only(request, "GET", "PATCH", "DELETE")
    if request.method == "DELETE":
        del book.agents[agent.agent_id]
        return Reply(200, {})
    if request.method == "PATCH":
        _change(agent, request)
    return Reply(200, views.agent_full(agent))


def _create_agent(book: Book, request: Request) -> Reply:
    if not isinstance(request.body, dict) or "conversation_config" not in request.body:
        return invalid("body", "conversation_config")
    agent = book.add_agent(book.default_script)
    try:
        _change(agent, request)
    except Refusal:
        del book.agents[agent.agent_id]
        raise
    return Reply(200, {"agent_id": agent.agent_id})


def _change(agent: Agent, request: Request) -> None:
    allowed = {"name", "conversation_config", "platform_settings", "workflow", "tags"}
    if not isinstance(request.body, dict):
        raise Refusal(invalid("body", "__root__", "value is not a valid dict"))
    try:
        agent.merge({name: request.body[name] for name in allowed & set(request.body)})
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise Refusal(invalid("body", "conversation_config", str(problem))) from problem


def _conversations(book: Book, request: Request, rest: list[str]) -> Reply:
    _only(request, "GET")
    if not rest:
        return _list_conversations(book, request)
    record = book.conversations.get(rest[0])
    if record is None or len(rest) > 1:
        kind = "conversation_not_found"
        return error(404, f"Conversation with id {rest[0]} not found", kind)
    if record.script.rest.conversation_status is not None:
        return error(record.script.rest.conversation_status)
    return Reply(200, views.conversation_full(record))


def _list_conversations(book: Book, request: Request) -> Reply:
    found = list(reversed(book.conversations.values()))
    agent_id, variable = request.query.get("agent_id"), request.query.get("dynamic_variable_params")
    if agent_id:
        found = [record for record in found if record.agent_id == agent_id]
    if variable:
        name, operator, wanted = (*variable.split(":", 2), "", "")[:3]
        if operator != "eq":
            return invalid("query", "dynamic_variable_params", "only `eq` is simulated")
        variables = [((r.initiation or {}).get("dynamic_variables") or {}) for r in found]
        found = [r for r, v in zip(found, variables, strict=True) if str(v.get(name)) == wanted]
    return _page(request, "conversations", [views.conversation_item(record) for record in found])


def _page(request: Request, name: str, items: list[dict[str, Any]]) -> Reply:
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


def parse_body(data: bytes) -> Any:
    """The JSON of a request body, or None when there is none; `Refusal` (422) when it is broken."""
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError as problem:
        raise Refusal(invalid("body", "__root__", "Invalid JSON")) from problem
