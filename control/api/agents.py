"""`/v2/agents`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from quart import Blueprint, Response
from sqlalchemy import Connection

from control import ids
from control.api import agent_models
from control.api.agent_models import Agent, AgentCreate, AgentPatch, AgentsQuery
from control.api.answers import answer, page
from control.api.dependencies import dependencies
from control.api.idempotency import idempotent
from control.api.openapi import listing, operation
from control.api.problem import Problem, invalid, not_found
from control.api.reading import read_body, read_query
from control.ids import DEFAULT_TENANT_ID
from control.provisioning import STEPS
from control.store import NumberTaken, agents
from control.store.records import AgentRecord

blueprint = Blueprint("agents", __name__)

_IN_SETTINGS = frozenset({"record", "max_call_s"})
_BUYING = ("type", "country", "area_code", "contains")


@blueprint.post("/v2/agents")
@operation(
    name="createAgent",
    about="Agents",
    body=AgentCreate,
    answers={202: Agent},
    problems=["conflict", "not-supported"],
    creates=True,
)
@idempotent
async def create_agent() -> Response:
    """Put an agent on a telephone number

    The number is one that the Twilio account owns, the agent one that the ElevenLabs account has. Both are
    looked up and set up in the background: follow `provisioning.steps` until `status` is `live`.
    """
    given = await read_body(AgentCreate)
    _check_supported(given)
    known = dependencies()
    now = known.clock.now()
    record = AgentRecord(
        id=ids.new_id(ids.AGENT, now),
        name=given.name,
        tenant_id=DEFAULT_TENANT_ID,
        status="provisioning",
        number_e164=given.number.e164,
        number_status="pending",
        elevenlabs_agent_id=given.elevenlabs_agent_id,
        elevenlabs_status="pending",
        business_url=given.business_url,
        vertical=given.vertical,
        timezone=given.timezone,
        location=given.location,
        hours=given.hours,
        variables=dict(given.variables),
        extractions=given.extractions,
        sms=given.sms,
        settings={"record": given.record}
        | ({} if given.max_call_s is None else {"max_call_s": given.max_call_s}),
        steps=[{"name": name, "status": "pending", "ms": 0} for name in STEPS],
        provisioning_started_at=now,
        created_at=now,
        updated_at=now,
    )
    try:
        await known.store.write(agents.insert, record)
    except NumberTaken as taken:
        raise Problem(
            "conflict",
            f"{record.number_e164}: {taken}",
            errors=[("number.e164", str(taken))],
            agent_id=taken.agent_id,
        ) from taken
    known.provisioning.start(record.id)
    return answer(_shown(record), 202, {"Location": f"/v2/agents/{record.id}"})


@blueprint.get("/v2/agents")
@operation(name="listAgents", about="Agents", query=AgentsQuery, answers={200: listing(Agent)})
async def list_agents() -> Response:
    """List agents, the newest first"""
    query = read_query(AgentsQuery)
    records, cursor = await dependencies().store.read(
        agents.list_agents,
        tenant_id=query.tenant_id,
        status=query.status,
        limit=query.limit,
        cursor=query.cursor,
    )
    return page([_shown(record) for record in records], cursor)


@blueprint.get("/v2/agents/<agent_id>")
@operation(name="getAgent", about="Agents", answers={200: Agent}, problems=["not-found"])
async def get_agent(agent_id: str) -> Response:
    """Show an agent, and how far its provisioning has come"""
    record = await dependencies().store.read(agents.get, agent_id)
    if record is None:
        raise _no_agent(agent_id)
    return answer(_shown(record))


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

    Calls that begin afterwards see the change. The number and the ElevenLabs agent stay: make another
    agent for those.
    """
    given = await read_body(AgentPatch)
    changes = {name: getattr(given, name) for name in given.model_fields_set}
    record = await dependencies().store.write(
        _change, agent_id, changes, dependencies().clock.now()
    )
    return answer(_shown(record))


@blueprint.delete("/v2/agents/<agent_id>")
@operation(name="closeAgent", about="Agents", answers={200: Agent}, problems=["not-found"])
async def close_agent(agent_id: str) -> Response:
    """Close an agent

    Its number is free for another agent; calls in progress go on, the record stays.
    """
    record = await dependencies().store.write(_close, agent_id, dependencies().clock.now())
    return answer(_shown(record))


def _change(conn: Connection, agent_id: str, changes: dict[str, Any], now: Any) -> AgentRecord:
    """Read, change and write in one transaction, so that two changes at once both count."""
    record = agents.get(conn, agent_id, to_change=True)
    if record is None:
        raise _no_agent(agent_id)
    if record.status == agents.CLOSED:
        raise Problem("conflict", f"agent {agent_id} is closed")
    columns = {name: value for name, value in changes.items() if name not in _IN_SETTINGS}
    in_settings = {name: value for name, value in changes.items() if name in _IN_SETTINGS}
    columns["settings"] = {
        name: value for name, value in (record.settings | in_settings).items() if value is not None
    }
    columns["updated_at"] = now
    agents.update(conn, agent_id, **columns)
    return replace(record, **columns)


def _close(conn: Connection, agent_id: str, now: Any) -> AgentRecord:
    record = agents.get(conn, agent_id, to_change=True)
    if record is None:
        raise _no_agent(agent_id)
    if record.status == agents.CLOSED:
        return record
    columns = {"status": agents.CLOSED, "updated_at": now}
    agents.update(conn, agent_id, **columns)
    return replace(record, **columns)


def _check_supported(given: AgentCreate) -> None:
    for name in _BUYING:
        if getattr(given.number, name) is not None:
            raise invalid(
                f"number.{name}",
                "buying a number is not supported yet: give `e164` of one that the Twilio account owns",
                kind="not-supported",
            )
    if given.number.e164 is None:
        raise invalid("number.e164", "required: a number that the Twilio account owns")
    if given.elevenlabs_agent_id is None:
        raise invalid(
            "elevenlabs_agent_id",
            "making an ElevenLabs agent is not supported yet: give the id of one that the account has",
            kind="not-supported",
        )
    if given.tenant_id not in (None, DEFAULT_TENANT_ID):
        raise invalid("tenant_id", f"there is no tenant {given.tenant_id}")


def _shown(record: AgentRecord) -> Agent:
    known = dependencies()
    return agent_models.shown(
        record, account_sid=known.settings.twilio.account_sid, now=known.clock.now()
    )


def _no_agent(agent_id: str) -> Problem:
    return not_found(f"there is no agent {agent_id}")
