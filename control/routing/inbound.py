"""Reading what an inbound call's answer needs, in one transaction: agent, routes, the caller's past."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import phonenumbers
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from control import log
from control.routing.decide import Chosen, Setting, decide
from control.routing.model import Calendar, Route, Routes, check_zone, parse_hours
from control.store import agents, routes, tenants
from control.store.records import AgentRecord
from control.store.routes import Acquaintance, NumberRoutesRecord

_ROUTES: TypeAdapter[list[Route]] = TypeAdapter(Routes)


@dataclass(frozen=True, slots=True)
class Called:
    """Who is behind a called number, at this instant."""

    tenant_id: str | None
    """None: the number is nobody's."""
    agent: AgentRecord | None
    chosen: Chosen
    caller: Acquaintance
    limits: Any = None
    """Of the tenant, as they are stored."""


def read(conn: Connection, to_number: str, from_number: str, at: datetime) -> Called:
    """The number's routes go before its agent's; what a route leads to is the last word."""
    agent = agents.by_number(conn, to_number)
    number = routes.get(conn, to_number)
    if agent is not None and number is not None and number.tenant_id != agent.tenant_id:
        number = None  # left over from a former owner of the number
    # Without an agent the number itself has to be the tenant's still.
    if agent is None and number and routes.owner_of(conn, to_number) != number.tenant_id:
        number = None
    tenant_id = agent.tenant_id if agent else number.tenant_id if number else None
    if tenant_id is None:
        return Called(None, None, Chosen(None, None, "unknown number"), Acquaintance())
    chosen = choose(agent, number, to_number, at)
    if chosen.target is not None and chosen.target.agent_id is not None:
        agent, chosen = _other_agent(conn, tenant_id, agent, chosen)
    caller = routes.acquaintance(conn, tenant_id, from_number)
    tenant = tenants.get(conn, tenant_id)
    return Called(tenant_id, agent, chosen, caller, tenant.limits if tenant else None)


def choose(
    agent: AgentRecord | None, number: NumberRoutesRecord | None, e164: str, at: datetime
) -> Chosen:
    """The route that takes the call: of the number's list, else of the agent's."""
    setting = setting_of(agent, number, e164)
    for whose, listed in (
        ("number", number.routes if number else None),
        ("agent", agent.routes if agent else None),
    ):
        if not listed:
            continue
        chosen = decide(_parsed(listed, e164), at, setting)
        if chosen.target is not None:
            return replace(chosen, reason=f"{whose}'s {chosen.reason}")
    return Chosen(None, None, "no route matched: the agent")


def setting_of(agent: AgentRecord | None, number: NumberRoutesRecord | None, e164: str) -> Setting:
    """Zone, public holidays and opening hours: the number's own, else the agent's."""
    zone = (number.timezone if number else None) or (agent.timezone if agent else None) or "UTC"
    hours = (number.hours if number else None) or (agent.hours if agent else None)
    return Setting(_zone(zone), _calendar(agent, number, e164), parse_hours(hours))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(check_zone(name))
    except ValueError:
        return ZoneInfo("UTC")


def _calendar(
    agent: AgentRecord | None, number: NumberRoutesRecord | None, e164: str
) -> Calendar | None:
    location = agent.location if agent and isinstance(agent.location, dict) else {}
    country = _country(location.get("country")) or _country_of(e164)
    region = str(location.get("region") or location.get("state") or "").upper() or None
    candidates: list[Any] = [number.calendar if number else None]
    if country:
        candidates += [{"country": country, "region": region}, {"country": country}]
    for candidate in candidates:
        if candidate:
            try:
                return Calendar.model_validate(candidate)
            except ValidationError:
                continue  # a region or country whose holidays nobody knows
    return None


def _country(name: Any) -> str | None:
    return name.upper() if isinstance(name, str) and len(name) == 2 else None


def _country_of(e164: str) -> str | None:
    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(e164))
    except phonenumbers.NumberParseException:
        return None


def _parsed(listed: list[dict[str, Any]], e164: str) -> list[Route]:
    """Stored routes; what cannot be read (written by another version) is left out, and said."""
    try:
        return _ROUTES.validate_python(listed)
    except ValidationError as error:
        log.event("routes_unreadable", level="error", number=e164, errors=error.error_count())
        return []


def _other_agent(
    conn: Connection, tenant_id: str, agent: AgentRecord | None, chosen: Chosen
) -> tuple[AgentRecord | None, Chosen]:
    """The agent a route names; when it is not there any more, the number's own takes the call."""
    assert chosen.target is not None
    assert chosen.target.agent_id is not None
    other = agents.get(conn, chosen.target.agent_id)
    if other is None or other.tenant_id != tenant_id or other.status == agents.CLOSED:
        reason = f"{chosen.reason}; but that agent is not there any more"
        return agent, Chosen(None, chosen.index, reason)
    return other, Chosen(None, chosen.index, f"{chosen.reason}; agent {other.id}")
