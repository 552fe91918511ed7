"""Messages as the API and the customers' webhooks show them, and telling of a change."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from control.store import messages
from control.store.messages import MessageRecord
from control.webhooks_out import events


def shown(record: MessageRecord) -> dict[str, Any]:
    """The record without what is the daemon's own business."""
    names = (
        "id",
        "tenant_id",
        "agent_id",
        "call_id",
        "direction",
        "body",
        "segments",
        "status",
        "send_state",
        "twilio_sid",
        "error_code",
        "error",
        "decision",
        "created_at",
        "sent_at",
        "updated_at",
    )
    return {
        "from": record.from_number,
        "to": record.to_number,
        **{name: getattr(record, name) for name in names},
    }


def announce(conn: Connection, message_id: str, now: datetime) -> None:
    """Push what has become of a message."""
    record = messages.get(conn, message_id)
    if record is None:
        return
    events.emit(
        conn,
        event=events.MESSAGE_UPDATED if record.direction == "outbound" else events.MESSAGE_RECEIVED,
        key=f"{record.id} {record.status}",
        tenant_id=record.tenant_id,
        data=lambda: shown(record),
        now=now,
        call_id=record.call_id,
    )
