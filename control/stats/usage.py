"""What a tenant's Twilio account used, asked for at most once in a while.

Twilio counts with a delay of minutes and answers slowly; a dashboard that is looked at all day must not be a
load on it. An answer is kept in the store and carries the time at which it was fetched. When Twilio cannot be
asked, the last answer is given, however old it is: its date says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import trio
from sqlalchemy import Connection, delete, insert, select

from control import log
from control.office import Office
from control.store.tables.routing import usage_snapshots
from control.twilio.rest import TwilioError, TwilioUnreachable
from control.twilio.usage import usage_records

FRESH = timedelta(minutes=15)
KEEP = timedelta(days=400)
ASK_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Records of the days `first` to `last`, both included, as of `fetched_at`."""

    first: date
    last: date
    records: list[dict[str, Any]]
    fetched_at: datetime


async def usage(office: Office, tenant_id: str, first: date, last: date) -> Usage:
    """From the store while fresh, else from Twilio. Raises TwilioError when there is neither."""
    now = office.clock.now()
    kept = await office.store.read(_get, tenant_id, first, last)
    if kept is not None and now - kept.fetched_at < FRESH:
        return kept
    try:
        with trio.fail_after(ASK_TIMEOUT_S):
            twilio = await office.twilio_of(tenant_id)
            records = await usage_records(twilio, first, last)
    except (TwilioError, trio.TooSlowError) as error:
        if kept is not None:
            log.event("usage_stale", level="warning", tenant_id=tenant_id, error=str(error))
            return kept
        if isinstance(error, trio.TooSlowError):
            raise TwilioUnreachable("no answer of Twilio's in time") from error
        raise
    fresh = Usage(first, last, records, now)
    await office.store.write(_put, tenant_id, fresh)
    return fresh


def _get(conn: Connection, tenant_id: str, first: date, last: date) -> Usage | None:
    c = usage_snapshots.c
    row = conn.execute(
        select(c.records, c.fetched_at).where(*_mine(tenant_id, first, last))
    ).one_or_none()
    return None if row is None else Usage(first, last, row.records, row.fetched_at)


def _put(conn: Connection, tenant_id: str, fresh: Usage) -> None:
    conn.execute(delete(usage_snapshots).where(*_mine(tenant_id, fresh.first, fresh.last)))
    old = usage_snapshots.c.fetched_at < fresh.fetched_at - KEEP
    conn.execute(delete(usage_snapshots).where(old))
    conn.execute(
        insert(usage_snapshots).values(
            tenant_id=tenant_id,
            since=fresh.first.isoformat(),
            until=fresh.last.isoformat(),
            records=fresh.records,
            fetched_at=fresh.fetched_at,
        )
    )


def _mine(tenant_id: str, first: date, last: date) -> list[Any]:
    c = usage_snapshots.c
    return [
        c.tenant_id == tenant_id,
        c.since == first.isoformat(),
        c.until == last.isoformat(),
    ]
