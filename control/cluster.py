"""This daemon among others on the same database: its sign of life, and the work of those that are gone.

A call belongs to the daemon that its record names. It comes to another one in two ways: the former's lease has
run out, or Twilio asks this one how the call goes on, which it does only when the former's stream is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import trio
from sqlalchemy import Connection

from control import log
from control.calls import LiveCall
from control.office import Office
from control.store import StoreUnavailable, agents, nodes
from control.store import calls as table
from control.store.records import AgentRecord, CallRecord
from control.unseen import Unseen

LEASE = timedelta(seconds=15)
BEAT_EVERY_S = 3.0
"""Four beats may fail before another daemon takes the calls over."""
LISTEN_EVERY_S = 0.5
PURGE_AFTER = timedelta(days=1)

Left = tuple[CallRecord, AgentRecord | None]


class Cluster:
    """Runs in the switchboard's nursery. `on_left` gets each call of a daemon that is no more, `on_given` before it
    those that a daemon which leaves has given to this one."""

    def __init__(
        self,
        office: Office,
        on_left: Callable[[LiveCall], Awaitable[None]],
        on_message: Callable[[LiveCall, nodes.Message], None],
        on_given: Callable[[LiveCall], Awaitable[None]],
        unseen: Unseen,
    ) -> None:
        self._office = office
        self._unseen = unseen
        self._on_given = on_given
        self._on_left = on_left
        self._on_message = on_message

    async def join(self) -> None:
        """The first sign of life. Raises StoreUnavailable."""
        office = self._office
        now = office.clock.now()
        await office.store.write(nodes.beat, office.node, now + LEASE, office.conversations.count())
        await office.store.write(nodes.purge, now - PURGE_AFTER)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            nursery.start_soon(self._listen)

    async def _beat(self) -> None:
        while True:
            await trio.sleep(BEAT_EVERY_S)
            await self._beat_once()

    async def _beat_once(self) -> None:
        office = self._office
        now = office.clock.now()
        try:
            mine = office.conversations.count()
            heard_until = self._unseen.heard_until
            await office.store.write(nodes.beat, office.node, now + LEASE, mine, heard_until)
            left = (
                [] if office.is_draining else await office.store.write(_inherit, office.node, now)
            )
        except StoreUnavailable as error:
            log.event("beat_failed", level="warning", error=str(error))
            self._unseen.deaf()
            return
        for record, agent in left:
            if office.book.get(record.id) is None:
                log.event("call_inherited", call_id=record.id, former=record.node)
                office.spawn(self._inherited, office.adopt(record, agent))

    async def _inherited(self, call: LiveCall) -> None:
        await self._on_left(call)
        if call.status == "in-progress" and not call.closing:
            # The other daemon may only have lost the store, and the two may be talking still.
            self._office.watch(call, self._office.settings.media.max_call_s)

    async def leave(self) -> None:
        """This daemon ends in order: what it leaves open is anybody's at once."""
        with contextlib.suppress(StoreUnavailable):
            await self._office.store.write(nodes.leave, self._office.node)

    async def _given(self, call_id: str) -> None:
        """A daemon that leaves has made a call ours. Twilio may have asked us about it already."""
        office = self._office
        if office.book.get(call_id) is not None:
            return
        try:
            call = await office.find(call_id, None)
        except StoreUnavailable as error:
            log.event("call_unreadable", level="warning", call_id=call_id, error=str(error))
            return
        if call is not None:
            await self._on_given(call)
            await self._inherited(call)

    async def _listen(self) -> None:
        office = self._office
        while True:
            await trio.sleep(LISTEN_EVERY_S)
            told: list[nodes.Message] = []
            with contextlib.suppress(StoreUnavailable):  # it is still there the next time
                if await office.store.read(nodes.is_anything_told, office.node):
                    told = await office.store.write(nodes.listen, office.node)
            for message in told:
                call = office.book.get(message.call_id)
                if message.what == "take_over":
                    office.spawn(self._given, message.call_id)
                elif call is None:
                    continue
                elif message.what == "let_go":
                    await let_go(office, call)
                else:
                    self._on_message(call, message)


async def let_go(office: Office, call: LiveCall) -> None:
    """Another daemon carries the call now: nothing more is decided about it here."""
    call.closing = True
    office.pool.cancel(call.id, "another node carries the call")
    call.columns = {}  # what the other one knows is newer; what was said and done stays true
    with contextlib.suppress(StoreUnavailable):
        await office.ledger.save([call])
    log.event("call_let_go", call_id=call.id)
    forget(office, call)


def forget(office: Office, call: LiveCall) -> None:
    """The call is no more of ours; whoever waits for it waits no longer."""
    office.book.remove(call)
    call.ready.set()
    call.bound.set()
    call.handed.set()
    call.closed.set()


def _inherit(conn: Connection, node: str, now: datetime) -> list[Left]:
    found = nodes.inherit(conn, node, now, own=False)
    return [(record, _agent_of(conn, record)) for record in found]


def _agent_of(conn: Connection, record: CallRecord) -> AgentRecord | None:
    return agents.get(conn, record.agent_id) if record.agent_id else None


def relay(conn: Connection, message: nodes.Message, sid: str, node: str, now: datetime) -> bool:
    """Pass something on to the living daemon whose call it is about; False when there is none."""
    call_id, what, form = message
    record = table.get(conn, call_id) if call_id else table.by_sid(conn, sid)
    if record is None or record.ended_at is not None or record.node in (None, node):
        return False
    if not nodes.is_alive(conn, record.node, now):
        return False
    nodes.tell(conn, str(record.node), record, what, form, now)
    return True
