"""A worker's last word about a call whose record is closed already.

A control process that was killed did not write down which conversations a call had, and the next one closed the
record on Twilio's word before the worker was heard. The conversations happened and will be charged for: they are
named in the record all the same.
"""

from __future__ import annotations

from sqlalchemy import Connection

from control.calls import conversations_of
from control.store import conversations
from gateway.link import CallReport

LINE = "reported_late"


def keep(conn: Connection, report: CallReport) -> bool:
    """Add the conversations to the record; once, however often they are told. False when there is no such call."""
    ids = conversations_of(report.legs, report.conversation_id)
    is_all = not (report.legs.get("agent") or {}).get("is_unnamed")
    data = {"result": report.result, "reason": report.reason}
    settles = conversations.UNREPORTED if is_all else None
    return conversations.name(conn, report.call_id, ids, LINE, report.at_ms, data, settles=settles)
