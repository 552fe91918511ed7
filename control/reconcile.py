"""Asking Twilio about calls of which nothing was heard: at start, and whenever a call's deadline passes.

A callback may be lost, a process may die. So no call stays open because somebody forgot to tell us, and no
telephone call goes on that nobody here knows of.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import trio
from sqlalchemy import Connection

from control import log
from control.calls import TERMINAL, LiveCall, Outcome
from control.cluster import let_go
from control.ending import CONTINUE_DEADLINE_S, LENGTH_MARGIN_S, Ending
from control.office import Office
from control.store import StoreUnavailable, agents, nodes
from control.store import calls as table
from control.store.records import AgentRecord, CallRecord
from control.twilio.rest import CallSeen, TwilioError

ASK_TIMEOUT_S = 30.0
ASK_AGAIN_S = 60.0
UNANSWERED_MAX_S = 3600.0
"""How long Twilio may keep a call in its own queue before it is called off."""
SPOOL_WAIT_S = 5.0
"""For the report of a call that ended without us; it is on the disk and about to be read."""
RETOLD_WAIT_S = 1.0
"""The same, if a worker that has outlived the former process may have one: it tells at once."""
AFTER_RESTART_S = 2 * CONTINUE_DEADLINE_S
RINGING_S = 15.0
"""A call that rang at our start is asked about again so soon: its end may have been told to a closed door."""

STORE_AGAIN_S = (0.5, 2.0, 5.0)
"""Pauses between tries to read at the start what was left open. Then the daemon ends, and is started again."""

RINGS = frozenset(("queued", "initiated", "ringing"))

_NEVER_SENT = Outcome("gateway_fault", "gateway", "the daemon stopped before the call was dialled")
_NO_STREAM = Outcome("gateway_fault", "gateway", "the call had no media stream and was ended")


class Reconcile:
    """Runs in the switchboard's nursery."""

    def __init__(self, office: Office, ending: Ending) -> None:
        self._office = office
        self._ending = ending

    def sweep(self) -> None:
        """Start asking about every call whose deadline has passed."""
        now_s = trio.current_time()
        for call in self._office.book:
            if call.deadline_s <= now_s and not call.closing:
                self._office.watch(call, ASK_TIMEOUT_S + ASK_AGAIN_S)
                self._office.spawn(self._overdue, call)

    async def at_start(self) -> None:
        """Take over the calls that this node's former process left open. Raises StoreUnavailable when the store stays away.

        And those of nodes whose lease has run out. Not those in the dial queue: they have an order of their own.
        Nobody else ever asks for what is this node's own: a start without it would leave those calls open for good.
        """
        office = self._office
        left = await self._patiently(_left_calls, office.node, office.clock.now())
        if left:
            log.event("reconciling", calls=len(left))
        for record, agent, lines in left:
            if record.id not in office.pool.returned:
                call = office.adopt(record, agent)
                call.known = lines  # a spool may tell them once more
                office.spawn(self.left_open, call)
        await self._take_back()

    async def _take_back(self) -> None:
        """Calls that have gone on talking without us: see `control.returning`."""
        office = self._office
        held = dict(office.pool.returned)
        if not held:
            return
        # A node that found us gone may have taken them over, and has nothing but the record.
        found = await self._patiently(_calls_of, list(held), office.node, office.clock.now())
        for record, agent, lines in found:
            call = office.adopt(record, agent)
            call.worker, call.lost = office.pool.home_of(record.id), None
            call.attached = held[record.id].attached
            call.turn_offset = held[record.id].turn_offset
            call.known = lines
            office.note(call, "control_returned", worker=call.worker or "")
            office.watch(call, office.settings.media.max_call_s + LENGTH_MARGIN_S)
            office.spawn(self._taken_back, call)
        for call_id in held.keys() - {record.id for record, _, _ in found}:
            # Over for Twilio and the store, or never written down: nobody talks on it.
            office.pool.hang_up(call_id, "the call is not known any more")
            office.pool.close_call(call_id)

    async def _patiently(self, take: Callable[..., list[_Known]], *arguments: Any) -> list[_Known]:
        """Raises StoreUnavailable."""
        for pause_s in STORE_AGAIN_S:
            try:
                return await self._office.store.write(take, *arguments)
            except StoreUnavailable as error:
                log.event("reconcile_waits", level="warning", error=str(error))
            await trio.sleep(pause_s)
        return await self._office.store.write(take, *arguments)

    async def _taken_back(self, call: LiveCall) -> None:
        """What Twilio may have told while nobody listened."""
        while call.twilio_call_sid is not None and not call.closing:
            seen = await self._ask(call)
            if seen is None:
                with trio.move_on_after(ASK_AGAIN_S):  # it may be talking: no deadline ends it
                    await call.closed.wait()
            elif not call.closing:
                self._ending.catch_up(call, seen.status)
                if not call.closing and seen.status in RINGS:
                    self._office.watch(call, RINGING_S)
                return

    async def left_open(self, call: LiveCall) -> None:
        """A call that a daemon which is no more has left to us."""
        office = self._office
        if call.twilio_call_sid is not None:
            # If it is still up, Twilio is saying the apology and will ask how to go on.
            office.watch(call, AFTER_RESTART_S)
            is_reported = call.id in office.pool.reported
            if is_reported or office.pool.outlived:
                with trio.move_on_after(SPOOL_WAIT_S if is_reported else RETOLD_WAIT_S):
                    await call.reported.wait()
            seen = await self._ask(call)
            if seen is not None and not call.closing:
                self._ending.catch_up(call, seen.status)
                if not call.closing and seen.status in RINGS:
                    office.watch(call, RINGING_S)
        else:
            call.status = "failed"
            self._ending.close(call, _NEVER_SENT)

    async def _is_ours(self, call: LiveCall) -> bool:
        """False when another daemon has taken the call over, while this one was slow: it is let go."""
        office = self._office
        if not call.is_recorded or "node" in call.columns or call.writes:
            return True
        try:
            if await office.store.read(nodes.is_mine, call.id, office.node):
                return True
        except StoreUnavailable:
            return True
        await let_go(office, call)
        return False

    async def _overdue(self, call: LiveCall) -> None:
        if not await self._is_ours(call):
            return
        if call.ended_status or call.twilio_call_sid is None:
            self._ending.close(call)
            return
        seen = await self._ask(call)
        if call.closing:
            return
        office = self._office
        if seen is None:
            office.watch(call, ASK_AGAIN_S)  # Twilio cannot be reached: the record stays open
        elif seen.status in TERMINAL:
            self._ending.move(call, seen.status)
            if not call.closing and call.worker is None:
                self._ending.close(call)
        elif call.away and self._age_s(call) < office.settings.media.max_call_s + ASK_AGAIN_S:
            office.watch(call, ASK_AGAIN_S)  # with a person: Twilio tells how that ends
        elif seen.status != "in-progress" and self._age_s(call) < UNANSWERED_MAX_S:
            office.watch(call, ASK_AGAIN_S)
        else:
            await self._put_an_end(call)

    async def _put_an_end(self, call: LiveCall) -> None:
        """Twilio still has the call, and nothing more will come of it here."""
        self._office.note(call, "overdue")
        if not await self._ending.end_by_rest(call):
            self._office.watch(call, ASK_AGAIN_S)
            return
        nothing_known = call.report is None and not call.lost
        self._ending.close(call, _NO_STREAM if nothing_known else None)

    async def _ask(self, call: LiveCall) -> CallSeen | None:
        """Twilio's word, or None when there was none. A call unknown to Twilio has failed."""
        sid = call.twilio_call_sid or ""
        with trio.move_on_after(ASK_TIMEOUT_S):
            try:
                twilio = await self._office.twilio_of(call.tenant_id)
                seen = await twilio.fetch_call(sid)
            except TwilioError as error:
                log.event("call_unasked", level="warning", call_id=call.id, error=str(error))
                return None
            return seen or CallSeen(sid, "failed", call.to_number, call.from_number, None, None)
        return None

    def _age_s(self, call: LiveCall) -> float:
        return (self._office.clock.now() - call.created_at).total_seconds()


class _Known(NamedTuple):
    """A call that is not over, with its agent and the lines that its timeline has."""

    record: CallRecord
    agent: AgentRecord | None
    lines: frozenset[tuple[str, int]]


def _known(conn: Connection, record: CallRecord) -> _Known:
    agent = agents.get(conn, record.agent_id) if record.agent_id else None
    lines = frozenset((line.name, line.at_ms) for line in table.events(conn, record.id))
    return _Known(record, agent, lines)


def _left_calls(conn: Connection, node: str, now: datetime) -> list[_Known]:
    return [_known(conn, record) for record in nodes.inherit(conn, node, now, own=True)]


def _calls_of(conn: Connection, call_ids: list[str], node: str, now: datetime) -> list[_Known]:
    """Those of these calls that are not over, now `node`'s."""
    records = (table.get(conn, call_id) for call_id in call_ids)
    return [
        _known(conn, record)
        for record in records
        if record and record.ended_at is None and nodes.take_over(conn, record, node, now)
    ]
