"""What requests do to the records of agents: new ones, changes, another try, the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection

from control import ids
from control.api import agent_checks
from control.api.agent_models import AgentCreate
from control.api.auth import principal, tenant_for_new
from control.api.dependencies import dependencies
from control.api.problem import Problem, invalid, not_found
from control.provisioning import STEPS
from control.routing.model import Route
from control.store import NumberTaken, agents, intents
from control.store.records import AgentNumberRecord, AgentRecord

_IN_SETTINGS = frozenset(
    {
        "record",
        "max_call_s",
        "prompt",
        "first_message",
        "language",
        "voice_id",
        "transfer_numbers",
        "fallback",
        "machine_detection",
        "opt_out_digit",
        "purpose",
        "script",
    }
)
_AT_ELEVENLABS = frozenset(
    {
        "name",
        "location",
        "timezone",
        "hours",
        "variables",
        "extractions",
        "vertical",
        "business_url",
    }
    | {"prompt", "first_message", "language", "voice_id", "max_call_s"}
)
"""Fields of which a change has to reach the ElevenLabs agent."""


async def new_records(given: AgentCreate) -> tuple[AgentRecord, list[AgentNumberRecord]]:
    """The records of what was asked for. Raises Problem."""
    known = dependencies()
    may_move = principal().is_admin
    wish = agent_checks.wish_of(given.number, "number", may_move=may_move)
    agent_checks.check_vertical(given.vertical, known.provisioning.verticals)
    agent_checks.check_business_url(given.business_url)
    now = known.clock.now()
    settings = {"record": given.record, "number": wish} | {
        name: as_setting(getattr(given, name))
        for name in (*sorted(_IN_SETTINGS - {"record"}), "manage")
        if getattr(given, name) is not None
    }
    if not given.self_test:
        settings["self_test"] = False
    record = AgentRecord(
        id=ids.new_id(ids.AGENT, now),
        name=given.name,
        tenant_id=await tenant_for_new(given.tenant_id),
        status="provisioning",
        number_e164=given.number.e164,
        number_type=given.number.type,
        number_status="pending",
        elevenlabs_agent_id=given.elevenlabs_agent_id,
        elevenlabs_status="pending",
        business_url=given.business_url,
        vertical=given.vertical,
        timezone=given.timezone,
        location=given.location,
        hours=given.hours,
        routes=as_stored(given.routes),
        variables=dict(given.variables),
        extractions=given.extractions,
        sms=given.sms,
        settings=settings,
        steps=[{"name": name, "status": "pending", "ms": 0} for name in STEPS],
        provisioning_started_at=now,
        created_at=now,
        updated_at=now,
    )
    agent_checks.check_fields(record, known.provisioning.verticals)
    further = [
        further_number(record, number, f"numbers.{index}", may_move=may_move)
        for index, number in enumerate(given.numbers)
    ]
    wanted = {given.number.e164}
    for index, number in enumerate(given.numbers):
        if number.e164 is not None and number.e164 in wanted:
            raise invalid(f"numbers.{index}.e164", "given twice")
        wanted.add(number.e164)
    return record, further


def further_number(
    agent: AgentRecord, given: Any, field: str, *, may_move: bool
) -> AgentNumberRecord:
    """A further number that is to be had. Raises Problem."""
    wish = agent_checks.wish_of(given, field, may_move=may_move)
    wish |= {
        name: getattr(given, name)
        for name in ("location", "timezone")
        if getattr(given, name) is not None
    }
    now = dependencies().clock.now()
    return AgentNumberRecord(
        id=ids.new_id("anum", now),
        agent_id=agent.id,
        created_at=now,
        updated_at=now,
        tenant_id=agent.tenant_id,
        e164=given.e164,
        type=given.type,
        wish=wish,
    )


def insert(conn: Connection, record: AgentRecord, further: list[AgentNumberRecord]) -> None:
    _check_routes(conn, record, record.routes or [])
    agents.insert(conn, record)
    for index, number in enumerate(further):
        try:
            agents.add_number(conn, number)
        except NumberTaken as taken:
            raise number_taken(taken, f"numbers.{index}.e164") from taken


def number_taken(taken: NumberTaken, field: str) -> Problem:
    """409: another agent has the number."""
    return Problem("conflict", str(taken), errors=[(field, str(taken))], agent_id=taken.agent_id)


# ---- changing ------------------------------------------------------------------------------------


def change(conn: Connection, agent_id: str, changes: dict[str, Any], now: Any) -> AgentRecord:
    """Read, change and write in one transaction, so that two changes at once both count."""
    record = _open(conn, agent_id)
    if "routes" in changes:
        changes = changes | {"routes": as_stored(changes["routes"])}
        _check_routes(conn, record, changes["routes"] or [])
    if "number" in changes:
        _check_number_is_open(conn, record, changes["number"])
    columns = {name: value for name, value in changes.items() if name not in _IN_SETTINGS}
    in_settings = {
        name: as_setting(value) for name, value in changes.items() if name in _IN_SETTINGS
    }
    if "number" in columns:
        asked = columns.pop("number")
        in_settings["number"] = asked
        columns |= {"number_e164": asked.get("e164"), "number_type": asked.get("type")}
        columns["number_status"] = "pending"
    columns["settings"] = {
        name: value for name, value in (record.settings | in_settings).items() if value is not None
    }
    columns["updated_at"] = now
    known = dependencies().provisioning.verticals
    agent_checks.check_vertical(changes.get("vertical"), known)
    agent_checks.check_business_url(changes.get("business_url"))
    agent_checks.check_fields(replace(record, **columns), known)
    if _AT_ELEVENLABS & set(changes):
        columns |= ask_for(record, ["elevenlabs_update"], now)
    agents.update(conn, agent_id, **columns)
    return replace(record, **columns)


def as_setting(value: Any) -> Any:
    """As JSON."""
    return value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value


def as_stored(routes: list[Route] | None) -> list[dict[str, Any]] | None:
    """Routes as JSON."""
    if routes is None:
        return None
    return [route.model_dump(by_alias=True, exclude_none=True) for route in routes]


def _check_routes(conn: Connection, record: AgentRecord, routes: list[dict[str, Any]]) -> None:
    for index, route in enumerate(routes):
        agent_id = route["to"].get("agent_id")
        other = agents.get(conn, agent_id) if agent_id else None
        if agent_id and (other is None or other.tenant_id != record.tenant_id):
            raise invalid(f"routes.{index}.to.agent_id", f"there is no agent {agent_id}")


def _check_number_is_open(conn: Connection, record: AgentRecord, wish: dict[str, Any]) -> None:
    """Raises Problem (409), NumberTaken."""
    why = None
    if record.number_sid:
        why = f"the agent has {record.number_e164}: make another agent, or add a further number"
    elif record.status not in ("failed", "degraded"):
        why = f"the agent is {record.status}: a number may be being bought"
    if why:
        raise Problem("conflict", why, errors=[("number", why)])
    holder = agents.by_number(conn, wish["e164"]) if wish.get("e164") else None
    if holder is not None and holder.id != record.id:
        raise NumberTaken(holder.id)


def ask_for(record: AgentRecord, steps: list[str], now: Any) -> dict[str, Any]:
    """Columns that have these steps done in the background.

    While the agent is still being made the running saga sees to it: each step reads what is asked for.
    """
    if record.status not in ("live", "degraded", "provisioning"):
        return {}
    asked = [
        {"name": name, "status": "pending", "ms": 0, "asked_at": now.isoformat()} for name in steps
    ]
    kept = [step for step in record.steps if step.get("name") not in steps]
    return {"steps": [*kept, *asked], "pending": "update"}


def retry(conn: Connection, agent_id: str, now: Any) -> None:
    record = _open(conn, agent_id)
    if record.status not in ("failed", "degraded"):
        raise Problem("conflict", f"agent {agent_id} is {record.status}: there is nothing to retry")
    columns: dict[str, Any] = {}
    made = record.elevenlabs or {}
    if record.elevenlabs_status == "missing" and made.get("created"):
        # Deleted at ElevenLabs by hand: another one is made.
        intents.forget(conn, "elevenlabs_agent", agent_id)
        columns |= {"elevenlabs_agent_id": None, "elevenlabs": {**made, "created": False}}
    over = ("done", "skipped")
    steps = [
        step
        for step in record.steps
        if step.get("status") in over and not step.get("error") and step.get("name") != "live"
    ]
    if columns:
        steps = [s for s in steps if s["name"] not in ("elevenlabs_agent", "self_test")]
    pending = None
    if made.get("managed") and not columns:
        # What was changed while it had failed is not known there yet.
        asked = {"name": "elevenlabs_update", "status": "pending", "ms": 0}
        steps = [s for s in steps if s["name"] != "elevenlabs_update"]
        steps.append({**asked, "asked_at": now.isoformat()})
        pending = "update"
    columns |= {
        "status": "provisioning",
        "pending": pending,
        "steps": steps,
        "provisioning_started_at": now,
        "provisioning_ended_at": None,
        "updated_at": now,
    }
    agents.update(conn, agent_id, **columns)


def close(conn: Connection, agent_id: str, what: list[str], now: Any) -> AgentRecord:
    record = agents.get(conn, agent_id, to_change=True)
    if record is None:
        raise no_agent(agent_id)
    columns: dict[str, Any] = {}
    if record.status != agents.CLOSED:
        columns |= {"status": agents.CLOSED, "pending": None, "updated_at": now}
    if what:
        kept = [step for step in record.steps if step.get("name") != "release"]
        asked = {"name": "release", "status": "pending", "ms": 0, "what": what}
        asked["asked_at"] = now.isoformat()
        columns |= {"pending": "release", "steps": [*kept, asked], "updated_at": now}
    if columns:
        agents.update(conn, agent_id, **columns)
    return replace(record, **columns)


def _open(conn: Connection, agent_id: str) -> AgentRecord:
    record = agents.get(conn, agent_id, to_change=True)
    if record is None:
        raise no_agent(agent_id)
    if record.status == agents.CLOSED:
        raise Problem("conflict", f"agent {agent_id} is closed")
    return record


def no_agent(agent_id: str) -> Problem:
    return not_found(f"there is no agent {agent_id}")
