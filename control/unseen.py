"""Calls that came and went while nobody here listened: Twilio's list is asked for them.

A status callback is sent once. What Twilio told while the daemon was dead, or its store away, is told to nobody; so
each daemon writes down, with its sign of life, until when it has heard everything (`nodes.heard_until`), and one
that has not asks for the calls that have ended since. Those without a record get one (`control.missed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import trio
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from control import ids, log, missed
from control.office import Office, Twilio
from control.store import StoreUnavailable, agents, nodes
from control.store import calls as table
from control.twilio.calls import ENDED_MAX, CallSeen
from control.twilio.rest import TwilioError, TwilioRefused

FRESH = timedelta(seconds=30)
"""A call that has ended just now is being told of."""
MARGIN = timedelta(seconds=60)
"""Before the last sign of life: what was told then may not have been answered, and Twilio's clock is another one."""
WAIT_S = 35.0
"""More than FRESH: by then everything that ended before this daemon listened is old enough."""
AGAIN_S = 60.0
BACK_MAX = timedelta(days=2)

BATCH_CALLS = 50
"""In one transaction: those who dial and answer wait behind it."""

Form = dict[str, str]
LastWord = tuple[Form, datetime]
"""A status callback, and when the call ended."""


class Unseen:
    """One per switchboard. `run` in its nursery."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._is_behind = trio.Event()
        self._is_behind.set()

    @property
    def heard_until(self) -> datetime | None:
        """For the sign of life; None while something may have been missed."""
        return None if self._is_behind.is_set() else self._office.clock.now()

    def deaf(self) -> None:
        """The store is away: what comes now may be lost."""
        self._is_behind.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._is_behind.wait()
            await trio.sleep(WAIT_S)
            if await self._catch_up():
                self._is_behind = trio.Event()
            else:
                await trio.sleep(AGAIN_S)

    async def told(self, form: Form) -> bool:
        """Twilio's last word about a call of which nothing is known. False when it is not one of ours.

        Raises StoreUnavailable.
        """
        return await self._keep([(form, self._office.clock.now())]) > 0

    async def _keep(self, last_words: Sequence[LastWord]) -> int:
        """How many of them were of calls of ours. Raises StoreUnavailable."""
        office = self._office
        kept = await office.store.write(_keep, last_words, office.node)
        for call_id, sid in kept:
            log.event("call_missed", level="warning", call_id=call_id, sid=sid)
            office.metrics.calls.labels("inbound", missed.MISSED.result, missed.MISSED.blame).inc()
        return len(kept)

    async def _catch_up(self) -> bool:
        office = self._office
        until = office.clock.now() - FRESH
        try:
            since = await office.store.read(nodes.heard_until, office.node)
            if since is None:
                return True
            since = max(since, until - BACK_MAX) - MARGIN
            found = 0
            for twilio in await self._accounts():
                found += await self._ask(twilio, since, until)
        except (StoreUnavailable, TwilioError) as error:
            log.event("unseen_unasked", level="warning", error=str(error))
            return False
        log.event("caught_up", since=since.isoformat(), found=found)
        return True

    async def _accounts(self) -> list[Twilio]:
        """Each account in which somebody may be called once. Raises StoreUnavailable, TwilioUnreachable."""
        office = self._office
        found: dict[str, Twilio] = {}
        for tenant_id in await office.store.read(agents.serving_tenants):
            try:
                twilio = await office.twilio_of(tenant_id)
            except TwilioRefused as error:
                log.event("unseen_unasked", level="warning", tenant_id=tenant_id, error=str(error))
            else:
                found.setdefault(twilio.account_sid, twilio)
        return list(found.values())

    async def _ask(self, twilio: Twilio, since: datetime, until: datetime) -> int:
        """How many were missed in this account. Raises StoreUnavailable, TwilioUnreachable, TwilioUncertain."""
        office = self._office
        try:
            seen = await twilio.list_ended(since=since, until=until)
        except TwilioRefused as error:  # closed, or suspended: nobody is called there
            log.event("unseen_unasked", level="warning", error=str(error))
            return 0
        if len(seen) >= ENDED_MAX:
            log.event("unseen_cut", level="error", calls=len(seen), since=since.isoformat())
        unknown = [one for one in seen if one.direction == "inbound" and not self._has(one)]
        known = await office.store.read(_known, [one.sid for one in unknown])
        last_words = [
            (_form_of(one), one.ended_at or until) for one in unknown if one.sid not in known
        ]
        found = 0
        for start in range(0, len(last_words), BATCH_CALLS):
            found += await self._keep(last_words[start : start + BATCH_CALLS])
        return found

    def _has(self, one: CallSeen) -> bool:
        return self._office.book.by_sid(one.sid) is not None


def _form_of(one: CallSeen) -> Form:
    """What its last status callback would have said."""
    duration = {} if one.duration_s is None else {"CallDuration": str(one.duration_s)}
    about = {"CallSid": one.sid, "CallStatus": one.status, "Direction": one.direction}
    return about | {"From": one.from_, "To": one.to} | duration


def _keep(conn: Connection, last_words: Sequence[LastWord], node: str) -> list[tuple[str, str]]:
    """Our ids and Twilio's of those that were written down."""
    kept = []
    for form, at in last_words:
        call_id = ids.new_id(ids.CALL, at)
        try:
            with conn.begin_nested():
                if missed.keep(conn, form, call_id, node, at):
                    kept.append((call_id, form["CallSid"]))
        except IntegrityError:
            continue  # another daemon was told of it in the same moment
    return kept


def _known(conn: Connection, sids: list[str]) -> set[str]:
    return {sid for sid in sids if table.by_sid(conn, sid) is not None}
