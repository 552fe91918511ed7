"""The step `knowledge_base`: the business's page, read and indexed by ElevenLabs."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

import trio

from control.elevenlabs.workspace import RAG_DONE, RAG_FAILED, Document
from control.provisioning.once import DOCUMENT, once, translated
from control.provisioning.values import Run, Services, Skipped, StepFailed

INDEX_POLL_S = 1.0
INDEX_POLL_MAX_S = 5.0


async def knowledge_base(run: Run, services: Services) -> str | None:
    """Have the business's page fetched and indexed, and wait until it is."""
    url = run.agent.business_url
    known = run.elevenlabs.get("knowledge_base") or {}
    if not url or not run.is_managed:
        raise Skipped
    if known.get("url") != url:
        name = f"{run.agent.id} {urlsplit(url).hostname or ''} {_digest(url)}"
        key = f"{run.agent.id}/{_digest(url)}"
        async with translated("the knowledge base"):
            document_id = await once(
                services,
                run,
                DOCUMENT,
                key,
                find=lambda: _document_id(services, name),
                make=lambda: _make_document(services, url, name),
            )
        run.learn_elevenlabs(knowledge_base={"id": document_id, "name": name, "url": url})
    document = run.elevenlabs["knowledge_base"]
    async with translated("indexing the knowledge base"):
        index = await _indexed(services, document["id"])
    run.learn_elevenlabs(knowledge_base=document | {"index": index})
    if index in RAG_FAILED:
        raise StepFailed(f"ElevenLabs could not index {url}: {index}; check that the page has text")
    return None


async def _document_id(services: Services, name: str) -> str | None:
    found = await services.workspace.find_document(name)
    return found.id if found else None


async def _make_document(services: Services, url: str, name: str) -> str:
    made: Document = await services.workspace.create_document(url, name)
    return made.id


async def _indexed(services: Services, document_id: str) -> str:
    """Asks until there is an outcome; the step has the deadline."""
    pause_s = INDEX_POLL_S
    while True:
        index = await services.workspace.index_document(document_id)
        if index in RAG_DONE or index in RAG_FAILED:
            return index
        await trio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, INDEX_POLL_MAX_S)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
