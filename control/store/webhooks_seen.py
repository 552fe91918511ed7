"""Which webhooks have been handled, so that a repeated delivery changes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import IntegrityError

from control.ids import DEFAULT_TENANT_ID
from control.store.tables import webhooks_seen

KEEP = timedelta(days=2)
"""Longer than either provider goes on repeating a webhook."""


def seen(conn: Connection, key: str, at: datetime, tenant_id: str = DEFAULT_TENANT_ID) -> bool:
    """Whether this webhook was handled before; it is from now on. Rows older than KEEP are deleted."""
    conn.execute(delete(webhooks_seen).where(webhooks_seen.c.at < at - KEEP))
    # Insert first: of two deliveries at once the database lets one through.
    try:
        with conn.begin_nested():
            conn.execute(insert(webhooks_seen).values(tenant_id=tenant_id, key=key, at=at))
    except IntegrityError:
        return True
    return False
