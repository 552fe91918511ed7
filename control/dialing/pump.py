"""Takes due calls out of the queue: each tenant in its turn, at its own pace, as long as there is room.

Who waited longest goes first, and nobody has two turns before everybody who waits had one. So a tenant with ten
thousand calls delays nobody else by more than a turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import trio
from sqlalchemy import Connection

from control import log
from control.calls import LiveCall, from_record
from control.dialer import Dialer
from control.dialing.desk import Desk
from control.dialing.limits import LimitOf
from control.office import Office
from control.store import StoreUnavailable, agents, nodes, tenants
from control.store import calls as table
from control.store import dialing as queue
from control.store.admission import Limit
from control.store.dialing import QueueRecord, Seat
from control.store.records import AgentRecord, CallRecord

RENEW_EVERY_S = 15.0
"""Well below a lease."""
AT_ONCE_MAX = 64
"""Calls of this daemon between their turn and Twilio's answer."""
IDLE_S = 1.0
"""How late a call is noticed that another daemon has queued."""
CROWDED_S = 0.25
"""How long to wait for room, or for a tenant that has as many calls as it may."""
STORE_AWAY_S = 1.0
TAKEN_OVER_AT_ONCE = 50


class Turn(NamedTuple):
    """A call whose turn it is."""

    entry: QueueRecord
    record: CallRecord
    agent: AgentRecord | None
    limit: Limit


class Pump:
    """One per process; runs in the switchboard's nursery."""

    def __init__(
        self,
        office: Office,
        desk: Desk,
        dialer: Dialer,
        limit_of: LimitOf,
        left_open: Callable[[LiveCall], Awaitable[None]],
    ) -> None:
        self._office = office
        self._desk = desk
        self._dialer = dialer
        self._limit_of = limit_of
        self._left_open = left_open
        self._renew_at_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._desk.wake = trio.Event()  # before looking: what comes meanwhile wakes us again
            self._desk.next_look = None
            try:
                # A read that is left behind would keep a connection of a store that is being closed.
                with trio.CancelScope(shield=True):
                    await self._keep_leases()
                    pause_s = await self._round()
            except StoreUnavailable as error:
                log.event("dial_queue_unreadable", level="warning", error=str(error))
                pause_s = STORE_AWAY_S
            self._desk.next_look = self._office.clock.now() + timedelta(seconds=pause_s)
            with trio.move_on_after(pause_s):
                await self._desk.wake.wait()
            await trio.lowlevel.checkpoint()

    async def start(self) -> None:
        """Take over what a former process of this node held. Raises StoreUnavailable."""
        office, desk = self._office, self._desk
        now = office.clock.now()
        await office.store.write(queue.inherit, desk.node, desk.seat(now), now)

    async def _round(self) -> float:
        """Start what is due; returns how long to sleep at most."""
        office = self._office
        now = office.clock.now()
        due_at = None if office.is_draining else await office.store.read(queue.next_due, now)
        if due_at is None:
            return IDLE_S
        if due_at > now:
            return min((due_at - now).total_seconds(), IDLE_S)
        room = self._room()
        if room <= 0:
            return CROWDED_S
        taken = await self._take(now, room)
        return 0.0 if taken else CROWDED_S

    def _room(self) -> int:
        """Calls that may be begun: somebody has to talk with those who pick up."""
        office = self._office
        unplaced = max(0, len(office.book) - office.pool.held)
        return min(office.pool.room() - unplaced, AT_ONCE_MAX - len(self._desk.under_way))

    async def _take(self, now: datetime, room: int) -> int:
        """Begin what is due, as far as agents may talk with so many at once; returns how many."""
        office, seat, conversations = self._office, self._desk.seat(now), self._office.conversations
        node = self._desk.node
        if not conversations.most:
            turns = await office.store.write(
                _take, seat, now, room, self._limit_of, None, node=node
            )
            for turn in turns:
                self._begin(turn)
            return len(turns)
        if office.conversations.count() >= conversations.most_outbound:
            return 0
        async with conversations.asking(conversations.most_outbound) as share:
            turns = await office.store.write(
                _take, seat, now, room, self._limit_of, share, node=node
            )
            conversations.expect([self._begin(turn) for turn in turns])
        return len(turns)

    def _begin(self, turn: Turn) -> LiveCall:
        call = self._enlist(turn.record, turn.agent)
        if turn.record.ended_at is not None:
            _mark_over(call)  # hung up, and only the row was left
        self._office.spawn(self._dialer.dial, call, turn.entry, turn.limit)
        return call

    def _enlist(self, record: CallRecord, agent: AgentRecord | None) -> LiveCall:
        call = self._office.book.get(record.id)
        if call is None:
            call = from_record(record, agent)
            call.lost = None  # nothing was lost: it has only waited
            self._office.book.add(call)
        self._desk.under_way.add(call.id)
        return call

    # ---- leases --------------------------------------------------------------------------------

    async def _keep_leases(self) -> None:
        if trio.current_time() < self._renew_at_s:
            return
        self._renew_at_s = trio.current_time() + RENEW_EVERY_S
        office, desk = self._office, self._desk
        now = office.clock.now()
        if desk.under_way:
            await office.store.write(queue.renew, desk.seat(now), list(desk.under_way))
        if await office.store.read(queue.is_anything_run_out, now):
            found = await office.store.write(_take_over, desk.seat(now), now, desk.node)
            for record, agent, sent_at in found:
                self._resolve(record, agent, sent_at)

    def _resolve(
        self, record: CallRecord, agent: AgentRecord | None, sent_at: datetime | None
    ) -> None:
        """Its dial request may have left, with a daemon that is gone: find out, and never dial again."""
        is_new = self._office.book.get(record.id) is None
        call = self._enlist(record, agent)
        call.sent_at = sent_at or call.sent_at
        if is_new:
            call.lost = "the daemon was restarted"
        if record.ended_at is not None:
            _mark_over(call)
        self._office.conversations.expect([call])  # until an agent leg is prepared, or it is over
        # Its name was written down, the row's end was not: what has become of it is for Twilio to say.
        is_left = is_new and call.twilio_call_sid is not None
        self._office.spawn(self._looked_for, call, is_left)

    async def _looked_for(self, call: LiveCall, is_left: bool) -> None:
        try:
            await self._dialer.look_for(
                call, self._desk.dial_of(call.id), "the daemon that dialled it is gone"
            )
        finally:
            self._desk.under_way.discard(call.id)
        if is_left and not call.closing:
            await self._left_open(call)


