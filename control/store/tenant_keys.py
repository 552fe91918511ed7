"""API keys of tenants: digests of them, and when they were used."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.store import rows
from control.store.records import TenantKeyRecord, TenantRecord
from control.store.tables import tenants
from control.store.tables.tenancy import tenant_keys


def insert(conn: Connection, record: TenantKeyRecord) -> None:
    """Add a key."""
    conn.execute(sql_insert(tenant_keys).values(rows.values(record)))


def by_digest(conn: Connection, digest: str) -> tuple[TenantKeyRecord, TenantRecord] | None:
    """The key that is not revoked, and whose it is."""
    key_columns = rows.columns(tenant_keys, TenantKeyRecord)
    statement = (
        select(*key_columns, *rows.columns(tenants, TenantRecord))
        .join(tenants, tenants.c.id == tenant_keys.c.tenant_id)
        .where(tenant_keys.c.digest == digest, tenant_keys.c.revoked_at.is_(None))
    )
    row = conn.execute(statement).one_or_none()
    if row is None:
        return None
    split = len(key_columns)
    return TenantKeyRecord(*row[:split]), TenantRecord(*row[split:])


def list_keys(
    conn: Connection, *, tenant_id: str, limit: int = 50, cursor: str | None = None
) -> tuple[list[TenantKeyRecord], str | None]:
    """The tenant's keys, revoked ones too, the newest first; the next page's cursor. Raises BadCursor."""
    statement = rows.query(tenant_keys, TenantKeyRecord).where(tenant_keys.c.tenant_id == tenant_id)
    asked = {"tenant": tenant_id}
    return rows.page(conn, statement, TenantKeyRecord, tenant_keys.c.id, limit, cursor, asked)


def count_in_force(conn: Connection, tenant_id: str) -> int:
    """Keys of the tenant that are not revoked."""
    mine = (tenant_keys.c.tenant_id == tenant_id) & tenant_keys.c.revoked_at.is_(None)
    return conn.execute(select(func.count()).where(mine)).scalar_one()


def revoke(conn: Connection, tenant_id: str, key_id: str, at: datetime) -> bool:
    """No request with this key is answered any more. False when there was none in force."""
    mine = (tenant_keys.c.tenant_id == tenant_id) & (tenant_keys.c.id == key_id)
    in_force = mine & tenant_keys.c.revoked_at.is_(None)
    return conn.execute(sql_update(tenant_keys).where(in_force).values(revoked_at=at)).rowcount > 0


def revoke_all(conn: Connection, tenant_id: str, at: datetime) -> None:
    """Every key of a tenant that is closed."""
    in_force = (tenant_keys.c.tenant_id == tenant_id) & tenant_keys.c.revoked_at.is_(None)
    conn.execute(sql_update(tenant_keys).where(in_force).values(revoked_at=at))


def used(conn: Connection, key_id: str, at: datetime) -> None:
    """Note the last use."""
    conn.execute(sql_update(tenant_keys).where(tenant_keys.c.id == key_id).values(last_used_at=at))
