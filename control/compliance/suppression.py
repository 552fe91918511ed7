"""A request to be left alone, with everything that follows from it, in one transaction.

Event row and entry, what waits in the dial queue, messages that have not left, word to the daemons that carry
other calls to the number, and the push to the tenant's webhooks: all of it is committed, or nothing is.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from control.sms.announcing import announce
from control.store import calls as table
from control.store import dialing as queue
from control.store import messages, nodes, opt_outs
from control.store.records import CallRecord, OptOutRecord
from control.store.tables import calls
from control.store.tables.after_call import messages as messages_table
from control.store.tables.dialing import dial_queue
from control.webhooks_out import events

OPTED_OUT = "opted_out"
"""What a daemon is told that carries a call to the number."""
REASON = "the called party opted out"


def suppress(conn: Connection, record: OptOutRecord, now: datetime) -> OptOutRecord:
    """Put the number on the list and let nothing more of this tenant reach it; the entry that stands."""
    before = opt_outs.get(conn, record.tenant_id, record.e164)
    standing = opt_outs.add(conn, record)
    _purge_queue(conn, record, now)
    _hold_messages(conn, record, now)
    _tell_carriers(conn, record, now)
    if standing != before:
        _announce(conn, standing, record, now)
    return standing


def _purge_queue(conn: Connection, record: OptOutRecord, now: datetime) -> None:
    waiting = (
        select(calls.c.id)
        .join(dial_queue, dial_queue.c.call_id == calls.c.id)
        .where(
            calls.c.tenant_id == record.tenant_id,
            calls.c.to_number == record.e164,
            dial_queue.c.state != queue.SENT,
        )
        .order_by(calls.c.id)
    )
    at_ms = int(now.timestamp() * 1000)
    for call_id in list(conn.execute(waiting).scalars()):
        if not queue.call_off(conn, call_id):
            continue
        table.update(
            conn,
            call_id,
            status="canceled",
            result="policy",
            blame="policy",
            reason=f"{REASON} while the call waited",
            ended_at=now,
        )
        lines = [("opted_out", at_ms, {"source": record.source}), ("ended", at_ms, {})]
        table.append_events(conn, call_id, lines)


def _hold_messages(conn: Connection, record: OptOutRecord, now: datetime) -> None:
    m = messages_table.c
    unsent = select(m.id).where(
        m.tenant_id == record.tenant_id,
        m.to_number == record.e164,
        m.direction == "outbound",
        m.send_state == messages.INTENT,
    )
    for message_id in list(conn.execute(unsent).scalars()):
        messages.update(
            conn,
            message_id,
            send_state=messages.REFUSED,
            status="blocked",
            error="the recipient opted out",
            updated_at=now,
        )
        announce(conn, message_id, now)


def _tell_carriers(conn: Connection, record: OptOutRecord, now: datetime) -> None:
    """Calls that are up, but for the one in which it was asked: that one confirms it first."""
    live = select(calls.c.id).where(
        calls.c.tenant_id == record.tenant_id,
        calls.c.to_number == record.e164,
        calls.c.direction == "outbound",
        calls.c.ended_at.is_(None),
        calls.c.node.is_not(None),
    )
    for call_id in list(conn.execute(live).scalars()):
        call = table.get(conn, call_id)
        if call is not None and call_id != record.call_id:
            _tell(conn, call, now)


def _tell(conn: Connection, call: CallRecord, now: datetime) -> None:
    nodes.tell(conn, str(call.node), call, OPTED_OUT, {}, now)


def _announce(
    conn: Connection, standing: OptOutRecord, record: OptOutRecord, now: datetime
) -> None:
    events.emit(
        conn,
        event=events.OPT_OUT_CREATED,
        key=f"{record.tenant_id} {record.e164} {record.source} {record.created_at.isoformat()}",
        tenant_id=record.tenant_id,
        data=lambda: {
            "e164": standing.e164,
            "tenant_id": standing.tenant_id,
            "source": standing.source,
            "scope": standing.scope,
            "reason": standing.reason,
            "call_id": standing.call_id,
            "created_at": standing.created_at,
        },
        now=now,
        call_id=record.call_id,
    )
