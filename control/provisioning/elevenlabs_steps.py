"""Steps at ElevenLabs: the knowledge base, the gateway's tools, the agent itself, and changing it later.

Each thing is looked for by our key before it is made. The intent is committed first, so that a look is only
spent where something may exist, and a thing of a former life is found also when its name was changed since.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import trio

from control import failpoints, log
from control.elevenlabs import agent_body, profile
from control.elevenlabs.agent_body import Attached
from control.elevenlabs.rest import ElevenLabsRefused, ElevenLabsUnavailable
from control.elevenlabs.workspace import RAG_DONE, RAG_FAILED, Document
from control.provisioning.values import Run, Services, Skipped, StepFailed
from control.store import intents
from control.store.intents import Intent

AGENT = "elevenlabs_agent"
DOCUMENT = "knowledge_base"
TOOL = "elevenlabs_tool"
MISSING = "missing"
INDEX_POLL_S = 1.0
INDEX_POLL_MAX_S = 5.0
_tools_turn = trio.Lock()
"""Tools belong to the workspace: two agents at once would make each of them twice."""


@asynccontextmanager
async def translated(what: str) -> AsyncIterator[None]:
    """What ElevenLabs said, as a reason of the step."""
    try:
        yield
    except ElevenLabsRefused as refusal:
        hint = ": check elevenlabs.api_key" if refusal.status in (401, 403) else ""
        raise StepFailed(f"{what}: {refusal}{hint}") from refusal
    except ElevenLabsUnavailable as doubt:
        raise StepFailed(f"{what}: {doubt}", transient=True) from doubt


# ---- knowledge base ------------------------------------------------------------------------------


async def knowledge_base(run: Run, services: Services) -> str | None:
    """Have the business's page fetched and indexed, and wait until it is."""
    url = run.agent.business_url
    known = run.elevenlabs.get("knowledge_base") or {}
    if not url or not is_managed(run):
        raise Skipped
    if known.get("url") != url:
        name = f"{run.agent.id} {urlsplit(url).hostname or ''} {_digest(url)}"
        key = f"{run.agent.id}/{_digest(url)}"
        async with translated("the knowledge base"):
            document_id = await _once(
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


# ---- the agent -----------------------------------------------------------------------------------


def is_managed(run: Run) -> bool:
    """Whether the agent's whole configuration is ours: we made it, or were told to take it over."""
    if run.agent.settings.get("manage") is not None:
        return bool(run.agent.settings["manage"])
    return bool(run.elevenlabs.get("created")) or not run.agent.elevenlabs_agent_id


async def elevenlabs_agent(run: Run, services: Services) -> str | None:
    """Make the agent, or adopt the one that was named. Returns what could be better."""
    if run.agent.elevenlabs_agent_id and not run.elevenlabs.get("created"):
        return await _adopt(run, services, run.agent.elevenlabs_agent_id)
    try:
        body = await _body(run, services)
        async with translated("the ElevenLabs agent"):
            agent_id = await _once(
                services,
                run,
                AGENT,
                run.agent.id,
                find=lambda: services.workspace.find_agent(run.agent.id),
                make=lambda: services.workspace.create_agent(body),
            )
            run.learn(elevenlabs_agent_id=agent_id)
            run.learn_elevenlabs(created=True, managed=True)
        found = await _read_own(run, services, agent_id)
        return await _settle(run, services, agent_id, found, profile.WANTED)
    except StepFailed as failure:
        if run.columns.get("elevenlabs_status") not in (MISSING, "unusable"):
            run.learn(elevenlabs_status="unreachable" if failure.transient else "refused")
        raise


async def _read_own(run: Run, services: Services, agent_id: str) -> dict[str, Any]:
    try:
        async with translated("the ElevenLabs agent"):
            return await services.workspace.get_agent(agent_id)
    except StepFailed as failure:
        refusal = failure.__cause__
        if isinstance(refusal, ElevenLabsRefused) and refusal.status == 404:
            run.learn(elevenlabs_status=MISSING)
            raise StepFailed(
                f"ElevenLabs has no agent {agent_id} any more: POST /v2/agents/{run.agent.id}/retry "
                "makes another one"
            ) from failure
        raise


async def elevenlabs_update(run: Run, services: Services) -> str | None:
    """Tell ElevenLabs of a change. What is there already is written again: it does no harm."""
    agent_id = run.agent.elevenlabs_agent_id
    if not agent_id:
        raise Skipped
    if is_managed(run):
        # A site that cannot be read must not keep the other changes from the agent.
        remark = None
        with contextlib.suppress(Skipped):
            try:
                remark = await knowledge_base(run, services)
            except StepFailed as failure:
                if failure.transient:
                    raise
                remark = str(failure)
        patch = await _body(run, services)
        await _write(run, services, agent_id, patch, profile.WANTED)
        return remark
    patch = agent_body.adopted(run.agent)
    if not patch:
        raise Skipped
    async with translated("the ElevenLabs agent"):
        await services.workspace.update_agent(agent_id, patch)
    return None


async def _adopt(run: Run, services: Services, agent_id: str) -> str | None:
    """It has to exist and to suit the telephone; what the request gives is written into it."""
    try:
        found = await services.workspace.get_agent(agent_id)
    except ElevenLabsRefused as refusal:
        return _not_adopted(run, agent_id, refusal)
    except ElevenLabsUnavailable as doubt:
        run.learn(elevenlabs_status="unreachable")
        raise StepFailed(str(doubt), transient=True) from doubt
    run.learn_elevenlabs(created=False, managed=is_managed(run))
    if is_managed(run):
        patch, wanted = await _body(run, services), profile.WANTED
        del patch["name"], patch["tags"]  # theirs
        return await _write(run, services, agent_id, patch, wanted)
    findings = profile.check(found)
    if findings.unusable:
        run.learn(elevenlabs_status="unusable")
        raise StepFailed("; ".join(findings.unusable + findings.problems))
    patch = agent_body.adopted(run.agent)
    if patch:
        try:
            found = await services.workspace.update_agent(agent_id, patch)
        except ElevenLabsRefused as refusal:
            run.learn(elevenlabs_status="refused")
            raise StepFailed(f"the ElevenLabs agent takes no changes: {refusal}") from refusal
        except ElevenLabsUnavailable as doubt:
            raise StepFailed(str(doubt), transient=True) from doubt
    return await _settle(run, services, agent_id, found, None)


def _not_adopted(run: Run, agent_id: str, refusal: ElevenLabsRefused) -> str:
    if refusal.status == 404 and not refusal.code:
        # Not ElevenLabs' way to say it: a proxy without this route, perhaps.
        run.learn(elevenlabs_status="unchecked")
        return "the ElevenLabs agent could not be looked up (404 without a status)"
    if refusal.status == 404:
        run.learn(elevenlabs_status="missing")
        raise StepFailed(
            f"ElevenLabs knows no agent {agent_id}: check elevenlabs_agent_id, and that "
            "elevenlabs.api_key is of the workspace that has it"
        ) from refusal
    run.learn(elevenlabs_status="refused")
    hint = ": check elevenlabs.api_key" if refusal.status in (401, 403) else ""
    raise StepFailed(f"{refusal}{hint}") from refusal


async def _write(
    run: Run,
    services: Services,
    agent_id: str,
    patch: dict[str, Any],
    wanted: profile.Telephone,
) -> str | None:
    async with translated("the ElevenLabs agent"):
        await services.workspace.update_agent(agent_id, patch)
        # Read back: what a service answers to a change and what it has kept are two things.
        found = await services.workspace.get_agent(agent_id)
    return await _settle(run, services, agent_id, found, wanted)


async def _settle(
    run: Run,
    services: Services,
    agent_id: str,
    found: dict[str, Any],
    wanted: profile.Telephone | None,
) -> str | None:
    """Note what it is like, so that a change by hand is seen later; what is wrong already is a remark."""
    seen = profile.telephone(found)
    if wanted is not None and seen is not None:
        left = profile.differences(seen, wanted)
        for difference in left:
            async with translated("the ElevenLabs agent"):
                found = await services.workspace.update_agent(agent_id, difference.patch)
        seen = profile.telephone(found)
    findings = profile.check(found)
    if findings.unusable:
        run.learn(elevenlabs_status="unusable")
        raise StepFailed("; ".join(findings.unusable + findings.problems))
    for hint in findings.hints:
        log.event("agent_hint", agent_id=run.agent.id, hint=hint)
    baseline = wanted or seen
    run.learn_elevenlabs(
        baseline=None
        if baseline is None
        else {
            "input_format": baseline.input_format,
            "output_format": baseline.output_format,
            "client_events": baseline.client_events and list(baseline.client_events),
        },
        first_message=profile.first_message(found),
    )
    run.learn(elevenlabs_status="degraded" if findings.problems else "live")
    return "; ".join(findings.problems) or None


async def _body(run: Run, services: Services) -> dict[str, Any]:
    tool_ids = await tools(run, services)
    document = run.elevenlabs.get("knowledge_base") or {}
    usable = document.get("id") and document.get("index") in RAG_DONE
    attached = Attached(tool_ids, (document["id"], document["name"]) if usable else None)
    vertical = services.vertical_of(run.agent)
    return agent_body.whole(run.agent, vertical, services.defaults, attached)


# ---- tools ---------------------------------------------------------------------------------------


async def tools(run: Run, services: Services) -> list[str]:
    """The ids of the gateway's client tools in this workspace, made or brought up to date."""
    wanted = services.tools()
    if not wanted:
        return []
    async with _tools_turn, translated("the gateway's tools"):
        there = await services.workspace.find_tools()
        ids = [await _tool(run, services, config, there) for config in wanted]
    run.learn_elevenlabs(tool_ids=ids)
    return ids


async def _tool(
    run: Run, services: Services, config: dict[str, Any], there: list[dict[str, Any]]
) -> str:
    """One tool. One of the same name that is not known as ours is left alone unless it is the same."""
    name = str(config["name"])
    intent = await services.store.read(intents.get, TOOL, name)
    ours = intent.resource_id if intent else None
    for item in there:
        if str(item.get("id")) == ours:
            if not _holds(item.get("tool_config"), config):
                await services.workspace.update_tool(ours, config)
            return ours
    if ours:
        await services.store.write(intents.forget, TOOL, name)  # deleted by hand
    same = [str(i["id"]) for i in there if i.get("id") and _holds(i.get("tool_config"), config)]
    return await _once(
        services,
        run,
        TOOL,
        name,
        find=lambda: _ready(same[0] if same else None),
        make=lambda: services.workspace.create_tool(config),
        is_shared=True,
    )


async def _ready(value: str | None) -> str | None:
    return value


def _holds(there: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; the service adds its defaults."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            key in there and _holds(there[key], value) for key, value in wanted.items()
        )
    return bool(there == wanted)


# ---- once ----------------------------------------------------------------------------------------


async def _once(
    services: Services,
    run: Run,
    kind: str,
    key: str,
    *,
    find: Callable[[], Awaitable[str | None]],
    make: Callable[[], Awaitable[str]],
    is_shared: bool = False,
) -> str:
    """The thing's id: known, found, or made now. Killed anywhere in here, the next try makes no second one."""
    now = services.clock.now()
    intent = await services.store.write(
        intents.open_,
        Intent(kind, key, now, now, run.agent.tenant_id, None if is_shared else run.agent.id),
    )
    if intent.resource_id:
        return intent.resource_id
    failpoints.reach(f"{kind}.intent")
    resource_id = await find()
    if resource_id is None:
        resource_id = await make()
        failpoints.reach(f"{kind}.asked")
        log.event("made", kind=kind, agent_id=run.agent.id, resource_id=resource_id)
    else:
        log.event("found_again", kind=kind, agent_id=run.agent.id, resource_id=resource_id)
    await services.store.write(intents.made, kind, key, resource_id, services.clock.now())
    return resource_id
