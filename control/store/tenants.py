"""Tenants. One of them is always there; every row of the other tables names one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, or_, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.ids import DEFAULT_TENANT_ID
from control.store import rows
from control.store.errors import RecordNotFound
from control.store.records import TenantRecord
from control.store.tables import tenants

# A fixed date: the default tenant is part of the schema, nobody's act at some time.
_SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def ensure_default(conn: Connection) -> TenantRecord:
    """The default tenant, made when it is not there."""
    standing = get(conn, DEFAULT_TENANT_ID)
    if standing is not None:
        return standing
    record = TenantRecord(DEFAULT_TENANT_ID, "default", "active", _SINCE, _SINCE)
    add(conn, record)
    return record


def prove_writable(conn: Connection) -> None:
    """Change nothing, by a write: a database that can only be read is to be found out at start."""
    mine = tenants.c.id == DEFAULT_TENANT_ID
    conn.execute(sql_update(tenants).where(mine).values(status=tenants.c.status))


def add(conn: Connection, record: TenantRecord) -> None:
    """Add a tenant."""
    conn.execute(sql_insert(tenants).values(rows.values(record)))


def get(conn: Connection, tenant_id: str, *, to_change: bool = False) -> TenantRecord | None:
    """The tenant with this id. `to_change`: nobody else changes it before we have."""
    if not to_change:
        return rows.find(conn, tenants, TenantRecord, id=tenant_id)
    query = rows.query(tenants, TenantRecord).where(tenants.c.id == tenant_id)
    row = conn.execute(query.with_for_update()).one_or_none()
    return None if row is None else rows.build(TenantRecord, row)


def by_account(conn: Connection, account_sid: str) -> TenantRecord | None:
    """The tenant whose Twilio subaccount this is."""
    query = rows.query(tenants, TenantRecord).where(tenants.c.account_sid == account_sid)
    row = conn.execute(query).one_or_none()
    return None if row is None else rows.build(TenantRecord, row)


def list_tenants(
    conn: Connection,
    *,
    tenant_id: str | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[TenantRecord], str | None]:
    """The newest tenants first, and the next page's cursor; `tenant_id`: that one alone. Raises BadCursor."""
    statement = rows.query(tenants, TenantRecord)
    if tenant_id is not None:
        statement = statement.where(tenants.c.id == tenant_id)
    if status is not None:
        statement = statement.where(tenants.c.status == status)
    asked = {"tenant": tenant_id, "status": status}
    return rows.page(conn, statement, TenantRecord, tenants.c.id, limit, cursor, asked)


def change(conn: Connection, tenant_id: str, /, **columns: Any) -> None:
    """Set the named columns. Raises RecordNotFound."""
    done = conn.execute(sql_update(tenants).where(tenants.c.id == tenant_id).values(columns))
    if done.rowcount == 0:
        raise RecordNotFound(f"no tenant {tenant_id}")


def lease(conn: Connection, tenant_id: str, owner: str, now: datetime, until: datetime) -> bool:
    """What is done at Twilio for this tenant is ours until then; False while somebody else does it."""
    free = or_(
        tenants.c.lease_until.is_(None), tenants.c.lease_until < now, tenants.c.lease_owner == owner
    )
    statement = sql_update(tenants).where(tenants.c.id == tenant_id, free)
    return conn.execute(statement.values(lease_owner=owner, lease_until=until)).rowcount > 0


def release(conn: Connection, tenant_id: str, owner: str) -> None:
    """Others may do it again."""
    mine = (tenants.c.id == tenant_id) & (tenants.c.lease_owner == owner)
    conn.execute(sql_update(tenants).where(mine).values(lease_owner=None, lease_until=None))


def unsettled_ids(conn: Connection) -> list[str]:
    """Tenants of which Twilio is still to be told something, the oldest first."""
    wanted = or_(
        tenants.c.status.in_(("provisioning", "closing")),
        (tenants.c.status == "suspended") & (tenants.c.account_status == "active"),
        (tenants.c.status == "active") & (tenants.c.account_status == "suspended"),
    )
    query = select(tenants.c.id).where(wanted, tenants.c.id != DEFAULT_TENANT_ID)
    return list(conn.execute(query.order_by(tenants.c.id)).scalars())
