"""Giving back what an agent's provisioning has made, when somebody asks for it. Never by itself.

`number` gives the numbers back to Twilio, for good; `elevenlabs` deletes the ElevenLabs agent and the
documents that were made for it. What was adopted is left where it was.
"""

from __future__ import annotations

from typing import Any

from control.elevenlabs.rest import ElevenLabsRefused
from control.numbers.values import NumberProblem
from control.provisioning.once import AGENT, DOCUMENT, translated
from control.provisioning.values import Run, Services, StepFailed
from control.store import agents, intents
from control.store.intents import MADE, Intent
from control.store.records import AgentRecord

KINDS = ("number", "elevenlabs")


async def release(run: Run, services: Services) -> str | None:
    """All kinds that were asked for; one that is gone already is released, too."""
    step = run.step("release")
    kinds = step.get("what") or []
    if "number" in kinds:
        await _numbers(run, services)
    if "elevenlabs" in kinds:
        await _elevenlabs(run, services)
    return None


async def _numbers(run: Run, services: Services) -> None:
    agent = run.agent
    further = await services.store.read(agents.numbers_of, agent.id)
    owned = [(agent.tenant_id, agent.number_e164)] if is_bought(agent) else []
    owned += [(n.tenant_id, n.e164) for n in further if n.sid and not n.wish.get("e164")]
    for tenant_id, e164 in owned:
        if not e164:
            continue
        try:
            await services.numbers.release(tenant_id, e164, force=True)
        except NumberProblem as problem:
            if problem.code not in ("not_found", "not_owned"):
                raise StepFailed(str(problem), transient=problem.transient) from problem
    if owned:
        run.learn(number_status="released")


async def _elevenlabs(run: Run, services: Services) -> None:
    workspace = services.workspace
    for intent in await services.store.read(intents.of_agent, run.agent.id):
        if intent.kind not in (AGENT, DOCUMENT):
            continue
        resource_id = intent.resource_id
        async with translated("releasing at ElevenLabs"):
            if resource_id is None and intent.kind == AGENT:
                resource_id = await workspace.find_agent(run.agent.id)
            if resource_id is not None:
                try:
                    if intent.kind == AGENT:
                        await workspace.delete_agent(resource_id)
                    else:
                        await workspace.delete_document(resource_id)
                except ElevenLabsRefused as refusal:
                    if refusal.status != 404:
                        raise
        await services.store.write(intents.forget, intent.kind, intent.key)
    run.learn(elevenlabs_status="released")


def is_bought(agent: AgentRecord) -> bool:
    """Whether the first number was bought for the agent, not adopted."""
    wish = agent.settings.get("number") or {}
    return bool(agent.number_sid) and bool(wish) and "e164" not in wish


def offered(agent: AgentRecord, made: list[Intent]) -> list[dict[str, Any]]:
    """What is there and may be given back: of an agent that has failed or is closed."""
    if agent.status not in ("failed", "closed"):
        return []
    path = f"/v2/agents/{agent.id}"
    offers = []
    if is_bought(agent) and agent.number_status != "released":
        offers.append(
            {
                "what": "number",
                "resource": agent.number_sid,
                "detail": "bought for this agent; it costs money until it is released",
                "do": f"DELETE {path}?release=number",
            }
        )
    offers += [
        {
            "what": "elevenlabs",
            "resource": intent.resource_id,
            "detail": f"{intent.kind} made for this agent",
            "do": f"DELETE {path}?release=elevenlabs",
        }
        for intent in made
        if intent.kind in (AGENT, DOCUMENT) and intent.state == MADE
    ]
    return offers
