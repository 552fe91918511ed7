"""`/v2/agents`."""

from __future__ import annotations

import trio
from quart import Blueprint, Response
from sqlalchemy import Connection

from control.api import agent_changes, agent_checks, agent_views
from control.api.agent_changes import no_agent
from control.api.agent_models import (
    AgentCreate,
    AgentPatch,
    AgentQuery,
    AgentsQuery,
    ReleaseQuery,
)
from control.api.agent_views import Agent
from control.api.answers import answer, page
from control.api.auth import principal, require_visible, visible_tenant
from control.api.dependencies import dependencies
from control.api.idempotency import idempotent
from control.api.openapi import listing, operation
from control.api.reading import read_body, read_query
from control.provisioning import release
from control.store import NumberTaken, agents, intents
from control.store.intents import Intent
from control.store.records import AgentNumberRecord, AgentRecord

blueprint = Blueprint("agents", __name__)

REFRESH_TIMEOUT_S = 20.0
"""A provider that does not answer must not keep the API waiting longer: what is known is shown then."""


@blueprint.post("/v2/agents")
@operation(
    name="createAgent",
    about="Agents",
    body=AgentCreate,
    answers={202: Agent},
    problems=["not-found", "conflict"],
    creates=True,
)
@idempotent
async def create_agent() -> Response:
    """Put an agent on a telephone number

    The number is bought or adopted, the ElevenLabs agent made from the vertical or adopted. All of it happens
    in the background, and goes on after a restart: follow `provisioning.steps` until `status` is `live`.
    """
    given = await read_body(AgentCreate)
    record, further = await agent_changes.new_records(given)
    known = dependencies()
    try:
        await known.store.write(agent_changes.insert, record, further)
    except NumberTaken as taken:
        raise agent_changes.number_taken(taken, "number.e164") from taken
    known.provisioning.start(record.id)
    return await _answer(record.id, 202, {"Location": f"/v2/agents/{record.id}"})


@blueprint.get("/v2/agents")
@operation(
    name="listAgents",
    about="Agents",
    query=AgentsQuery,
    answers={200: listing(Agent)},
    problems=["not-found"],
)
async def list_agents() -> Response:
    """List agents, the newest first"""
    query = read_query(AgentsQuery)
    found, cursor = await dependencies().store.read(
        _page, visible_tenant(query.tenant_id), query.status, query.limit, query.cursor
    )
    return page([await _shown(*one) for one in found], cursor)


@blueprint.get("/v2/agents/<agent_id>")
@operation(
    name="getAgent",
    about="Agents",
    query=AgentQuery,
    answers={200: Agent},
    problems=["not-found"],
)
async def get_agent(agent_id: str) -> Response:
    """Show an agent: how far its provisioning has come, and its health

    The health is that of the last look in the background; `refresh=true` looks now.
    """
    query = read_query(AgentQuery)
    await own_agent(agent_id)
    if query.refresh:
        with trio.move_on_after(REFRESH_TIMEOUT_S):
            await dependencies().provisioning.check(agent_id)
    return await _answer(agent_id)


@blueprint.patch("/v2/agents/<agent_id>")
@operation(
    name="changeAgent",
    about="Agents",
    body=AgentPatch,
    answers={200: Agent},
    problems=["not-found", "conflict"],
)
async def change_agent(agent_id: str) -> Response:
    """Change an agent

    Calls that begin afterwards see the change. What ElevenLabs knows of it is changed there in the background:
    the step `elevenlabs_update` says when. A first number that could not be had may be replaced by another wish;
    one that is had and the ElevenLabs agent stay: make another agent for those.
    """
    given = await read_body(AgentPatch)
    await own_agent(agent_id)
    known = dependencies()
    changes = {name: getattr(given, name) for name in given.model_fields_set}
    if "number" in changes:
        may_move = principal().is_admin
        changes["number"] = agent_checks.wish_of(given.number, "number", may_move=may_move)
    try:
        record = await known.store.write(agent_changes.change, agent_id, changes, known.clock.now())
    except NumberTaken as taken:
        raise agent_changes.number_taken(taken, "number.e164") from taken
    if record.pending:
        known.provisioning.start(agent_id)
    return await _answer(agent_id)


@blueprint.post("/v2/agents/<agent_id>/retry")
@operation(
    name="retryAgent",
    about="Agents",
    answers={202: Agent},
    problems=["not-found", "conflict"],
)
async def retry_agent(agent_id: str) -> Response:
    """Try the failed steps of an agent again

    After the reason was put right. Steps that are done stay done; nothing is bought or made twice.
    """
    await own_agent(agent_id)
    known = dependencies()
    await known.store.write(agent_changes.retry, agent_id, known.clock.now())
    known.provisioning.start(agent_id)
    return await _answer(agent_id, 202)


@blueprint.delete("/v2/agents/<agent_id>")
@operation(
    name="closeAgent",
    about="Agents",
    query=ReleaseQuery,
    answers={200: Agent},
    problems=["not-found"],
)
async def close_agent(agent_id: str) -> Response:
    """Close an agent

    Its number is free for another agent; calls in progress go on, the record stays. `release` gives back what
    was bought and made for it; a closed agent may still be told to.
    """
    query = read_query(ReleaseQuery)
    await own_agent(agent_id)
    known = dependencies()
    what = sorted(set(query.release.split(","))) if query.release else []
    record = await known.store.write(agent_changes.close, agent_id, what, known.clock.now())
    if record.pending:
        known.provisioning.start(agent_id)
    return await _answer(agent_id)


# ---- showing -------------------------------------------------------------------------------------


async def own_agent(agent_id: str) -> AgentRecord:
    """The agent, if it is there for whoever asks. Raises Problem (404)."""
    record = await dependencies().store.read(agents.get, agent_id)
    if record is None:
        raise no_agent(agent_id)
    require_visible(record.tenant_id, lambda: no_agent(agent_id))
    return record


async def _answer(
    agent_id: str, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    found = await dependencies().store.read(_whole, agent_id)
    return answer(await _shown(*found), status, headers)


def _whole(
    conn: Connection, agent_id: str
) -> tuple[AgentRecord, list[AgentNumberRecord], list[Intent]]:
    record = agents.get(conn, agent_id)
    if record is None:
        raise no_agent(agent_id)
    return record, agents.numbers_of(conn, agent_id), intents.of_agent(conn, agent_id)


def _page(
    conn: Connection,
    tenant_id: str | None,
    status: str | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[tuple[AgentRecord, list[AgentNumberRecord], list[Intent]]], str | None]:
    records, next_cursor = agents.list_agents(
        conn, tenant_id=tenant_id, status=status, limit=limit, cursor=cursor
    )
    return [_whole(conn, record.id) for record in records], next_cursor


async def _shown(
    record: AgentRecord, numbers: list[AgentNumberRecord], made: list[Intent]
) -> Agent:
    known = dependencies()
    return agent_views.shown(
        record,
        account=await known.provisioning.account(record.tenant_id),
        now=known.clock.now(),
        numbers=numbers,
        compensation=release.offered(record, made),
    )
