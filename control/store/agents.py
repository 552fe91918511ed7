"""Agents: who answers a number, and how far their provisioning has come."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, exc, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.store import cursor as cursors
from control.store import rows
from control.store.errors import NumberTaken, RecordNotFound
from control.store.records import AgentRecord
from control.store.tables import agents

CLOSED = "closed"


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
    query = _query().where(agents.c.id == agent_id)
    return _one(conn, query.with_for_update() if to_change else query)


def by_number(conn: Connection, e164: str) -> AgentRecord | None:
    """The agent, not closed, whose number this is."""
    return _one(conn, _query().where(agents.c.number_e164 == e164, agents.c.status != CLOSED))


def list_agents(
    conn: Connection,
    *,
    tenant_id: str | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[AgentRecord], str | None]:
    """The newest agents first, and the cursor of the next page. Raises BadCursor."""
    statement = _query().order_by(agents.c.id.desc())
    if tenant_id is not None:
        statement = statement.where(agents.c.tenant_id == tenant_id)
    if status is not None:
        statement = statement.where(agents.c.status == status)
    if cursor is not None:
        statement = statement.where(agents.c.id < cursors.decode(cursor))
    return rows.page(conn, statement, AgentRecord, "id", limit)


def provisioning_ids(conn: Connection) -> list[str]:
    """Agents whose provisioning has not come to its end, the oldest first."""
    statement = select(agents.c.id).where(agents.c.status == "provisioning").order_by(agents.c.id)
    return list(conn.execute(statement).scalars())


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
