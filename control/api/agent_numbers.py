"""`/v2/agents/{id}/numbers` and `/v2/verticals`."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response
from sqlalchemy import Connection

from control.api import agent_views
from control.api.agent_changes import ask_for, further_number, no_agent, number_taken
from control.api.agent_models import FurtherNumberIn
from control.api.agent_views import FurtherNumberShown
from control.api.agents import own_agent
from control.api.answers import Answer, answer, page
from control.api.auth import principal
from control.api.dependencies import dependencies
from control.api.idempotency import idempotent
from control.api.openapi import listing, operation
from control.api.problem import Problem, not_found
from control.api.reading import read_body
from control.store import NumberTaken, agents
from control.store.records import AgentNumberRecord

blueprint = Blueprint("agent_numbers", __name__)


class VerticalShown(Answer):
    """A line of business that agents can be made for."""

    name: str
    title: str
    language: str
    first_message: str
    prompt: str
    extractions: list[dict[str, Any]]
    voice: dict[str, Any]


@blueprint.get("/v2/verticals")
@operation(name="listVerticals", about="Agents", answers={200: listing(VerticalShown)})
async def list_verticals() -> Response:
    """List the verticals: templates that agents are made from"""
    known = dependencies().provisioning.verticals
    return page(
        [
            VerticalShown(
                name=one.name,
                title=one.title,
                language=one.language,
                first_message=one.first_message,
                prompt=one.prompt,
                extractions=one.extractions,
                voice=one.voice.model_dump(exclude_none=True),
            )
            for one in known.values()
        ]
    )


@blueprint.get("/v2/agents/<agent_id>/numbers")
@operation(
    name="listAgentNumbers",
    about="Agents",
    answers={200: listing(FurtherNumberShown)},
    problems=["not-found"],
)
async def list_numbers(agent_id: str) -> Response:
    """List an agent's further numbers, beside its first one"""
    await own_agent(agent_id)
    found = await dependencies().store.read(agents.numbers_of, agent_id)
    return page([agent_views.number_shown(record) for record in found])


@blueprint.post("/v2/agents/<agent_id>/numbers")
@operation(
    name="addAgentNumber",
    about="Agents",
    body=FurtherNumberIn,
    answers={202: FurtherNumberShown},
    problems=["not-found", "conflict"],
    creates=True,
)
@idempotent
async def add_number(agent_id: str) -> Response:
    """Put an agent on one more number

    Bought or adopted in the background: the step `numbers` of the agent says when. The number may have a
    location and a time zone of its own, which its calls are told.
    """
    given = await read_body(FurtherNumberIn)
    agent = await own_agent(agent_id)
    record = further_number(agent, given, "number", may_move=principal().is_admin)
    known = dependencies()
    try:
        await known.store.write(_add, agent_id, record, known.clock.now())
    except NumberTaken as taken:
        raise number_taken(taken, "e164") from taken
    known.provisioning.start(agent_id)
    return answer(
        agent_views.number_shown(record), 202, {"Location": f"/v2/agents/{agent_id}/numbers"}
    )


@blueprint.delete("/v2/agents/<agent_id>/numbers/<number_id>")
@operation(
    name="removeAgentNumber",
    about="Agents",
    answers={200: FurtherNumberShown},
    problems=["not-found"],
)
async def remove_number(agent_id: str, number_id: str) -> Response:
    """Take a further number from an agent

    The number stays the account's; release it under `/v2/numbers`.
    """
    await own_agent(agent_id)
    record = await dependencies().store.write(_remove, agent_id, number_id)
    return answer(agent_views.number_shown(record))


def _add(conn: Connection, agent_id: str, record: AgentNumberRecord, now: Any) -> None:
    agent = agents.get(conn, agent_id, to_change=True)
    if agent is None:
        raise no_agent(agent_id)
    if agent.status in ("closed", "failed"):
        raise Problem("conflict", f"agent {agent_id} is {agent.status}")
    agents.add_number(conn, record)
    agents.update(conn, agent_id, **ask_for(agent, ["numbers"], now), updated_at=now)


def _remove(conn: Connection, agent_id: str, number_id: str) -> AgentNumberRecord:
    for record in agents.numbers_of(conn, agent_id):
        if record.id == number_id:
            agents.remove_number(conn, number_id)
            return record
    raise not_found(f"agent {agent_id} has no further number {number_id}")
