"""Events for customers: written, with a delivery for each target that wants them, in the caller's transaction."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from control.ids import new_id
from control.store import outbox, webhooks

CALL_ENDED = "call.ended"
CALL_RESULT = "call.result"
CALL_COST = "call.cost"
MESSAGE_RECEIVED = "message.received"
MESSAGE_UPDATED = "message.updated"
OPT_OUT_CREATED = "opt_out.created"
EVENTS = (
    CALL_ENDED,
    CALL_RESULT,
    CALL_COST,
    MESSAGE_RECEIVED,
    MESSAGE_UPDATED,
    OPT_OUT_CREATED,
)

LANES = 4
"""Pushes to one target at once."""


def event_id(event: str, key: str) -> str:
    """The same for the same thing, so that whoever emits it twice emits it once."""
    digest = hashlib.sha256(f"{event} {key}".encode()).digest()
    return "evt_" + base64.b32encode(digest[:16]).decode().rstrip("=").lower()


def emit(
    conn: Connection,
    *,
    event: str,
    key: str,
    tenant_id: str,
    data: Callable[[], dict[str, Any]],
    now: datetime,
    call_id: str | None = None,
) -> int:
    """Have what `data` makes pushed to each of the tenant's targets that wants `event`; to how many.

    `data` is not called when nobody wants it: most tenants have no target, and a record is dear to make.
    """
    targets = webhooks.of_tenant(conn, tenant_id, event)
    if not targets:
        return 0
    identity = event_id(event, key)
    body = orjson.dumps({"type": event, "timestamp": now, "data": data()}).decode()
    added = 0
    for target in targets:
        record = webhooks.DeliveryRecord(
            id=new_id(webhooks.DELIVERY_PREFIX, now),
            tenant_id=tenant_id,
            webhook_id=target.id,
            event_id=identity,
            event=event,
            body=body,
            created_at=now,
            updated_at=now,
            call_id=call_id,
            next_at=now,
        )
        if webhooks.insert_delivery(conn, record):
            queue(conn, record, now)
            added += 1
    return added


def queue(conn: Connection, record: webhooks.DeliveryRecord, now: datetime) -> None:
    """Have a delivery sent now: a new one, or one that was delivered or given up."""
    known = outbox.revive(conn, webhooks.OUTBOX_KIND, record.id, now)
    if not known:
        outbox.add(
            conn,
            kind=webhooks.OUTBOX_KIND,
            key=record.id,
            tenant_id=record.tenant_id,
            due_at=now,
            lane=f"{record.webhook_id}/{zlib.crc32(record.event_id.encode()) % LANES}",
        )
