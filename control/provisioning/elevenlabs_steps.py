"""Steps at ElevenLabs: making or adopting the agent, and changing it later."""

from __future__ import annotations

import contextlib
from typing import Any

import trio

from control import log
from control.elevenlabs import agent_body, profile
from control.elevenlabs.agent_body import Attached
from control.elevenlabs.rest import ElevenLabsRefused, ElevenLabsUnavailable
from control.elevenlabs.workspace import RAG_DONE
from control.extractions import ExtractionProblem
from control.provisioning.knowledge import knowledge_base
from control.provisioning.once import AGENT, hint_of, once, translated
from control.provisioning.tools import tools
from control.provisioning.values import Run, Services, Skipped, StepFailed

MISSING = "missing"
READ_WITHIN_S = 20.0
"""How long a change waits for the business's page; it is looked at again later (`control.provisioning.again`)."""


async def require_adopted(run: Run, services: Services) -> None:
    """Before anything is bought for it: the agent that is to be adopted is there. Doubts are for later."""
    agent_id = run.agent.elevenlabs_agent_id
    if not agent_id or run.elevenlabs.get("created"):
        return
    try:
        await services.workspace.get_agent(agent_id)
    except ElevenLabsRefused as refusal:
        if refusal.status == 404 and refusal.code:
            raise StepFailed(
                f"nothing was bought, because ElevenLabs knows no agent {agent_id}"
            ) from refusal
    except ElevenLabsUnavailable:
        return


async def elevenlabs_agent(run: Run, services: Services) -> str | None:
    """Make the agent, or adopt the one that was named. Returns what could be better."""
    if run.agent.elevenlabs_agent_id and not run.elevenlabs.get("created"):
        return await _adopt(run, services, run.agent.elevenlabs_agent_id)
    try:
        body = await _body(run, services)
        async with translated("the ElevenLabs agent"):
            agent_id = await once(
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
    if run.is_managed:
        # A site that cannot be read, or only slowly, must not keep the other changes from the agent.
        remark = None
        with trio.move_on_after(READ_WITHIN_S) as patience, contextlib.suppress(Skipped):
            try:
                remark = await knowledge_base(run, services)
            except StepFailed as failure:
                if failure.transient:
                    raise
                remark = str(failure)
        if patience.cancelled_caught:
            remark = f"ElevenLabs still reads {run.agent.business_url}"
        patch = await _body(run, services)
        await _write(run, services, agent_id, patch, profile.WANTED)
        return remark
    patch = _changes(run)
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
    run.learn_elevenlabs(created=False, managed=run.is_managed)
    if run.is_managed:
        patch, wanted = await _body(run, services), profile.WANTED
        del patch["name"], patch["tags"]  # theirs
        return await _write(run, services, agent_id, patch, wanted)
    findings = profile.check(found)
    if findings.unusable:
        run.learn(elevenlabs_status="unusable")
        raise StepFailed("; ".join(findings.unusable + findings.problems))
    patch = _changes(run)
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
    raise StepFailed(f"{refusal}{hint_of(refusal)}") from refusal


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
        takes_first_message=profile.takes_first_message(found),
    )
    run.learn(elevenlabs_status="degraded" if findings.problems else "live")
    return "; ".join(findings.problems) or None


async def _body(run: Run, services: Services) -> dict[str, Any]:
    tool_ids = await tools(run, services)
    document = run.elevenlabs.get("knowledge_base") or {}
    usable = document.get("id") and document.get("index") in RAG_DONE
    attached = Attached(tool_ids, (document["id"], document["name"]) if usable else None)
    vertical = services.vertical_of(run.agent)
    try:
        return agent_body.whole(run.agent, vertical, services.defaults, attached)
    except ExtractionProblem as problem:
        raise StepFailed(f"{problem.field}: {problem}; change it with PATCH") from problem


def _changes(run: Run) -> dict[str, Any]:
    """What the request has given for an adopted agent."""
    try:
        return agent_body.adopted(run.agent)
    except ExtractionProblem as problem:  # of a record that an earlier version took as it came
        raise StepFailed(f"{problem.field}: {problem}; change it with PATCH") from problem
