"""What was asked of a provider, written down before it was asked.

open_      before the request: the thing may exist from now on
made       its answer is known: here is the thing's id
forget     the thing was deleted, or is somebody else's business now
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import delete as sql_delete
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.ids import DEFAULT_TENANT_ID
from control.store import rows
from control.store.tables.provisioning import provisioning_intents as table

OPEN = "open"
MADE = "made"


@dataclass(frozen=True, slots=True)
class Intent:
    """`kind` and `key` name the thing; `resource_id` is the provider's name for it once it is made."""

    kind: str
    key: str
    created_at: datetime
    updated_at: datetime
    tenant_id: str = DEFAULT_TENANT_ID
    agent_id: str | None = None
    state: str = OPEN
    resource_id: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


def get(conn: Connection, kind: str, key: str) -> Intent | None:
    """The intent, if there is one."""
    statement = rows.query(table, Intent).where(table.c.kind == kind, table.c.key == key)
    row = conn.execute(statement).one_or_none()
    return None if row is None else rows.build(Intent, row)


def of_agent(conn: Connection, agent_id: str) -> list[Intent]:
    """All that was asked for an agent, the oldest first."""
    statement = (
        rows.query(table, Intent)
        .where(table.c.agent_id == agent_id)
        .order_by(table.c.created_at, table.c.kind)
    )
    return [rows.build(Intent, row) for row in conn.execute(statement)]


def open_(conn: Connection, intent: Intent) -> Intent:
    """Write the intent down, unless it is there; returns the one that counts."""
    known = get(conn, intent.kind, intent.key)
    if known is not None:
        return known
    conn.execute(sql_insert(table).values(rows.values(intent)))
    return intent


def made(conn: Connection, kind: str, key: str, resource_id: str, at: datetime) -> None:
    """It exists, and this is its id."""
    conn.execute(
        sql_update(table)
        .where(table.c.kind == kind, table.c.key == key)
        .values(state=MADE, resource_id=resource_id, updated_at=at)
    )


def forget(conn: Connection, kind: str, key: str) -> None:
    """It is gone."""
    conn.execute(sql_delete(table).where(table.c.kind == kind, table.c.key == key))
