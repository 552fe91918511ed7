"""Which webhooks have been handled, so that a repeated delivery changes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from control.ids import DEFAULT_TENANT_ID
from control.store.tables import webhooks_seen

KEEP = timedelta(days=2)
"""Longer than either provider goes on repeating a webhook."""


def seen(conn: Connection, key: str, at: datetime, tenant_id: str = DEFAULT_TENANT_ID) -> bool:
    """Whether this webhook was handled before; it is from now on. Rows older than KEEP are deleted.

    On PostgreSQL two nodes that insert at once get an IntegrityError in one of them.
    """
    conn.execute(delete(webhooks_seen).where(webhooks_seen.c.at < at - KEEP))
    mine = (webhooks_seen.c.tenant_id == tenant_id) & (webhooks_seen.c.key == key)
    if conn.execute(select(webhooks_seen.c.key).where(mine)).first() is not None:
        return True
    conn.execute(insert(webhooks_seen).values(tenant_id=tenant_id, key=key, at=at))
    return False
