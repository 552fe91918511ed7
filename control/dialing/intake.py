"""Requests for calls: decided, written down and queued; whoever asked waits a while for the outcome."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NoReturn

import trio
from sqlalchemy import Connection

from control import failpoints, ids, verdict
from control.calls import LiveCall
from control.compliance.facts import with_meaning
from control.dialing.desk import Desk, Dial
from control.dialing.limits import LimitOf
from control.dialing.plan import AHEAD_MAX, Order, Plan, plan
from control.office import Office
from control.refusals import (
    AgentNotFound,
    AgentNotLive,
    CallOver,
    NotAdmitted,
    PolicyRefused,
    TooFarAhead,
)
from control.stats import health
from control.store import StoreError, StoreUnavailable, agents, tenants
from control.store import calls as table
from control.store import dialing as queue
from control.store.records import AgentRecord, CallRecord
from control.verdict import Question, Verdict
from policy.facts import Phase

ANSWER_WITHIN_S = 15.0
"""How long a request waits to be told; a call whose turn comes later is answered at once, as queued.

Shorter than `control.http.IDLE_READ_S`, after which the server drops a client that sends nothing."""
LOOK_EVERY_S = 1.0
"""Another daemon may have dialled it: then only the store knows."""
QUEUE_MAX_CALLS = 10_000
"""Calls of one tenant that may wait."""
LATE_S = 60.0
"""A `not_before` so far back is somebody's slow clock and means now."""

CALLABLE = ("live", "degraded")


class QueueFull(StoreError):
    """The tenant has as many calls waiting as it may."""


class Intake:
    """One per process."""

    def __init__(self, office: Office, desk: Desk, limit_of: LimitOf) -> None:
        self._office = office
        self._desk = desk
        self._limit_of = limit_of

    async def initiate(self, order: Order) -> CallRecord:
        """Call `order.to` for the agent, now or when it may be.

        The record that is returned has Twilio's SID when the call is on its way, and is `queued` otherwise.
        Raises AgentNotFound, AgentNotLive, TooFarAhead, PolicyRefused, NotAdmitted, DialRefused,
        DialUncertain, CallOver, StoreUnavailable.
        """
        office = self._office
        now = office.clock.now()
        due_at = max(order.not_before or now, now)
        # What our own queue will add to the wait: the hours have to be open for so long, too.
        agent, wait_s, cps = await office.store.read(
            _agent_and_wait_s, order.agent_id, due_at, now, self._limit_of
        )
        agent = _visible(agent, order.agent_id, order.tenant_id)
        if agent.status not in CALLABLE:
            raise AgentNotLive(f"the agent is {agent.status}")
        if not agent.number_e164 or not agent.elevenlabs_agent_id:
            raise AgentNotLive("the agent has no telephone number or no ElevenLabs agent")
        if office.is_draining:
            raise NotAdmitted("the gateway is shutting down")
        if order.not_before is not None and order.not_before > now + AHEAD_MAX:
            raise TooFarAhead(AHEAD_MAX.days)
        call = self._new_call(agent, agent.number_e164, order)
        asked = with_meaning(question(call, "accept"), order.metadata)
        asked = replace(asked, queue_wait_s=wait_s)
        decided = await verdict.ask(office, asked, order.not_before)
        record = _record(call, order, decided)
        planned = plan(order, decided.decision, now)
        if planned is None:
            await self._block(call, record, decided)
        return await self._queued(call, record, decided, planned, cps)

    def _new_call(self, agent: AgentRecord, number: str, order: Order) -> LiveCall:
        now = self._office.clock.now()
        return LiveCall(
            id=ids.new_id(ids.CALL, now),
            tenant_id=agent.tenant_id,
            direction="outbound",
            from_number=number,
            to_number=order.to,
            created_at=now,
            agent=agent,
            machine_detection=(
                order.machine_detection or agent.settings.get("machine_detection") or None
            ),
        )

    async def _block(self, call: LiveCall, record: CallRecord, decided: Verdict) -> NoReturn:
        """Keep the refused request with its decision, and refuse."""
        blocked = replace(
            record,
            status="blocked",
            result="policy",
            blame="policy",
            reason=decided.reason,
            dial_state="refused",
            ended_at=call.created_at,
        )
        await self._office.ledger.open(call, blocked, decided.ruling)
        self._office.metrics.calls.labels("outbound", "policy", "policy").inc()
        raise PolicyRefused(decided.decision, call.id)

    async def _queued(
        self, call: LiveCall, record: CallRecord, decided: Verdict, planned: Plan, cps: float
    ) -> CallRecord:
        office, desk = self._office, self._desk
        entry = queue.QueueRecord(
            call.id,
            call.tenant_id,
            due_at=planned.due_at,
            give_up_at=planned.give_up_at,
            created_at=call.created_at,
            waiting_for=planned.waiting_for,
            is_patient=planned.is_patient,
        )
        enqueue = _Enqueue(entry, office.now_ms(), cps)
        dial = desk.dials[call.id] = Dial()
        try:
            try:
                await office.ledger.open(call, record, decided.ruling, enqueue)
                failpoints.reach("dial.queued")
            except QueueFull as full:
                raise NotAdmitted(str(full)) from full
            desk.queued(planned.due_at)
            if planned.due_at <= call.created_at and enqueue.wait_s <= ANSWER_WITHIN_S:
                await self._outcome(call.id, dial)
                if dial.refusal is None:
                    record = await self._read(call.id)
        finally:
            del desk.dials[call.id]
        if dial.refusal is not None:
            raise dial.refusal
        return record

    async def _outcome(self, call_id: str, dial: Dial) -> None:
        with trio.move_on_after(ANSWER_WITHIN_S):
            while not dial.done.is_set():
                with trio.move_on_after(LOOK_EVERY_S):
                    await dial.done.wait()
                    return
                record = await self._read(call_id)
                if record.status == "blocked" and not dial.done.is_set():
                    dial.finish(PolicyRefused(record.decision or {}, call_id))
                elif record.twilio_call_sid or record.ended_at:
                    return

    async def call_off(self, call_id: str) -> CallRecord | None:
        """Cancel a call that waits in the queue; None when it does not. Raises StoreUnavailable."""
        office = self._office
        if office.book.get(call_id) is not None:
            return None
        cancelled = await office.store.write(
            _call_off, call_id, office.clock.now(), office.now_ms()
        )
        if not cancelled:
            return None
        office.metrics.calls.labels("outbound", "cancelled", "none").inc()
        self._desk.dial_of(call_id).finish(CallOver("the call was hung up before it was dialled"))
        return await self._read(call_id)

    async def _read(self, call_id: str) -> CallRecord:
        record = await self._office.store.read(table.get, call_id)
        if record is None:
            raise StoreUnavailable(f"the record of {call_id} is gone")
        return record


