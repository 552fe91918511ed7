"""Sealed secrets of tenants' Twilio subaccounts. Nothing here can open them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.store import rows
from control.store.records import CredentialRecord
from control.store.tables.tenancy import tenant_credentials as table

AUTH_TOKEN = "auth_token"
API_KEY = "api_key"
MINTING = "minting"
CURRENT = "current"
RETIRING = "retiring"
REVOKED = "revoked"


def add(conn: Connection, record: CredentialRecord) -> None:
    """Add one."""
    conn.execute(sql_insert(table).values(rows.values(record)))


def of_tenant(conn: Connection, tenant_id: str, kind: str, *states: str) -> list[CredentialRecord]:
    """The tenant's credentials of a kind in these states, the newest first."""
    statement = (
        rows.query(table, CredentialRecord)
        .where(table.c.tenant_id == tenant_id, table.c.kind == kind, table.c.state.in_(states))
        .order_by(table.c.id.desc())
    )
    return [rows.build(CredentialRecord, row) for row in conn.execute(statement)]


def current(conn: Connection, tenant_id: str, kind: str) -> CredentialRecord | None:
    """The one in use."""
    return next(iter(of_tenant(conn, tenant_id, kind, CURRENT)), None)


def minted(conn: Connection, credential_id: str, sid: str, sealed: str, at: datetime) -> None:
    """Its secret is known now: it is the one in use, and what was before retires."""
    mine = conn.execute(select(table.c.tenant_id, table.c.kind).where(table.c.id == credential_id))
    tenant_id, kind = mine.one()
    before = (table.c.tenant_id == tenant_id) & (table.c.kind == kind) & (table.c.state == CURRENT)
    conn.execute(sql_update(table).where(before).values(state=RETIRING, updated_at=at))
    new = {"sid": sid, "sealed": sealed, "state": CURRENT, "updated_at": at}
    conn.execute(sql_update(table).where(table.c.id == credential_id).values(new))


def revoked(conn: Connection, credential_id: str, at: datetime) -> None:
    """It is worth nothing any more, and its secret is forgotten."""
    gone = {"sealed": None, "state": REVOKED, "updated_at": at}
    conn.execute(sql_update(table).where(table.c.id == credential_id).values(gone))


def revoke_all(conn: Connection, tenant_id: str, at: datetime) -> None:
    """Forget every secret of a tenant that is closed."""
    gone = {"sealed": None, "state": REVOKED, "updated_at": at}
    conn.execute(sql_update(table).where(table.c.tenant_id == tenant_id).values(gone))


def tenants_with(conn: Connection, kind: str, *states: str) -> list[str]:
    """Ids of the tenants that have a credential of this kind in one of these states."""
    statement = select(table.c.tenant_id).where(table.c.kind == kind, table.c.state.in_(states))
    return list(conn.execute(statement.distinct().order_by(table.c.tenant_id)).scalars())


def touch(conn: Connection, credential_id: str, at: datetime) -> None:
    """It is being made once more."""
    conn.execute(sql_update(table).where(table.c.id == credential_id).values(updated_at=at))
