"""Block lists of the platform, which do-not-call files are in force, and what tenants were granted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from control.store import rows
from control.store.prepared import Prepared
from control.store.tables.compliance import dnc_lists, platform_blocks, tenant_policies

EVERYBODY = ""
"""`tenant_id` of a do-not-call file that holds for all tenants."""
NATIONAL = "US"


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """A number that nobody on this platform may call."""

    e164: str
    source: str
    created_at: datetime
    reason: str | None = None
    tenant_id: str | None = None


@dataclass(frozen=True, slots=True)
class DncListRecord:
    """A do-not-call file in force: `US` is the national registry, `FL`, `TX`, … are state lists."""

    tenant_id: str
    list_id: str
    as_of: datetime
    source: str
    file_name: str
    sha256: str
    entries: int
    imported_at: datetime


def block(conn: Connection, record: BlockRecord) -> bool:
    """Block a number everywhere; False when it was blocked already."""
    if get_block(conn, record.e164) is not None:
        return False
    conn.execute(insert(platform_blocks).values(rows.values(record)))
    return True


def get_block(conn: Connection, e164: str) -> BlockRecord | None:
    """The entry of a number."""
    return rows.find(conn, platform_blocks, BlockRecord, e164=e164)


def unblock(conn: Connection, e164: str) -> bool:
    """Take a number off the list; whether it was on it."""
    return conn.execute(delete(platform_blocks).where(platform_blocks.c.e164 == e164)).rowcount > 0


def list_blocks(
    conn: Connection, *, limit: int = 50, cursor: str | None = None
) -> tuple[list[BlockRecord], str | None]:
    """In order of number. Raises BadCursor."""
    statement = rows.query(platform_blocks, BlockRecord)
    key = platform_blocks.c.e164
    return rows.page(conn, statement, BlockRecord, key, limit, cursor, {}, ascending=True)


def put_list(conn: Connection, record: DncListRecord) -> str | None:
    """Let this file be the list from now on; the name of the file that it replaces."""
    t = dnc_lists
    mine = (t.c.tenant_id == record.tenant_id) & (t.c.list_id == record.list_id)
    former: str | None = conn.execute(select(t.c.file_name).where(mine).with_for_update()).scalar()
    if former is None:
        conn.execute(insert(t).values(rows.values(record)))
    else:
        conn.execute(update(t).where(mine).values(rows.values(record)))
    return former


def lists_for(conn: Connection, tenant_id: str) -> list[DncListRecord]:
    """The files that bind a tenant: its own copies, and those for everybody where it has none."""
    return binding(all_lists(conn), tenant_id)


def binding(lists: list[DncListRecord], tenant_id: str) -> list[DncListRecord]:
    """Of `all_lists` those that `lists_for` names."""
    # The tenant's own comes last and stays.
    found = {one.list_id: one for one in lists if one.tenant_id in (EVERYBODY, tenant_id)}
    return [found[list_id] for list_id in sorted(found)]


def all_lists(conn: Connection) -> list[DncListRecord]:
    """Every file in force."""
    return [DncListRecord(*row) for row in _LISTS.all(conn, {})]


_LISTS = Prepared(
    rows.query(dnc_lists, DncListRecord).order_by(dnc_lists.c.tenant_id, dnc_lists.c.list_id)
)


def get_profile(conn: Connection, tenant_id: str) -> dict[str, Any] | None:
    """What the tenant was granted and what it narrowed; None when nobody said."""
    profile: dict[str, Any] | None = _PROFILE.scalar(conn, {"tenant_id": tenant_id})
    return profile


_PROFILE = Prepared(
    select(tenant_policies.c.profile).where(tenant_policies.c.tenant_id == bindparam("tenant_id"))
)


def put_profile(
    conn: Connection, tenant_id: str, profile: dict[str, Any], at: datetime, who: str
) -> None:
    """Replace it."""
    t = tenant_policies
    values = {"profile": profile, "updated_at": at, "updated_by": who}
    if not conn.execute(update(t).where(t.c.tenant_id == tenant_id).values(values)).rowcount:
        conn.execute(insert(t).values(tenant_id=tenant_id, **values))
