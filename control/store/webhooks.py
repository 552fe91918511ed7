"""Where results are pushed, and each push: one event for one target."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import insert as sql_insert
from sqlalchemy import update as sql_update

from control.store import rows
from control.store.errors import RecordNotFound
from control.store.prepared import Prepared
from control.store.tables.after_call import outbox, webhook_deliveries, webhooks

PREFIX = "whk"
DELIVERY_PREFIX = "dlv"
OUTBOX_KIND = "webhook"

PENDING = "pending"
DELIVERED = "delivered"
DEAD = "dead"


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    """A target. `secret` is sealed. `events` are names, or `*` for all."""

    id: str
    tenant_id: str
    url: str
    events: list[str]
    secret: str
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    enabled: bool = True

    def wants(self, event: str) -> bool:
        return self.enabled and (event in self.events or "*" in self.events)


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One event for one target. `body` is what is sent, byte for byte, at every attempt."""

    id: str
    tenant_id: str
    webhook_id: str
    event_id: str
    event: str
    body: str
    created_at: datetime
    updated_at: datetime
    call_id: str | None = None
    status: str = PENDING
    attempts: int = 0
    http_status: int | None = None
    last_error: str | None = None
    next_at: datetime | None = None
    delivered_at: datetime | None = None


def insert(conn: Connection, record: WebhookRecord) -> None:
    """Add a target."""
    conn.execute(sql_insert(webhooks).values(rows.values(record)))


def get(conn: Connection, webhook_id: str) -> WebhookRecord | None:
    """The target with this id."""
    statement = rows.query(webhooks, WebhookRecord).where(webhooks.c.id == webhook_id)
    row = conn.execute(statement).one_or_none()
    return None if row is None else rows.build(WebhookRecord, row)


def count(conn: Connection, tenant_id: str) -> int:
    """How many targets a tenant has."""
    statement = select(func.count()).where(webhooks.c.tenant_id == tenant_id)
    return int(conn.execute(statement).scalar_one())


def of_tenant(conn: Connection, tenant_id: str, event: str) -> list[WebhookRecord]:
    """The tenant's targets that want this event."""
    found = [WebhookRecord(*row) for row in _TARGETS.all(conn, {"whose": tenant_id})]
    return [record for record in found if record.wants(event)]


_TARGETS = Prepared(
    rows.query(webhooks, WebhookRecord).where(webhooks.c.tenant_id == bindparam("whose"))
)


def list_webhooks(
    conn: Connection, *, tenant_id: str | None, limit: int = 50, cursor: str | None = None
) -> tuple[list[WebhookRecord], str | None]:
    """The newest first, and the cursor of the next page. Raises BadCursor."""
    statement = rows.query(webhooks, WebhookRecord)
    if tenant_id is not None:
        statement = statement.where(webhooks.c.tenant_id == tenant_id)
    asked = {"tenant": tenant_id}
    return rows.page(conn, statement, WebhookRecord, webhooks.c.id, limit, cursor, asked)


def update(conn: Connection, /, webhook_id: str, **columns: Any) -> None:
    """Set the named columns. Raises RecordNotFound."""
    statement = sql_update(webhooks).where(webhooks.c.id == webhook_id).values(columns)
    if conn.execute(statement).rowcount == 0:
        raise RecordNotFound(f"no webhook {webhook_id}")


def delete(conn: Connection, webhook_id: str) -> bool:
    """Remove a target with its deliveries and what waits for them; whether it was there."""
    mine = webhook_deliveries.c.webhook_id == webhook_id
    keys = select(webhook_deliveries.c.id).where(mine)
    conn.execute(sql_delete(outbox).where(outbox.c.kind == OUTBOX_KIND, outbox.c.key.in_(keys)))
    conn.execute(sql_delete(webhook_deliveries).where(mine))
    return conn.execute(sql_delete(webhooks).where(webhooks.c.id == webhook_id)).rowcount > 0


def insert_delivery(conn: Connection, record: DeliveryRecord) -> bool:
    """Add a delivery, unless this target has this event already; whether it was added."""
    known = select(webhook_deliveries.c.id).where(
        webhook_deliveries.c.webhook_id == record.webhook_id,
        webhook_deliveries.c.event_id == record.event_id,
    )
    if conn.execute(known).first() is not None:
        return False
    conn.execute(sql_insert(webhook_deliveries).values(rows.values(record)))
    return True


def delivery(conn: Connection, delivery_id: str) -> DeliveryRecord | None:
    """The delivery with this id."""
    statement = rows.query(webhook_deliveries, DeliveryRecord).where(
        webhook_deliveries.c.id == delivery_id
    )
    row = conn.execute(statement).one_or_none()
    return None if row is None else rows.build(DeliveryRecord, row)


def update_delivery(conn: Connection, /, delivery_id: str, **columns: Any) -> None:
    """Set the named columns; nothing when it has gone with its target."""
    conn.execute(
        sql_update(webhook_deliveries).where(webhook_deliveries.c.id == delivery_id).values(columns)
    )


def list_deliveries(
    conn: Connection,
    webhook_id: str,
    *,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[DeliveryRecord], str | None]:
    """A target's deliveries, the newest first, and the cursor of the next page. Raises BadCursor."""
    statement = rows.query(webhook_deliveries, DeliveryRecord).where(
        webhook_deliveries.c.webhook_id == webhook_id
    )
    if status is not None:
        statement = statement.where(webhook_deliveries.c.status == status)
    asked = {"webhook": webhook_id, "status": status}
    return rows.page(conn, statement, DeliveryRecord, webhook_deliveries.c.id, limit, cursor, asked)


def purge_deliveries(conn: Connection, before: datetime) -> int:
    """Forget what was delivered before; dead letters stay."""
    statement = sql_delete(webhook_deliveries).where(
        webhook_deliveries.c.status == DELIVERED, webhook_deliveries.c.created_at < before
    )
    return conn.execute(statement).rowcount
