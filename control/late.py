"""A worker's last word about a call whose record is closed already.

A control process that was killed did not write down which conversation a call had, and the next one closed the
record on Twilio's word before the worker was heard. The conversation happened and will be charged for: it is named
in the record all the same.
"""

from __future__ import annotations

from sqlalchemy import Connection

from control.store import calls
from gateway.link import CallReport

LINE = "reported_late"


def keep(conn: Connection, report: CallReport) -> bool:
    """Add the conversation to the record; once, however often it is told. False when there is no such call."""
    record = calls.get(conn, report.call_id)
    if record is None:
        return False
    known = {line.data.get("conversation_id") for line in calls.events(conn, report.call_id)}
    if report.conversation_id in known | {record.conversation_id}:
        return True
    data = {
        "conversation_id": report.conversation_id,
        "result": report.result,
        "reason": report.reason,
    }
    calls.append_events(conn, report.call_id, [(LINE, report.at_ms, data)])
    if record.conversation_id is None:
        calls.update(conn, report.call_id, conversation_id=report.conversation_id)
    return True
