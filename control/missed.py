"""Calls that rang while nobody here could answer: all that is known of them is Twilio's last word.

The daemon was being started, or its store was away, so Twilio took the fallback, and no record was begun. A caller
who was lost in that way is worth knowing of.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection

from control.calls import Outcome
from control.ending import cost_of
from control.routing.callers import address_of
from control.store import agents, calls
from control.store.records import CallRecord
from control.strangers import caller_of

MISSED = Outcome("gateway_fault", "gateway", "the gateway could not answer when the call came")
_STATUSES = frozenset({"completed", "failed", "canceled"})
"""`busy` and `no-answer` are what our own refusals come to."""
_SERVING = frozenset({"live", "degraded"})


def keep(conn: Connection, form: Mapping[str, str], call_id: str, node: str, now: datetime) -> bool:
    """Write the call down, complete; `form` is a status callback. False when it is none of these."""
    status, called = form.get("CallStatus", ""), address_of(form.get("To", ""))
    if form.get("Direction") != "inbound" or status not in _STATUSES:
        return False
    agent = agents.by_number(conn, called)
    if agent is None or agent.status not in _SERVING or calls.by_sid(conn, form["CallSid"]):
        return False
    cost = cost_of(form)
    rang_at = now - timedelta(seconds=cost.get("duration_s", 0))
    record = CallRecord(
        id=call_id,
        direction="inbound",
        created_at=rang_at,
        tenant_id=agent.tenant_id,
        agent_id=agent.id,
        from_number=caller_of(form.get("From", "")) or None,
        to_number=called,
        status=status,
        result=MISSED.result,
        blame=MISSED.blame,
        reason=MISSED.reason,
        twilio_call_sid=form["CallSid"],
        ringing_at=rang_at,
        ended_at=now,
        cost=cost,
        node=node,
    )
    calls.insert(conn, record)
    data = {"result": MISSED.result, "blame": MISSED.blame, "reason": MISSED.reason}
    at_ms = int(now.timestamp() * 1000)
    calls.append_events(conn, call_id, [("missed", at_ms, {}), ("ended", at_ms, data)])
    return True
