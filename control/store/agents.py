"""Agents: who answers a number, and how far their provisioning has come."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, bindparam, cast, exc, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.store import rows
from control.store.errors import NumberTaken, RecordNotFound
from control.store.prepared import Prepared
from control.store.records import AgentNumberRecord, AgentRecord
from control.store.tables import agents
from control.store.tables.provisioning import agent_numbers

CLOSED = "closed"
SERVING = ("live", "degraded")


def insert(conn: Connection, record: AgentRecord) -> None:
    """Add an agent. Raises NumberTaken when another, not closed, has its number."""
    if record.number_e164 is not None:
        holder = by_number(conn, record.number_e164)
        if holder is not None:
            raise NumberTaken(holder.id)
    try:
        conn.execute(sql_insert(agents).values(rows.values(record)))
    except exc.IntegrityError as error:
        # Two nodes at once: the index decides. Any other violation is a mistake of ours.
        if "number_e164" not in str(error.orig):
            raise
        raise NumberTaken(None) from error


def get(conn: Connection, agent_id: str, *, to_change: bool = False) -> AgentRecord | None:
    """The agent with this id, closed or not. `to_change`: nobody else changes it before we have."""
    if not to_change:
        return rows.find(conn, agents, AgentRecord, id=agent_id)
    return _one(conn, _query().where(agents.c.id == agent_id).with_for_update())


def by_number(conn: Connection, e164: str) -> AgentRecord | None:
    """The agent, not closed, whose number this is; with this number's place, when the number has one."""
    row = _BY_NUMBER.first(conn, {"e164": e164})
    if row is not None:
        return AgentRecord(*row)
    number = rows.find(conn, agent_numbers, AgentNumberRecord, e164=e164)
    if number is None:
        return None
    agent = get(conn, number.agent_id)
    return None if agent is None or agent.status == CLOSED else at_number(agent, number)


_BY_NUMBER = Prepared(
    rows.query(agents, AgentRecord).where(
        agents.c.number_e164 == bindparam("e164"), agents.c.status != CLOSED
    )
)


def at_number(agent: AgentRecord, number: AgentNumberRecord) -> AgentRecord:
    """The agent as callers of one of its further numbers meet it."""
    return replace(
        agent,
        number_e164=number.e164,
        number_sid=number.sid,
        number_type=number.type,
        location=number.wish.get("location", agent.location),
        timezone=number.wish.get("timezone") or agent.timezone,
    )


# ---- further numbers -----------------------------------------------------------------------------


def numbers_of(conn: Connection, agent_id: str) -> list[AgentNumberRecord]:
    """The agent's further numbers, the oldest first."""
    statement = (
        rows.query(agent_numbers, AgentNumberRecord)
        .where(agent_numbers.c.agent_id == agent_id)
        .order_by(agent_numbers.c.id)
    )
    return [rows.build(AgentNumberRecord, row) for row in conn.execute(statement)]


def add_number(conn: Connection, record: AgentNumberRecord) -> None:
    """Add a further number, bought or still to be. Raises NumberTaken."""
    if record.e164 is not None:
        holder = by_number(conn, record.e164)
        if holder is not None:
            raise NumberTaken(holder.id)
        # What a closed agent has left does not hold the number.
        conn.execute(sql_delete(agent_numbers).where(agent_numbers.c.e164 == record.e164))
    conn.execute(sql_insert(agent_numbers).values(rows.values(record)))


def update_number(conn: Connection, number_id: str, **columns: Any) -> None:
    """Set the named columns. Raises RecordNotFound."""
    statement = sql_update(agent_numbers).where(agent_numbers.c.id == number_id).values(columns)
    if conn.execute(statement).rowcount == 0:
        raise RecordNotFound(f"no number {number_id}")


def remove_number(conn: Connection, number_id: str) -> None:
    """Take a further number from its agent."""
    conn.execute(sql_delete(agent_numbers).where(agent_numbers.c.id == number_id))


