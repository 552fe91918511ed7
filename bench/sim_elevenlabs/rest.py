"""The REST resources: signed URLs, agents, conversations. A request in, a reply out; no sockets.

Errors come in the documented shapes: `{"detail": {"status", "message"}}`, the list form of 422, and
the bare `{"detail": "Not Found"}` of an unknown path.
"""

from __future__ import annotations

import json
from typing import Any

from bench.sim_elevenlabs import fields, views, workspace
from bench.sim_elevenlabs.book import Agent, Book
from bench.sim_elevenlabs.replies import (
    Refusal,
    Reply,
    Request,
    error,
    invalid,
    known_query,
    only,
    paged,
    problems,
)

__all__ = ["Refusal", "Reply", "Request", "answer", "error", "invalid", "parse_body"]


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
        only(request, "GET")
        return _signed_url(book, base_socket_url, request)
    if parts[2:] == ["analytics", "live-count"]:
        only(request, "GET")
        agent_id = request.query.get("agent_id")
        return Reply(200, {"count": book.live([agent_id] if agent_id else book.agents)})
    if parts[2] == "agents":
        return _agents(book, request, parts[3:])
    if parts[2] == "knowledge-base":
        return workspace.documents(book, request, parts[3:])
    if parts[2] == "tools":
        return workspace.tools(book, request, parts[3:])
    if parts[2] == "conversations":
        return _conversations(book, request, parts[3:])
    return Reply(404, {"detail": "Not Found"})


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
        only(request, "GET")
        known_query(request, fields.AGENTS_QUERY)
        search = request.query.get("search", "").lower()
        found = [a for a in book.agents.values() if search in str(a.config.get("name")).lower()]
        return paged(request, "agents", [views.agent_item(agent) for agent in found])
    if rest == ["create"]:
        only(request, "POST")
        return _create_agent(book, request)
    if len(rest) > 1:
        return Reply(404, {"detail": "Not Found"})
    agent = _agent(book, rest[0])
    if agent.script.rest.agent_status is not None:
        return error(agent.script.rest.agent_status)
    only(request, "GET", "PATCH", "DELETE")
    if request.method == "DELETE":
        del book.agents[agent.agent_id]
        return Reply(200, {})
    if request.method == "PATCH":
        before = agent.config
        try:
            _change(book, agent, request)
        except Refusal:
            agent.config = before
            raise
    return Reply(200, views.agent_full(agent))


def _create_agent(book: Book, request: Request) -> Reply:
    if not isinstance(request.body, dict) or "conversation_config" not in request.body:
        return invalid("body", "conversation_config")
    problems(fields.unknown(request.body, fields.CREATE_AGENT))
    agent = book.add_agent(book.default_script, is_made_by_rest=True)
    try:
        _change(book, agent, request)
    except Refusal:
        del book.agents[agent.agent_id]
        raise
    return Reply(200, {"agent_id": agent.agent_id})


def _change(book: Book, agent: Agent, request: Request) -> None:
    problems(fields.unknown(request.body, fields.UPDATE_AGENT))
    problems(fields.wrong_values(request.body))
    try:
        agent.merge({name: value for name, value in request.body.items() if name != "procedures"})
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise Refusal(invalid("body", "conversation_config", str(problem))) from problem
    for document_id in agent.document_ids():
        if document_id not in book.documents:
            text = f"Document with id {document_id} not found"
            raise Refusal(error(404, text, "document_not_found"))
    for tool_id in agent.tool_ids():
        if tool_id not in book.tools:
            raise Refusal(error(404, f"Tool with id {tool_id} not found", "tool_not_found"))


def _conversations(book: Book, request: Request, rest: list[str]) -> Reply:
    if not rest:
        only(request, "GET")
        return _list_conversations(book, request)
    only(request, "GET", "DELETE")
    record = book.conversations.get(rest[0])
    if record is None or rest[0] in book.deleted_conversations or len(rest) > 1:
        kind = "conversation_not_found"
        return error(404, f"Conversation with id {rest[0]} not found", kind)
    if record.script.rest.conversation_status is not None:
        return error(record.script.rest.conversation_status)
    if request.method == "DELETE":
        book.deleted_conversations.add(rest[0])
        return Reply(200, {})
    return Reply(200, views.conversation_full(record))


def _list_conversations(book: Book, request: Request) -> Reply:
    found = [r for r in reversed(book.conversations.values()) if book.still_has(r)]
    agent_id, variable = request.query.get("agent_id"), request.query.get("dynamic_variable_params")
    if agent_id:
        found = [record for record in found if record.agent_id == agent_id]
    if variable:
        name, operator, wanted = (*variable.split(":", 2), "", "")[:3]
        if operator != "eq":
            return invalid("query", "dynamic_variable_params", "only `eq` is simulated")
        variables = [((r.initiation or {}).get("dynamic_variables") or {}) for r in found]
        found = [r for r, v in zip(found, variables, strict=True) if str(v.get(name)) == wanted]
    return paged(request, "conversations", [views.conversation_item(record) for record in found])


def parse_body(data: bytes) -> Any:
    """The JSON of a request body, or None when there is none; `Refusal` (422) when it is broken."""
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError as problem:
        raise Refusal(invalid("body", "__root__", "Invalid JSON")) from problem