def _agent_and_wait_s(
    conn: Connection, agent_id: str, due_at: datetime, now: datetime, limit_of: LimitOf
) -> tuple[AgentRecord | None, float, float]:
    """The agent, how long after `due_at` a call of its tenant will be dialled that is queued now, and the tenant's
    calls per second."""
    agent = agents.get(conn, agent_id)
    if agent is None:
        return None, 0.0, 1.0
    tenant = tenants.get(conn, agent.tenant_id)
    cps = limit_of(tenant.limits if tenant else None).cps
    return agent, queue.expected_wait_s(conn, agent.tenant_id, due_at, now, cps), cps


class _Enqueue:
    """Puts the call into the queue, in the transaction that writes its record. `wait_s` is estimated."""

    def __init__(self, entry: queue.QueueRecord, at_ms: int, cps: float) -> None:
        self._entry = entry
        self._at_ms = at_ms
        self._cps = cps
        self.wait_s = 0.0

    def __call__(self, conn: Connection) -> None:
        entry = self._entry
        if queue.length(conn, entry.tenant_id) >= QUEUE_MAX_CALLS:
            raise QueueFull("too many calls are waiting to be dialled")
        queue.add(conn, entry)
        until = entry.due_at.isoformat() if entry.due_at > entry.created_at else None
        data = {"waiting_for": entry.waiting_for} | ({"until": until} if until else {})
        lines = [("accepted", self._at_ms, {}), ("queued", self._at_ms, data)]
        lines = lines if until else lines[:1]
        table.apply(conn, [table.Changes(entry.call_id, entry.tenant_id, lines=lines)])
        self.wait_s = queue.position(conn, entry) / self._cps


def _record(call: LiveCall, order: Order, decided: Verdict) -> CallRecord:
    return CallRecord(
        id=call.id,
        tenant_id=call.tenant_id,
        agent_id=call.agent_id,
        direction="outbound",
        created_at=call.created_at,
        from_number=call.from_number,
        to_number=order.to,
        status="queued",
        variables=order.variables,
        metadata=order.metadata,
        campaign=health.campaign_of(
            decided.known.subject if decided.known else None, call.agent_id
        ),
        decision=decided.decision,
        dial_state="intent",
        machine_detection=call.machine_detection,
    )


async def find_agent(office: Office, agent_id: str, tenant_id: str | None) -> AgentRecord:
    """The agent, of this tenant if one is named. Raises AgentNotFound, StoreUnavailable."""
    return _visible(await office.store.read(agents.get, agent_id), agent_id, tenant_id)


def _visible(agent: AgentRecord | None, agent_id: str, tenant_id: str | None) -> AgentRecord:
    if agent is None or agent.status == "closed" or tenant_id not in (None, agent.tenant_id):
        raise AgentNotFound(agent_id)
    return agent


def question(call: LiveCall, phase: Phase) -> Question:
    """What policy is asked about an outbound call."""
    return Question(
        "outbound",
        phase,
        call.tenant_id,
        call.agent_id or "",
        call.from_number,
        call.to_number,
        call_id=call.id,
    )


def _call_off(conn: Connection, call_id: str, at: object, at_ms: int) -> bool:
    if not queue.call_off(conn, call_id):
        return False
    table.update(
        conn,
        call_id,
        status="canceled",
        result="cancelled",
        reason="hung up by request",
        ended_at=at,
    )
    table.append_events(conn, call_id, [("hang_up_requested", at_ms, {}), ("ended", at_ms, {})])
    return True
