"""The knowledge base and the tools of a workspace: REST resources that agents refer to.

A document is fetched at once and indexed when that is asked for; indexing takes `Book.indexing_s`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import trio

from bench.sim_elevenlabs import fields
from bench.sim_elevenlabs.book import Book, Document
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

MODELS = ("e5_mistral_7b_instruct", "multilingual_e5_large_instruct", "qwen3_embedding_4b")
TOOL_NAME_MAX = 64
_ACCESS = {"is_creator": True, "creator_name": "", "creator_email": "", "role": "admin"}


# ---- knowledge base ------------------------------------------------------------------------------


def documents(book: Book, request: Request, rest: list[str]) -> Reply:
    """`/v1/convai/knowledge-base…`."""
    if not rest:
        only(request, "GET")
        return _list_documents(book, request)
    if rest == ["url"]:
        only(request, "POST")
        return _create_document(book, request)
    document = book.documents.get(rest[0])
    if document is None:
        return error(404, f"Document with id {rest[0]} not found", "document_not_found")
    if rest[1:] == ["rag-index"]:
        only(request, "GET", "POST")
        return _index(book, request, document)
    if len(rest) > 1:
        return Reply(404, {"detail": "Not Found"})
    only(request, "GET", "DELETE")
    if request.method == "DELETE":
        return _delete_document(book, request, document)
    return Reply(200, _document_full(document))


def _create_document(book: Book, request: Request) -> Reply:
    problems(fields.unknown(request.body, fields.CREATE_URL_DOCUMENT))
    url = request.body.get("url")
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        return invalid("body", "url", "Input should be a valid URL")
    host = urlsplit(url).hostname or ""
    if host.endswith(".invalid") or host in book.unreachable_hosts:
        return error(400, f"Could not fetch {url}", "invalid_url")
    document = book.add_document(url, str(request.body.get("name") or url))
    return Reply(200, {"id": document.id, "name": document.name, "folder_path": []})


def _list_documents(book: Book, request: Request) -> Reply:
    known_query(request, fields.DOCUMENTS_QUERY)
    search = request.query.get("search", "")
    found = [d for d in book.documents.values() if d.name.startswith(search)]
    return paged(request, "documents", [_document_item(document) for document in found])


def _index(book: Book, request: Request, document: Document) -> Reply:
    if request.method == "GET":
        indexes = [_index_state(book, document)] if document.indexed_since_s is not None else []
        return Reply(200, {"indexes": indexes})
    problems(fields.unknown(request.body, {"model": None}))
    if request.body.get("model") not in MODELS:
        return invalid("body", "model", f"Input should be one of {MODELS}")
    if document.indexed_since_s is None:
        document.indexed_since_s = trio.current_time()
        document.model = request.body["model"]
    return Reply(200, _index_state(book, document))


def _index_state(book: Book, document: Document) -> dict[str, Any]:
    assert document.indexed_since_s is not None
    done = min(1.0, (trio.current_time() - document.indexed_since_s) / (book.indexing_s or 1e-9))
    status = "created" if done == 0 else "processing" if done < 1 else book.indexing_ends
    return {
        "id": f"ragindex_{document.id}",
        "model": document.model,
        "status": status,
        "progress_percentage": round(100 * done, 1),
        "document_model_index_usage": {"used_bytes": 4096 if done == 1 else 0},
    }


def _delete_document(book: Book, request: Request, document: Document) -> Reply:
    users = [a for a in book.agents.values() if document.id in a.document_ids()]
    if users and request.query.get("force") != "true":
        return error(400, "The document is used by agents", "document_in_use")
    for agent in users:
        agent.forget_document(document.id)
    del book.documents[document.id]
    return Reply(200, {})


def _document_item(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "name": document.name,
        "type": "url",
        "url": document.url,
        "metadata": {
            "created_at_unix_secs": document.created_unix_s,
            "last_updated_at_unix_secs": document.created_unix_s,
            "size_bytes": 4096,
        },
        "supported_usages": ["prompt", "auto"],
        "access_info": _ACCESS,
        "folder_parent_id": None,
        "folder_path": [],
        "dependent_agents": [],
    }


def _document_full(document: Document) -> dict[str, Any]:
    full = _document_item(document) | {"extracted_inner_html": f"<p>{document.url}</p>"}
    del full["dependent_agents"]
    return full


# ---- tools ---------------------------------------------------------------------------------------


def tools(book: Book, request: Request, rest: list[str]) -> Reply:
    """`/v1/convai/tools…`."""
    if not rest:
        only(request, "GET", "POST")
        return _create_tool(book, request) if request.method == "POST" else _list(book, request)
    config = book.tools.get(rest[0])
    if config is None or len(rest) > 1:
        return error(404, f"Tool with id {rest[0]} not found", "tool_not_found")
    only(request, "GET", "PATCH", "DELETE")
    if request.method == "DELETE":
        del book.tools[rest[0]]
        return Reply(200, {})
    if request.method == "PATCH":
        book.tools[rest[0]] = _checked_tool(request)
    return Reply(200, _tool(rest[0], book.tools[rest[0]]))


def _create_tool(book: Book, request: Request) -> Reply:
    tool_id = book.add_tool(_checked_tool(request))
    return Reply(200, _tool(tool_id, book.tools[tool_id]))


def _checked_tool(request: Request) -> dict[str, Any]:
    problems(fields.unknown(request.body, fields.CREATE_TOOL))
    config = request.body.get("tool_config")
    if not isinstance(config, dict):
        raise Refusal(invalid("body", "tool_config"))
    name = config.get("name")
    fits = isinstance(name, str) and name.replace("_", "").replace("-", "").isalnum()
    if not fits or len(name) > TOOL_NAME_MAX:
        raise Refusal(invalid("body", "tool_config.name", "String should match the pattern"))
    if config.get("type") not in ("client", "webhook", "system", "mcp"):
        raise Refusal(invalid("body", "tool_config.type", "Input should be a known type"))
    if not isinstance(config.get("description"), str):
        raise Refusal(invalid("body", "tool_config.description"))
    timeout_s = config.get("response_timeout_secs", 20)
    if timeout_s != -1 and not 1 <= timeout_s <= 120:
        raise Refusal(invalid("body", "tool_config.response_timeout_secs", "must be 1 to 120"))
    defaults = {"response_timeout_secs": 20, "expects_response": False, "assignments": []}
    return defaults | config


def _list(book: Book, request: Request) -> Reply:
    known_query(request, fields.TOOLS_QUERY)
    search, kinds = request.query.get("search", ""), request.query.get("types")
    found = [
        _tool(tool_id, config)
        for tool_id, config in book.tools.items()
        if config["name"].startswith(search) and kinds in (None, config["type"])
    ]
    return paged(request, "tools", found)


def _tool(tool_id: str, config: dict[str, Any]) -> dict[str, Any]:
    usage = {"total_calls": 0, "avg_latency_secs": 0.0}
    return {"id": tool_id, "tool_config": config, "access_info": _ACCESS, "usage_stats": usage}
