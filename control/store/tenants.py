"""Tenants. One implicit tenant for now; every row of the other tables names it."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, insert, update

from control.ids import DEFAULT_TENANT_ID
from control.store import rows
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
    conn.execute(insert(tenants).values(rows.values(record)))
    return record


def prove_writable(conn: Connection) -> None:
    """Change nothing, by a write: a database that can only be read is to be found out at start."""
    mine = tenants.c.id == DEFAULT_TENANT_ID
    conn.execute(update(tenants).where(mine).values(status=tenants.c.status))


def get(conn: Connection, tenant_id: str) -> TenantRecord | None:
    """The tenant with this id."""
    query = rows.query(tenants, TenantRecord).where(tenants.c.id == tenant_id)
    row = conn.execute(query).one_or_none()
    return None if row is None else rows.build(TenantRecord, row)
