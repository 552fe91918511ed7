"""The story of a call, as the rest of the daemon asks for it.

hooks  ──► answer, continue_call                                 (Twilio's questions)
hooks  ──► call_status, stream_status, …                         (what Twilio tells)
front  ──► admit_stream, join_stream                             (the media stream)
api    ──► initiate, hang_up, check_policy, live_counts          (operators)
daemon ──► run, drain

answering   who answers a call, and how does it go on: TwiML
dialer      outbound calls, exactly once
warming     agent legs, tickets, resumes
callbacks   what Twilio tells: whose is it?
ending      what workers and Twilio tell; closing the record
reconcile   calls of which nothing was heard
unseen      calls that came and went while nobody listened
verdict     the policy
ledger      what is written down
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import trio

from control import failpoints, hanging_up, ledger, log, verdict
from control.answering import Answering
from control.callbacks import Callbacks
from control.calls import LiveCall
from control.cluster import Cluster
from control.compliance.facts import with_meaning
from control.compliance.hearing import Hearing
from control.compliance.in_call import InCallOptOut
from control.compliance.reassigned import Reassigned
from control.compliance.silence import Silence
from control.config import Settings
from control.dialer import Dialer, find_agent
from control.dialing.desk import Desk
from control.dialing.intake import Intake
from control.dialing.limits import limits_in
from control.dialing.machines import Machines
from control.dialing.plan import Order
from control.dialing.pump import Pump
from control.ending import Ending
from control.journal import Journal
from control.leaving import FindSuccessor, Leaving
from control.ledger import FLUSH_EVERY_S
from control.metrics import Metrics
from control.office import Access, Clock, Office, Pool, Twilio
from control.reconcile import Reconcile
from control.refusals import (
    AgentNotFound,
    AgentNotLive,
    CallNotFound,
    CallOver,
    DialRefused,
    DialUncertain,
    NotAdmitted,
    PolicyRefused,
    Refusal,
)
from control.returning import SpoolRead
from control.stats import gauges
from control.stats import usage as figures
from control.stats.usage import Usage
from control.store import Store, StoreUnavailable
from control.store import calls as table
from control.store.records import CallRecord
from control.tickets import TicketRefused, Tickets
from control.tools.actions import actions
from control.tools.desk import Desk as ToolDesk
from control.transfer.order import Order as TransferOrder
from control.transfer.order import as_form
from control.transfer.service import Transferring
from control.unseen import Unseen
from control.verdict import Question, Verdict
from control.warming import Warming
from control.workers import PoolEvent
from gateway.link import CallEvent, TranscriptTurn
from policy import Rule
from policy.facts import Channel

__all__ = [
    "AgentNotFound",
    "AgentNotLive",
    "CallNotFound",
    "CallOver",
    "DialRefused",
    "DialUncertain",
    "NotAdmitted",
    "PolicyRefused",
    "Refusal",
    "Switchboard",
    "TicketRefused",
]

EVENTS_AT_ONCE = 64
"""What workers tell is looked at in one go up to so many, before others have a turn."""
RESUME_PATH = "/twilio/continue"

Form = Mapping[str, str]


async def nobody() -> str | None:
    """No successor."""
    return None


class Switchboard:
    """One per process. `run` has to be running for everything else."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        pool: Pool,
        twilio: Twilio,
        rules: Sequence[Rule],
        clock: Clock,
        metrics: Metrics,
        tickets: Tickets | None = None,
        access: Access | None = None,
        reassigned: Reassigned | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal(None)
        self._office = Office(
            settings=settings,
            store=store,
            pool=pool,
            twilio=twilio,
            rules=rules,
            clock=clock,
            tickets=Tickets(trio.current_time) if tickets is None else tickets,
            metrics=metrics,
            access=access,
            reassigned=reassigned,
        )
        self._warming = Warming(self._office)
        self._ending = Ending(self._office, self._warming)
        desk = Desk(self._office.node)
        limit_of = limits_in(settings)
        self._intake = Intake(self._office, desk, limit_of)
        self._dialer = Dialer(self._office, self._ending, desk)
        self._reconcile = Reconcile(self._office, self._ending)
        left_open = self._reconcile.left_open
        self._pump = Pump(self._office, desk, self._dialer, limit_of, left_open)
        self._machines = Machines(self._office, self._ending)
        self._transfers = Transferring(self._office, self._warming, self._ending)
        tools = ToolDesk(self._office, actions(self._office, self._transfers, self.initiate))
        self._ending.on_tool = tools.on_request
        self._opt_out, self._silence = InCallOptOut(self._office), Silence(self._office)
        self._hearing = Hearing(self._office)
        self._ending.on_line, self._ending.on_turn = self._on_line, self._on_turn
        self._answering = Answering(
            self._office, self._warming, self._ending, self._dialer, self._transfers
        )
        self._unseen = Unseen(self._office)
        self._callbacks = Callbacks(
            self._office,
            self._ending,
            self._dialer,
            self._machines,
            self._transfers,
            self._answering,
            self._unseen,
            partial(hanging_up.end_now, self._office, self._ending),
        )
        self._cluster = Cluster(
            self._office,
            left_open,
            self._callbacks.on_message,
            self._warming.ready_again,
            self._unseen,
        )
        self._leaving = Leaving(self._office, self._ending, self._write_down)
        self._spools: list[Path] = []
        """Files of former workers, told but perhaps not written down."""
        self.on_other_event: Callable[[PoolEvent], bool] = lambda event: False
        """Asked first for every message of the workers: true when it was about no call of ours."""

    # ---- life ----------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. `started` when former calls have been taken over and calls may come."""
        async with trio.open_nursery() as nursery:
            self._office.nursery = nursery
            nursery.start_soon(self._keep_ledger)
            nursery.start_soon(self._measure)
            await self._join_cluster()
            await self._journal.replay(self._office.store)
            await self._reconcile.at_start()
            await self._pump.start()
            nursery.start_soon(self._cluster.run)
            nursery.start_soon(self._unseen.run)
            # Only now: what workers tell that have outlived a former process is about calls in the book.
            nursery.start_soon(self._read_events)
            nursery.start_soon(self._pump.run)
            task_status.started()

    async def _join_cluster(self) -> None:
        try:
            await self._cluster.join()
        except StoreUnavailable as error:
            log.event("beat_failed", level="warning", error=str(error))

    def _on_line(self, call: LiveCall, event: CallEvent) -> None:
        self._opt_out.on_event(call, event)
        self._hearing.on_event(call, event)
        self._silence.on_event(call, event)

    def _on_turn(self, call: LiveCall, turn: TranscriptTurn) -> None:
        self._opt_out.on_turn(call, turn)
        self._hearing.on_turn(call, turn)
        self._silence.on_turn(call, turn)

    async def _read_events(self) -> None:
        events = self._office.pool.events
        async for event in events:
            self._on_pool_event(event)
            with contextlib.suppress(trio.WouldBlock):
                for _ in range(EVENTS_AT_ONCE - 1):
                    self._on_pool_event(events.receive_nowait())

    def _on_pool_event(self, event: PoolEvent) -> None:
        try:
            if isinstance(event, SpoolRead):
                self._spools.append(event.path)
            elif not self.on_other_event(event):
                self._ending.on_event(event)
        except Exception as error:  # noqa: BLE001  # boundary: one call's message, all calls' reader
            call_id = getattr(event, "call_id", None)
            log.event("event_failed", level="error", call_id=call_id, error=error)

    async def _keep_ledger(self) -> None:
        office = self._office
        while True:
            with trio.move_on_after(FLUSH_EVERY_S):
                await office.wake.wait()
            office.wake = trio.Event()
            await self._write_down()
            self._reconcile.sweep()

    async def _measure(self) -> None:
        """What waits in the store, for whoever scrapes."""
        office = self._office
        while True:
            try:
                waiting = await office.store.read(gauges.read, office.clock.now())
                unread = office.pool.events.statistics().current_buffer_used
                gauges.show(office.metrics, waiting, unread)
            except StoreUnavailable as error:
                log.event("gauges_unread", level="warning", error=str(error))
            await trio.sleep(gauges.EVERY_S)

    async def _write_down(self) -> None:
        office = self._office
        read, self._spools = self._spools, []
        await office.ledger.flush(office.book)
        await self._journal.keep(office.book)
        is_dirty = any(call.is_dirty and call.is_recorded for call in office.book)
        if is_dirty or not self._ending.has_written_reports:
            self._spools += read  # the store is away, perhaps
        else:
            for path in read:
                path.unlink(missing_ok=True)
        self._ending.forget_closed()
        office.metrics.calls_live.set(len(office.book))
        office.metrics.conversations.set(office.conversations.count())
        office.metrics.conversations_max.set(office.conversations.most)

    @property
    def node(self) -> str:
        """This daemon's name, as in the records of its calls."""
        return self._office.node

    @property
    def draining(self) -> bool:
        """Whether no new calls are taken."""
        return self._office.is_draining

    def live_counts(self) -> dict[str, int]:
        """Live calls by direction."""
        return self._office.book.counts()

    async def drain(self, successor: FindSuccessor = nobody) -> None:
        """Take no more calls, let those in progress end in time, end or hand over the others. Then nothing is live."""
        await self._leaving.drain(successor)
        await self._cluster.leave()

    # ---- Twilio's questions --------------------------------------------------------------------

    async def answer(self, form: Form, call_id: str | None = None) -> str:
        """TwiML for a number that was called, or for an outbound call that was answered."""
        return await self._answering.answer(form, call_id)

    async def continue_call(self, form: Form, call_id: str | None) -> str:
        """TwiML for a call whose stream has ended without us."""
        return await self._answering.go_on(form, call_id)

    async def dial_done(self, form: Form, call_id: str | None) -> str:
        """TwiML for a caller whose leg to a person is over."""
        return await self._answering.dial_done(form, call_id)

    async def message_left(self, form: Form, call_id: str | None) -> str:
        """TwiML for a caller who has left a message."""
        return await self._answering.message_left(form, call_id)

    # ---- what Twilio tells ---------------------------------------------------------------------

    async def message_recorded(self, form: Form, call_id: str | None) -> None:
        """The recording of a message. Raises StoreUnavailable: then it has to be sent again."""
        await self._callbacks.message_recorded(form, call_id)

    async def leg_status(self, form: Form, call_id: str | None) -> None:
        """A callback about the leg to a person. Raises StoreUnavailable."""
        await self._callbacks.leg_status(form, call_id)

    async def call_status(self, form: Form, call_id: str | None = None) -> None:
        """A status callback. Raises StoreUnavailable: then it has to be sent again."""
        await self._callbacks.call_status(form, call_id)

    async def stream_status(self, form: Form, call_id: str | None = None) -> None:
        """A callback about the media stream: a line of the timeline. Raises StoreUnavailable."""
        await self._callbacks.stream_status(form, call_id)

    async def machine_detected(self, form: Form, call_id: str | None = None) -> None:
        """Who has answered an outbound call. Raises StoreUnavailable: then it has to be sent again."""
        await self._callbacks.machine_detected(form, call_id)

    async def provider_event(self, form: Form) -> None:
        """An event of Twilio's Debugger. Raises StoreUnavailable: then it has to be sent again."""
        await self._callbacks.provider_event(form)

    # ---- the media stream ----------------------------------------------------------------------

    def is_about_ours(self, *, ticket: str = "", call_id: str = "", path: str = "") -> bool:
        """Whether a connection about this ticket, or call, is for this daemon and for no other on the machine.

        While it drains it leaves the question how a call goes on to others.
        """
        office = self._office
        call = office.book.get(office.tickets.call_of(ticket) if ticket else call_id)
        return call is not None and not (office.is_draining and path == RESUME_PATH)

    def tenant_of_ticket(self, ticket: str) -> str | None:
        """Whose call a media stream with this ticket would join; None when the ticket is not known."""
        call = self._office.book.get(self._office.tickets.call_of(ticket))
        return None if call is None else call.tenant_id

    def admit_stream(self, ticket: str) -> str:
        """The call that this stream belongs to. Raises TicketRefused; nothing was opened then."""
        office = self._office
        try:
            call = office.book.get(office.tickets.redeem(ticket))
            if call is None or call.closing or not office.pool.holds(call.id):
                raise TicketRefused("gone")
        except TicketRefused as refusal:
            office.metrics.tickets_refused.labels(refusal.why).inc()
            raise
        return call.id

    async def join_stream(self, call_id: str, sock: socket.socket, head: bytes) -> None:
        """Pass the stream's socket to the call's worker; it is not ours afterwards. Raises WorkerGone."""
        call = self._office.book.get(call_id)
        sid = call.twilio_call_sid if call else None
        await self._office.pool.attach(call_id, sock, head, sid)
        failpoints.reach("stream.attached")

    # ---- operators -----------------------------------------------------------------------------

    async def initiate(
        self,
        *,
        agent_id: str,
        to: str,
        variables: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        tenant_id: str | None = None,
        not_before: datetime | None = None,
        may_be_put_off: bool = False,
        machine_detection: dict[str, Any] | None = None,
    ) -> CallRecord:
        """Call `to` and join the agent to it; an agent of this tenant, if one is named.

        `not_before`: not earlier. `may_be_put_off`: policy may move it to a later time. The record that is
        returned is `queued`, without Twilio's SID, when its turn has not come yet.
        Raises AgentNotFound, AgentNotLive, TooFarAhead, PolicyRefused, NotAdmitted, DialRefused,
        DialUncertain, CallOver (hung up before it was dialled), StoreUnavailable.
        """
        return await self._intake.initiate(
            Order(
                agent_id=agent_id,
                to=to,
                variables=variables or {},
                metadata=metadata or {},
                tenant_id=tenant_id,
                not_before=not_before,
                may_be_put_off=may_be_put_off,
                machine_detection=machine_detection,
            )
        )

    async def check_policy(
        self,
        *,
        agent_id: str,
        to: str,
        direction: str = "outbound",
        at: datetime | None = None,
        tenant_id: str | None = None,
        channel: Channel = "voice",
        from_number: str | None = None,
        meaning: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The decision that such a call would get; kept, but nothing is dialled.

        `to` is the other side's number in both directions; `from_number` another caller id than the agent's,
        `meaning` what a call's metadata would say of purpose and place. Raises AgentNotFound, StoreUnavailable.
        """
        agent = await find_agent(self._office, agent_id, tenant_id)
        ours = from_number or agent.number_e164 or ""
        question = (
            Question("inbound", "check", agent.tenant_id, agent.id, to, ours)
            if direction == "inbound"
            else Question("outbound", "check", agent.tenant_id, agent.id, ours, to)
        )
        question = with_meaning(replace(question, channel=channel), meaning or {})
        decided = await verdict.ask(self._office, question, at)
        await self._office.store.write(ledger.add, None, decided.ruling)
        return decided.decision

    async def ask_policy(self, question: Question) -> Verdict:
        """The verdict on anything else than a call of ours, such as a message; the asker keeps it."""
        return await verdict.ask(self._office, question)

    async def transfer(self, call_id: str, order: TransferOrder) -> CallRecord:
        """Put the caller of a live call through to somebody.

        Another node's call is passed on to it: what comes of it is in the record alone.
        Raises CallNotFound, CallOver, PolicyRefused, NotAdmitted, DialRefused, StoreUnavailable.
        """
        if (call := await self._here("transfer", call_id, as_form(order))) is not None:
            await self._transfers.start(call, order)
            await self._office.ledger.save([call])
        return await self._record(call_id)

    async def usage(self, tenant_id: str, first: date, last: date) -> Usage:
        """What the tenant's Twilio account used on these days. Raises TwilioError, StoreUnavailable."""
        return await figures.usage(self._office, tenant_id, first, last)

    async def cancel_queued(self, call_id: str) -> CallRecord | None:
        """Take a call out of the queue; None when it does not wait there. Raises StoreUnavailable."""
        return await self._intake.call_off(call_id)

    async def hang_up(self, call_id: str) -> CallRecord:
        """End a call; one that waits in the queue is never dialled.

        Raises CallNotFound, CallOver, StoreUnavailable.
        """
        if (cancelled := await self._intake.call_off(call_id)) is not None:
            return cancelled
        if (call := await self._here("hang_up", call_id, {})) is not None:
            await hanging_up.hang_up(self._office, self._ending, call)
        return await self._record(call_id)

    async def _here(self, what: str, call_id: str, form: Form) -> LiveCall | None:
        """The live call; None when it is another node's, which was asked instead. Raises CallNotFound, CallOver."""
        call = await self._office.find(call_id, None)
        if call is None and not await self._callbacks.relayed(what, form, call_id):
            await self._record(call_id)  # CallNotFound
            raise CallOver("the call is over")
        return call

    async def _record(self, call_id: str) -> CallRecord:
        record = await self._office.store.read(table.get, call_id)
        if record is None:
            raise CallNotFound(call_id)
        return record
