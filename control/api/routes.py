"""`/v2/numbers/{e164}/routes`: who answers a number at which hour."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field
from quart import Blueprint, Response
from sqlalchemy import Connection

from control.api.answers import Answer, answer
from control.api.auth import principal
from control.api.dependencies import dependencies
from control.api.openapi import NoContent, operation
from control.api.problem import Problem, invalid, not_found
from control.api.reading import Body, Query, check_e164, read_body, read_query
from control.routing.inbound import choose, setting_of
from control.routing.model import ROUTES_MAX, Calendar, Hours, Route, check_zone
from control.store import agents
from control.store import routes as stored
from control.store.records import AgentRecord
from control.store.routes import NumberRoutesRecord

blueprint = Blueprint("routes", __name__)


class RoutesPut(Body):
    """The routes of a number; the first one that matches takes the call, else its agent does."""

    routes: list[Route] = Field(max_length=ROUTES_MAX)
    timezone: Annotated[str, AfterValidator(check_zone)] | None = Field(
        None, description="An IANA name; the agent's own when left out."
    )
    calendar: Calendar | None = Field(
        None, description="Whose public holidays; the agent's place or the number's country."
    )
    hours: Hours | None = Field(
        None, description='Opening hours by day, `{"mon": ["09:00-17:00"]}`; the agent\'s own.'
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "timezone": "America/New_York",
                    "routes": [
                        {
                            "when": {"days": ["mon", "tue"], "from": "09:00", "to": "17:00"},
                            "to": {"number": "+15550100456", "timeout_s": 20},
                        },
                        {"when": {"holidays": True}, "to": {"message": "We are closed today."}},
                    ],
                }
            ]
        }
    )


class Routes(Answer):
    """The routes of a number, and which of them would take a call now (or `at`)."""

    e164: str
    tenant_id: str
    timezone: str | None
    calendar: dict[str, Any] | None
    hours: dict[str, Any] | None
    routes: list[dict[str, Any]]
    updated_at: datetime | None
    now: dict[str, Any] = Field(description="`{index, target, reason}`; `index` null: the agent.")


class RoutesQuery(Query):
    at: datetime | None = Field(None, description="The instant to decide for; now when left out.")


@blueprint.get("/v2/numbers/<e164>/routes")
@operation(
    name="getRoutes",
    about="Numbers",
    query=RoutesQuery,
    answers={200: Routes},
    problems=["not-found"],
)
async def get_routes(e164: str) -> Response:
    """Show a number's routes, and which one takes a call at an instant"""
    number, query = check_e164(e164, "e164"), read_query(RoutesQuery)
    if query.at is not None and query.at.tzinfo is None:
        raise invalid("at", "needs an offset, such as Z or -05:00")
    tenant_id, agent, record = await dependencies().store.read(_read, number)
    _require(number, tenant_id)
    return answer(_shown(number, tenant_id or "", agent, record, query.at))


@blueprint.put("/v2/numbers/<e164>/routes")
@operation(
    name="setRoutes",
    about="Numbers",
    body=RoutesPut,
    answers={200: Routes},
    problems=["not-found", "invalid"],
)
async def set_routes(e164: str) -> Response:
    """Set a number's routes

    They replace the former ones whole and go before the routes of the number's agent. Calls that come afterwards
    see them.
    """
    number, given = check_e164(e164, "e164"), await read_body(RoutesPut)
    store, now = dependencies().store, dependencies().clock.now()
    tenant_id, agent, _ = await store.read(_read, number)
    _require(number, tenant_id)
    assert tenant_id is not None
    await check_agents(given.routes, tenant_id)
    record = NumberRoutesRecord(
        number,
        now,
        now,
        tenant_id=tenant_id,
        timezone=given.timezone,
        calendar=given.calendar.model_dump(exclude_none=True) if given.calendar else None,
        hours=given.hours,
        routes=[route.model_dump(by_alias=True, exclude_none=True) for route in given.routes],
    )
    kept = await store.write(stored.put, record)
    return answer(_shown(number, tenant_id, agent, kept, None))


@blueprint.delete("/v2/numbers/<e164>/routes")
@operation(
    name="removeRoutes",
    about="Numbers",
    answers={204: NoContent},
    problems=["not-found", "invalid"],
)
async def remove_routes(e164: str) -> Response:
    """Remove a number's routes; its agent's own count again"""
    number = check_e164(e164, "e164")
    tenant_id, _, record = await dependencies().store.read(_read, number)
    _require(number, tenant_id)
    if record is None:
        raise not_found(f"{number} has no routes")
    await dependencies().store.write(stored.remove, number)
    return Response(b"", status=204)


async def check_agents(routes: list[Route], tenant_id: str) -> None:
    """Every agent that a route names is the tenant's. Raises Problem (422)."""
    for index, route in enumerate(routes):
        agent_id = route.to.agent_id
        if agent_id is None:
            continue
        agent = await dependencies().store.read(agents.get, agent_id)
        if agent is None or agent.tenant_id != tenant_id or agent.status == agents.CLOSED:
            raise invalid(f"routes.{index}.to.agent_id", f"there is no agent {agent_id}")


def _read(
    conn: Connection, e164: str
) -> tuple[str | None, AgentRecord | None, NumberRoutesRecord | None]:
    """Whose number it is, its agent and its routes."""
    agent = agents.by_number(conn, e164)
    tenant_id = agent.tenant_id if agent else stored.owner_of(conn, e164)
    record = stored.get(conn, e164)
    if record is not None and record.tenant_id != tenant_id:
        record = None  # a former owner's
    return tenant_id, agent, record


def _require(e164: str, tenant_id: str | None) -> None:
    if tenant_id is None or principal().tenant_id not in (None, tenant_id):
        raise _no_number(e164)


def _no_number(e164: str) -> Problem:
    return not_found(f"there is no number {e164}")


def _shown(
    e164: str,
    tenant_id: str,
    agent: AgentRecord | None,
    record: NumberRoutesRecord | None,
    at: datetime | None,
) -> Routes:
    chosen = choose(agent, record, e164, at or dependencies().clock.now())
    setting = setting_of(agent, record, e164)
    calendar = setting.calendar.model_dump(exclude_none=True) if setting.calendar else None
    return Routes(
        e164=e164,
        tenant_id=tenant_id,
        timezone=str(setting.zone),
        calendar=calendar,
        hours=record.hours if record else None,
        routes=record.routes if record else [],
        updated_at=record.updated_at if record else None,
        now={
            "index": chosen.index,
            "target": chosen.target.kind if chosen.target else "agent",
            "reason": chosen.reason,
        },
    )