def _number(conn: Connection, condition: ColumnElement[bool]) -> AgentNumberRecord | None:
    row = conn.execute(rows.query(agent_numbers, AgentNumberRecord).where(condition)).one_or_none()
    return None if row is None else rows.build(AgentNumberRecord, row)


# ---- lists ---------------------------------------------------------------------------------------


def list_agents(
    conn: Connection,
    *,
    tenant_id: str | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[AgentRecord], str | None]:
    """The newest agents first, and the cursor of the next page. Raises BadCursor."""
    statement = _query()
    if tenant_id is not None:
        statement = statement.where(agents.c.tenant_id == tenant_id)
    if status is not None:
        statement = statement.where(agents.c.status == status)
    asked = {"tenant": tenant_id, "status": status}
    return rows.page(conn, statement, AgentRecord, agents.c.id, limit, cursor, asked)


def waiting_ids(conn: Connection) -> list[str]:
    """Agents with unfinished work: provisioning, a change, a release. The oldest first."""
    waits = or_(agents.c.status == "provisioning", agents.c.pending.is_not(None))
    return list(conn.execute(select(agents.c.id).where(waits).order_by(agents.c.id)).scalars())


def with_retries(conn: Connection) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Id, status and steps of the agents that are to be tried again by themselves, the oldest first.

    Asked for every few seconds: of the agents that have failed for good nothing is read.
    """
    columns = select(agents.c.id, agents.c.status, agents.c.steps)
    troubled = agents.c.status.in_(("failed", "degraded")) & agents.c.pending.is_(None)
    planned = cast(agents.c.steps, Text).contains('"retry_at"')
    found = conn.execute(columns.where(troubled, planned).order_by(agents.c.id))
    return [(row.id, row.status, row.steps) for row in found]


def serving_ids(conn: Connection) -> list[str]:
    """Agents that take calls, the oldest first."""
    statement = select(agents.c.id).where(agents.c.status.in_(SERVING))
    return list(conn.execute(statement.order_by(agents.c.id)).scalars())


def serving_tenants(conn: Connection) -> list[str]:
    """Tenants with an agent that answers."""
    statement = select(agents.c.tenant_id).where(agents.c.status.in_(SERVING))
    return list(conn.execute(statement.distinct()).scalars())


def lease(
    conn: Connection, agent_id: str, owner: str, now: datetime, until: datetime
) -> AgentRecord | None:
    """The agent, ours alone until then; None while another daemon has it, or there is none.

    An owner that comes back after a crash takes its own lease over at once.
    """
    free = or_(
        agents.c.lease_until.is_(None), agents.c.lease_until < now, agents.c.lease_owner == owner
    )
    done = conn.execute(
        sql_update(agents)
        .where(agents.c.id == agent_id, free)
        .values(lease_owner=owner, lease_until=until)
    )
    return get(conn, agent_id) if done.rowcount else None


def release_lease(conn: Connection, agent_id: str, owner: str) -> None:
    """Others may have the agent."""
    conn.execute(
        sql_update(agents)
        .where(agents.c.id == agent_id, agents.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=None)
    )


def update(conn: Connection, agent_id: str, **columns: Any) -> None:
    """Set the named columns. Raises RecordNotFound."""
    if not columns:
        return
    done = conn.execute(sql_update(agents).where(agents.c.id == agent_id).values(columns))
    if done.rowcount == 0:
        raise RecordNotFound(f"no agent {agent_id}")


def _query() -> Select[Any]:
    return rows.query(agents, AgentRecord)


def _one(conn: Connection, statement: Select[Any]) -> AgentRecord | None:
    row = conn.execute(statement).one_or_none()
    return None if row is None else rows.build(AgentRecord, row)


def close_all(conn: Connection, tenant_id: str, now: datetime) -> None:
    """Close every agent of a tenant that is closed; Twilio takes its numbers back by itself."""
    open_ones = (agents.c.tenant_id == tenant_id) & (agents.c.status != CLOSED)
    conn.execute(sql_update(agents).where(open_ones).values(status=CLOSED, updated_at=now))
