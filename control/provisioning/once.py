"""Making a thing at ElevenLabs once, and saying why when it cannot be made.

The intent is committed first, then the thing is looked for by our key, and only then made: a look is spent only
where something may exist, and a kill anywhere in between makes no second one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from control import failpoints, log
from control.elevenlabs.rest import ElevenLabsRefused, ElevenLabsUnavailable
from control.provisioning.values import Run, Services, StepFailed
from control.store import intents
from control.store.intents import Intent

AGENT = "elevenlabs_agent"
DOCUMENT = "knowledge_base"
TOOL = "elevenlabs_tool"


@asynccontextmanager
async def translated(what: str) -> AsyncIterator[None]:
    """What ElevenLabs said, as a reason of the step."""
    try:
        yield
    except ElevenLabsRefused as refusal:
        raise StepFailed(f"{what}: {refusal}{hint_of(refusal)}") from refusal
    except ElevenLabsUnavailable as doubt:
        raise StepFailed(f"{what}: {doubt}", transient=True) from doubt


def hint_of(refusal: ElevenLabsRefused) -> str:
    if refusal.code == "quota_exceeded":
        return ": the plan's limit is reached"
    return ": check elevenlabs.api_key" if refusal.status in (401, 403) else ""


async def once(
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
