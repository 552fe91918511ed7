"""What the gateway makes in an ElevenLabs workspace: agents, documents, tools. Over `ElevenLabsRest`.

Nothing there knows an idempotency key, so each thing carries our own key in its name, and `find_*` looks for
it before it is made, and after a request whose answer was lost.

Source: ElevenLabs API reference, "Create agent", "Update agent", "List agents", "Create knowledge base document
from URL", "Compute RAG index", "Create tool".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control.elevenlabs.rest import ElevenLabsRest, ElevenLabsUnavailable, part

PAGE_SIZE = 100
PAGES_MAX = 50
"""Of a list, before it is given up: 5,000 things whose names begin alike are not ours."""
RAG_MODEL = "e5_mistral_7b_instruct"
"""The service's default embedding model; the agent's `rag` names the same one."""
RAG_DONE = frozenset(("succeeded", "document_too_small"))
"""A document that is too small for an index goes into the prompt whole."""
RAG_FAILED = frozenset(("failed", "rag_limit_exceeded", "cannot_index_folder"))


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the knowledge base. `index` is the state of its RAG index, "" when there is none."""

    id: str
    name: str
    index: str = ""


class Workspace:
    """One workspace. All methods raise ElevenLabsRefused and ElevenLabsUnavailable."""

    def __init__(self, rest: ElevenLabsRest) -> None:
        self._rest = rest

    # ---- agents --------------------------------------------------------------------------------

    async def get_agent(self, agent_id: str) -> dict[str, Any]:
        """The whole agent object."""
        return await self._rest.get_agent(agent_id)

    async def create_agent(self, body: Mapping[str, Any]) -> str:
        """Make an agent; its id."""
        made = await self._rest.request(
            "agents.create", "POST", "/v1/convai/agents/create", body=body
        )
        return _id(made, "agent_id")

    async def find_agent(self, key: str) -> str | None:
        """The agent that was made with this key in its name and its tags."""
        for item in await self._list("agents.list", "/v1/convai/agents", "agents", {"search": key}):
            if key in (item.get("tags") or ()) or key in str(item.get("name")):
                return _id(item, "agent_id")
        return None

    async def update_agent(self, agent_id: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Change what the patch names, arrays whole; the agent as it is then."""
        return await self._rest.request(
            "agents.update", "PATCH", f"/v1/convai/agents/{part(agent_id)}", body=patch
        )

    async def delete_agent(self, agent_id: str) -> None:
        """For good, with what it remembers."""
        await self._rest.request("agents.delete", "DELETE", f"/v1/convai/agents/{part(agent_id)}")

    # ---- knowledge base ------------------------------------------------------------------------

    async def create_document(self, url: str, name: str) -> Document:
        """Have a page fetched."""
        made = await self._rest.request(
            "knowledge_base.create",
            "POST",
            "/v1/convai/knowledge-base/url",
            body={"url": url, "name": name},
        )
        return Document(_id(made, "id"), str(made.get("name") or name))

    async def find_document(self, name: str) -> Document | None:
        """The document with exactly this name."""
        found = await self._list(
            "knowledge_base.list", "/v1/convai/knowledge-base", "documents", {"search": name}
        )
        for item in found:
            if item.get("name") == name:
                return Document(_id(item, "id"), name)
        return None

    async def index_document(self, document_id: str) -> str:
        """Have the document indexed, or ask how far it is: `created`, `processing`, `succeeded`, …"""
        answer = await self._rest.request(
            "knowledge_base.index",
            "POST",
            f"/v1/convai/knowledge-base/{part(document_id)}/rag-index",
            body={"model": RAG_MODEL},
        )
        return str(answer.get("status") or "")

    async def delete_document(self, document_id: str) -> None:
        """Also from the agents that use it."""
        await self._rest.request(
            "knowledge_base.delete",
            "DELETE",
            f"/v1/convai/knowledge-base/{part(document_id)}",
            query={"force": "true"},
        )

    # ---- tools ---------------------------------------------------------------------------------

    async def find_tools(self) -> list[dict[str, Any]]:
        """All client tools of the workspace: `{id, tool_config, …}` each."""
        return await self._list("tools.list", "/v1/convai/tools", "tools", {"types": "client"})

    async def create_tool(self, config: Mapping[str, Any]) -> str:
        """Make a client tool; its id."""
        made = await self._rest.request(
            "tools.create", "POST", "/v1/convai/tools", body={"tool_config": config}
        )
        return _id(made, "id")

    async def update_tool(self, tool_id: str, config: Mapping[str, Any]) -> None:
        """Replace a tool's configuration."""
        await self._rest.request(
            "tools.update",
            "PATCH",
            f"/v1/convai/tools/{part(tool_id)}",
            body={"tool_config": config},
        )

    # ---- lists ---------------------------------------------------------------------------------

    async def _list(
        self, endpoint: str, path: str, member: str, query: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        asked = {**query, "page_size": str(PAGE_SIZE)}
        for _ in range(PAGES_MAX):
            page = await self._rest.request(endpoint, "GET", path, query=asked)
            found = page.get(member)
            items += [item for item in found or () if isinstance(item, dict)]
            cursor = page.get("next_cursor")
            if not page.get("has_more", bool(cursor)) or not cursor:
                break
            asked["cursor"] = str(cursor)
        return items


def _id(answer: Mapping[str, Any], key: str) -> str:
    found = answer.get(key)
    if not isinstance(found, str) or not found:
        raise ElevenLabsUnavailable(f"the answer has no {key}")
    return found
