"""What has to be done once a call has ended: asked for in the very transaction that writes its end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy import update as sql_update

from control.store import outbox
from control.store.tables import calls

KIND = "after_call"
_TENANT = select(calls.c.tenant_id).where(calls.c.id == bindparam("id"))


def ended(conn: Connection, call_id: str, tenant_id: str, at: datetime) -> None:
    """This call is over. Its record is written by the same transaction, or not at all."""
    outbox.add(conn, kind=KIND, key=call_id, tenant_id=tenant_id, due_at=at)


def ended_by(conn: Connection, call_id: str, columns: Mapping[str, Any]) -> None:
    """The same for an update that may end the call."""
    at = columns.get("ended_at")
    if at is None:
        return
    tenant_id = conn.execute(_TENANT, {"id": call_id}).scalar_one()
    ended(conn, call_id, tenant_id, at)


def add_cost(conn: Connection, call_id: str, cost: Mapping[str, Any]) -> None:
    """Add to what the providers ask for; several tasks do, so the row is held meanwhile."""
    held = select(calls.c.bill).where(calls.c.id == call_id).with_for_update()
    known = conn.execute(held).scalar_one()
    conn.execute(
        sql_update(calls).where(calls.c.id == call_id).values(bill={**(known or {}), **cost})
    )
