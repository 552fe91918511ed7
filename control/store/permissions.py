"""Twilio's dialling permissions of each tenant's account, as they were read back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, or_, select

from control.store import rows
from control.store.tables import tenants
from control.store.tables.compliance import dialling_permissions


@dataclass(frozen=True, slots=True)
class PermissionsRecord:
    """`countries`: low risk, high-risk special and high-risk toll-fraud numbers, each on or off.

    `prefixes`: high-risk special ones, E.164 with the `+`, of the countries that the tenant may call.
    """

    tenant_id: str
    countries: dict[str, list[bool]]
    prefixes: dict[str, list[str]]
    read_at: datetime


def put(conn: Connection, record: PermissionsRecord) -> None:
    """What was read last is what is known."""
    mine = dialling_permissions.c.tenant_id == record.tenant_id
    conn.execute(delete(dialling_permissions).where(mine))
    conn.execute(insert(dialling_permissions).values(rows.values(record)))


def get(conn: Connection, tenant_id: str) -> PermissionsRecord | None:
    """None when they were never read."""
    return rows.find(conn, dialling_permissions, PermissionsRecord, tenant_id=tenant_id)


def unread_since(conn: Connection, since: datetime, limit: int) -> list[str]:
    """Active tenants whose permissions were not read since; those that were never read first."""
    t, p = tenants.c, dialling_permissions.c
    statement = (
        select(t.id)
        .outerjoin(dialling_permissions, p.tenant_id == t.id)
        .where(t.status == "active", or_(p.read_at.is_(None), p.read_at < since))
        .order_by(p.read_at.is_not(None), p.read_at, t.id)
        .limit(limit)
    )
    return list(conn.execute(statement).scalars())