def _mark_over(call: LiveCall) -> None:
    call.closing = True
    call.bound.set()
    call.closed.set()


def _take(
    conn: Connection,
    seat: Seat,
    now: datetime,
    room: int,
    limit_of: LimitOf,
    share: nodes.Share | None,
    *,
    node: str,
) -> list[Turn]:
    """Each call is this node's from now on, whoever ordered it: nobody else's may be written."""
    if share is not None:
        room = min(room, nodes.free_conversations(conn, share, now))
        if room <= 0:
            return []
    turns = []
    for entry in queue.take(conn, seat, now, room, limit_of):
        record = table.get(conn, entry.call_id)
        tenant = tenants.get(conn, entry.tenant_id)
        if record is not None:  # a row has a foreign key to its record
            nodes.claim(conn, record, node)
            limit = limit_of(tenant.limits if tenant else None)
            turns.append(Turn(entry, record, _agent_of(conn, record), limit))
    if share is not None:
        nodes.have_conversations(conn, share, len(turns))
    return turns


def _take_over(
    conn: Connection, seat: Seat, now: datetime, node: str
) -> list[tuple[CallRecord, AgentRecord | None, datetime | None]]:
    found = []
    for entry in queue.take_over(conn, seat, now, TAKEN_OVER_AT_ONCE):
        record = table.get(conn, entry.call_id)
        if record is not None:
            nodes.claim(conn, record, node)
            found.append((record, _agent_of(conn, record), entry.sent_at))
    return found


def _agent_of(conn: Connection, record: CallRecord) -> AgentRecord | None:
    return agents.get(conn, record.agent_id) if record.agent_id else None
