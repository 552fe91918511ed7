"""Who may have a number: the transactions that decide it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from control.numbers.buying import wish_columns
from control.numbers.values import NumberProblem, NumberWish
from control.store import NumberTaken
from control.store import numbers as stored
from control.store.numbers import BUYING, NumberRecord


def reopen(
    conn: Connection, record: NumberRecord, wish: NumberWish, agent_id: str | None, now: datetime
) -> NumberRecord:
    """An intent that failed may be tried again, with what was missing."""
    return stored.update(
        conn,
        record.id,
        status=BUYING,
        wish=wish_columns(wish),
        agent_id=agent_id or record.agent_id,
        problem=None,
        updated_at=now,
    )


def adopt(conn: Connection, record: NumberRecord) -> NumberRecord:
    """Note an adopted number, or what is new about one that was there. Raises NumberProblem."""
    standing = stored.active(conn, record.e164 or "")
    if standing is None:
        try:
            return stored.begin(conn, record)
        except NumberTaken as taken:
            raise _in_use(record.e164 or "", None) from taken
    if standing.tenant_id != record.tenant_id:
        raise _in_use(record.e164 or "", None)
    return stored.update(
        conn,
        standing.id,
        sid=record.sid,
        agent_id=record.agent_id or standing.agent_id,
        capabilities=record.capabilities,
        bundle_sid=record.bundle_sid,
        address_sid=record.address_sid,
        checked_at=record.updated_at,
        updated_at=record.updated_at,
    )


def refuse_taken(conn: Connection, tenant_id: str, e164: str, agent_id: str | None) -> None:
    """Raises NumberProblem when another tenant, or another agent, has the number."""
    standing = stored.active(conn, e164)
    if standing is not None and standing.tenant_id != tenant_id:
        # Not who: another tenant's agents are nobody's business.
        raise _in_use(e164, None)
    holder = stored.holder(conn, e164)
    if holder is not None and agent_id is not None and holder != agent_id:
        raise _in_use(e164, holder)


def _in_use(e164: str, holder: str | None) -> NumberProblem:
    whose = f"agent {holder}" if holder else "another agent"
    return NumberProblem(
        "in_use", f"e164: {e164} is the number of {whose}", field="e164", holder=holder
    )
