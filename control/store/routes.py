"""The routes of called numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Select, bindparam, delete, func, insert, select, update

from control.ids import DEFAULT_TENANT_ID
from control.store import rows
from control.store.tables import calls
from control.store.tables.numbers import numbers
from control.store.tables.routing import number_routes
from control.strangers import is_somebody


@dataclass(frozen=True, slots=True)
class NumberRoutesRecord:
    """Who answers a number when: `routes` as `control.routing.model` reads them."""

    e164: str
    created_at: datetime
    updated_at: datetime
    tenant_id: str = DEFAULT_TENANT_ID
    timezone: str | None = None
    calendar: dict[str, Any] | None = None
    hours: dict[str, Any] | None = None
    routes: list[dict[str, Any]] = field(default_factory=list)


def get(conn: Connection, e164: str) -> NumberRoutesRecord | None:
    """The routes of this number."""
    return rows.find(conn, number_routes, NumberRoutesRecord, e164=e164)


def put(conn: Connection, record: NumberRoutesRecord) -> NumberRoutesRecord:
    """Replace the routes of a number; the date of the first ones stays."""
    values = rows.values(record)
    del values["created_at"]
    mine = number_routes.c.e164 == record.e164
    if not conn.execute(update(number_routes).where(mine).values(values)).rowcount:
        conn.execute(insert(number_routes).values(rows.values(record)))
    found = get(conn, record.e164)
    assert found is not None  # written above, in this transaction
    return found


def remove(conn: Connection, e164: str) -> bool:
    """Whether there were routes to remove."""
    return bool(conn.execute(delete(number_routes).where(number_routes.c.e164 == e164)).rowcount)


def owner_of(conn: Connection, e164: str) -> str | None:
    """The tenant that has this number, bought or adopted, whether or not an agent is on it."""
    statement = select(numbers.c.tenant_id).where(
        numbers.c.e164 == e164, numbers.c.status == "active"
    )
    return conn.execute(statement).scalar()


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """What is known of somebody who calls, or is called: from a tenant's earlier calls."""

    calls: int = 0
    last_at: datetime | None = None
    last_summary: str | None = None


CALLS_COUNTED_MAX = 999
LOOKED_AT = 5
"""Of the latest calls, for one that has a summary."""


def acquaintance(conn: Connection, tenant_id: str, number: str) -> Acquaintance:
    """The tenant's earlier calls with this number, both ways, up to CALLS_COUNTED_MAX each.

    Nothing of those who withhold their number: one would be told what another has said.
    """
    if not is_somebody(number):
        return Acquaintance()
    count, newest, summary = 0, None, None
    whose = {"tenant_id": tenant_id, "number": number}
    for how_many, latest in _EARLIER_CALLS:
        found = conn.execute(latest, whose).all()
        if len(found) < LOOKED_AT:
            count += len(found)
        else:
            count += conn.execute(how_many, whose).scalar_one()
        if found and (newest is None or found[0].created_at > newest):
            newest = found[0].created_at
            summary = next((row.summary for row in found if row.summary), None)
    return Acquaintance(min(count, CALLS_COUNTED_MAX), newest, summary)


def _earlier_calls(column: Column[Any]) -> tuple[Select[Any], Select[Any]]:
    """How many there are, counted by the database as far as anybody wants to know; and the latest few."""
    mine = (
        calls.c.tenant_id == bindparam("tenant_id"),
        column == bindparam("number"),
        calls.c.ended_at.is_not(None),
    )
    some = select(calls.c.id).where(*mine).limit(CALLS_COUNTED_MAX).subquery()
    latest = select(calls.c.created_at, calls.c.summary).where(*mine).order_by(calls.c.id.desc())
    return select(func.count()).select_from(some), latest.limit(LOOKED_AT)


# Two reads by index; one with OR would walk the whole table.
_EARLIER_CALLS = (_earlier_calls(calls.c.from_number), _earlier_calls(calls.c.to_number))
