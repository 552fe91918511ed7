"""The gateway's client tools in the ElevenLabs workspace: made once, shared by all agents, kept up to date."""

from __future__ import annotations

from typing import Any

import trio

from control.provisioning.once import TOOL, once, translated
from control.provisioning.values import Run, Services
from control.store import intents

_turn = trio.Lock()
"""Tools belong to the workspace: two agents at once would make each of them twice."""


async def tools(run: Run, services: Services) -> list[str]:
    """The ids of the gateway's client tools in this workspace, made or brought up to date."""
    wanted = services.tools()
    if not wanted:
        return []
    async with _turn, translated("the gateway's tools"):
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
    return await once(
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
