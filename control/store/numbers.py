"""Numbers: bought, adopted, released, and the intents to buy."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, exc, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.ids import DEFAULT_TENANT_ID
from control.store import rows
from control.store.errors import NumberTaken, RecordNotFound
from control.store.prepared import Prepared
from control.store.tables.core import agents
from control.store.tables.numbers import numbers
from control.store.tables.provisioning import agent_numbers

BUYING = "buying"
ACTIVE = "active"
RELEASED = "released"
GONE = "gone"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NumberRecord:
    """A telephone number of a tenant, or the intent to buy one."""

    id: str
    created_at: datetime
    updated_at: datetime
    tenant_id: str = DEFAULT_TENANT_ID
    status: str = BUYING
    """`buying`, `active`, `released`, `gone` (not in the account any more), `failed` (nothing bought)."""
    e164: str | None = None
    sid: str | None = None
    type: str | None = None
    country: str | None = None
    region: str | None = None
    locality: str | None = None
    capabilities: dict[str, bool] = field(default_factory=dict)
    agent_id: str | None = None
    origin: str = "bought"
    """`bought` or `adopted`."""
    intent_key: str | None = None
    friendly_name: str | None = None
    """What the number is called at Twilio; by it a purchase is found whose answer was lost."""
    wish: dict[str, Any] = field(default_factory=dict)
    attempt_e164: str | None = None
    attempt_at: datetime | None = None
    """The request that was last about to be sent: its outcome may be unknown."""
    bundle_sid: str | None = None
    address_sid: str | None = None
    problem: dict[str, Any] | None = None
    checked_at: datetime | None = None
    mended_at: datetime | None = None
    mended: list[str] = field(default_factory=list)
    released_at: datetime | None = None


def begin(conn: Connection, record: NumberRecord) -> NumberRecord:
    """Add the intent, or answer with the one that this tenant has under the same `intent_key`."""
    if record.intent_key is None:
        return _insert(conn, record)
    same = _query().where(
        numbers.c.tenant_id == record.tenant_id, numbers.c.intent_key == record.intent_key
    )
    standing = _one(conn, same)
    if standing is not None:
        return standing
    try:
        with conn.begin_nested():
            conn.execute(sql_insert(numbers).values(rows.values(record)))
    except exc.IntegrityError:
        standing = _one(conn, same)  # two nodes at once: the index decides
        if standing is None:
            raise
        return standing
    return record


def _insert(conn: Connection, record: NumberRecord) -> NumberRecord:
    """Raises NumberTaken when another active record has the number."""
    try:
        with conn.begin_nested():
            conn.execute(sql_insert(numbers).values(rows.values(record)))
    except exc.IntegrityError as error:
        if "e164" not in str(error.orig):
            raise
        raise NumberTaken(None) from error
    return record


def get(conn: Connection, key: str, *, tenant_id: str | None = None) -> NumberRecord | None:
    """By id or E.164. Of one number's several records the active one, else the newest."""
    query = _query()
    if key.startswith("+"):
        query = query.where(numbers.c.e164 == key).order_by(
            (numbers.c.status != ACTIVE), numbers.c.id.desc()
        )
    else:
        query = query.where(numbers.c.id == key)
    if tenant_id is not None:
        query = query.where(numbers.c.tenant_id == tenant_id)
    row = conn.execute(query.limit(1)).one_or_none()
    return None if row is None else rows.build(NumberRecord, row)


def active(conn: Connection, e164: str) -> NumberRecord | None:
    """The record, of whichever tenant, by which this number is ours."""
    row = _ACTIVE.first(conn, {"e164": e164})
    return None if row is None else NumberRecord(*row)


_ACTIVE = Prepared(
    rows.query(numbers, NumberRecord).where(
        numbers.c.e164 == bindparam("e164"), numbers.c.status == ACTIVE
    )
)


def holder(conn: Connection, e164: str) -> str | None:
    """The agent, not closed, that uses this number: as its first, or as a further one."""
    first = select(agents.c.id).where(agents.c.number_e164 == e164, agents.c.status != "closed")
    further = (
        select(agents.c.id)
        .join(agent_numbers, agent_numbers.c.agent_id == agents.c.id)
        .where(agent_numbers.c.e164 == e164, agents.c.status != "closed")
    )
    found = conn.execute(first).scalars().first() or conn.execute(further).scalars().first()
    return None if found is None else str(found)


def interrupted(conn: Connection, before: datetime, limit: int) -> list[NumberRecord]:
    """Intents that were about to be sent and that nobody has touched since `before`, the oldest first."""
    statement = (
        _query()
        .where(
            numbers.c.status == BUYING,
            numbers.c.attempt_e164.is_not(None),
            numbers.c.updated_at < before,
        )
        .order_by(numbers.c.updated_at)
        .limit(limit)
    )
    return [rows.build(NumberRecord, row) for row in conn.execute(statement)]


def list_numbers(
    conn: Connection,
    *,
    tenant_id: str | None = None,
    status: str | None = None,
    agent_id: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[NumberRecord], str | None]:
    """The newest first, and the cursor of the next page. Raises BadCursor."""
    statement = _query()
    for column, wanted in (
        (numbers.c.tenant_id, tenant_id),
        (numbers.c.status, status),
        (numbers.c.agent_id, agent_id),
    ):
        if wanted is not None:
            statement = statement.where(column == wanted)
    asked = {"tenant": tenant_id, "status": status, "agent": agent_id}
    return rows.page(conn, statement, NumberRecord, numbers.c.id, limit, cursor, asked)


def update(conn: Connection, number_id: str, /, **columns: Any) -> NumberRecord:
    """Set the named columns. Raises RecordNotFound, and NumberTaken when another active record has it."""
    try:
        done = conn.execute(sql_update(numbers).where(numbers.c.id == number_id).values(columns))
    except exc.IntegrityError as error:
        if "e164" not in str(error.orig):
            raise
        raise NumberTaken(None) from error
    found = get(conn, number_id)
    if done.rowcount == 0 or found is None:
        raise RecordNotFound(f"no number {number_id}")
    return found


def _query() -> Select[Any]:
    return rows.query(numbers, NumberRecord)


def _one(conn: Connection, statement: Select[Any]) -> NumberRecord | None:
    row = conn.execute(statement).one_or_none()
    return None if row is None else rows.build(NumberRecord, row)
