"""An inbound call's first question: who takes it, may it happen, and the document for that.

routes decide ─ policy is asked ─ the record is committed ─ the document
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from control import failpoints, log, verdict
from control.calls import LiveCall, Outcome
from control.dialer import CALLABLE
from control.dialing.limits import limits_in
from control.ending import CONTINUE_DEADLINE_S, STREAM_DEADLINE_S
from control.ledger import Also
from control.office import Office
from control.routing import callers, inbound
from control.routing.inbound import Called
from control.routing.model import Target
from control.store import admission, agents, nodes
from control.store import calls as table
from control.store.records import AgentRecord, CallRecord
from control.strangers import whole_number
from control.transfer import documents
from control.transfer.order import Kind, Order
from control.transfer.service import RING_MARGIN_S, caller_id
from control.twilio import twiml
from control.verdict import Question
from control.warming import Warming, max_call_s
from control.workers import PoolBusy, PoolFull

TALK_MARGIN_S = 60.0
"""Beyond what is said and recorded: then Twilio is asked what became of the call."""

TOO_MANY: dict[admission.Exceeded, str] = {
    "tenant_calls": "the tenant has as many calls as it may have at once",
    "tenant_rate": "the tenant has had as many calls as it may have in a minute",
}

Form = Mapping[str, str]
Again = Callable[[LiveCall, CallRecord, "AgentRecord | None"], Awaitable[str]]


class Reception:
    """Part of `control.answering.Answering`."""

    def __init__(self, office: Office, warming: Warming, again: Again) -> None:
        self._office = office
        self._warming = warming
        self._again = again

    async def answer(self, call: LiveCall, form: Form) -> str:
        """The document for a new inbound call. Raises StoreUnavailable."""
        office = self._office
        now = office.clock.now()
        former, known, called = await office.store.read(
            _read, call.twilio_call_sid, call.to_number, call.from_number, now
        )
        if former is not None:
            return await self._again(call, former, known)
        target, agent = called.chosen.target, called.agent
        if called.tenant_id is None or (target is None and not _may_answer(agent)):
            return self._unknown(call, agent)
        call.agent = agent
        call.tenant_id = called.tenant_id
        call.caller = callers.variables(form, called.caller)
        question = Question(
            "inbound",
            "answer",
            call.tenant_id,
            call.agent_id or "",
            call.from_number,
            call.to_number,
        )
        decided = await verdict.ask(office, question)
        call.duties = tuple(decided.decision.get("obligations", ()))
        call.caller |= {"business_open": _is_open(decided.decision)}
        record = self._record(call, form, decided, called)
        if not decided.allowed:
            outcome = Outcome("policy", "policy", decided.reason)
            return await self._decline(call, record, decided, outcome, "blocked", "rejected")
        if target is None or target.reject is None:
            exceeded = await self._exceeded(call, called)
            if exceeded is not None:
                return await self._busy(call, record, decided, exceeded, TOO_MANY[exceeded])
        if target is None:
            return await self._by_agent(call, record, decided)
        return await self._routed(call, record, decided, target)

    def _unknown(self, call: LiveCall, agent: AgentRecord | None) -> str:
        office = self._office
        office.book.remove(call)
        why = f"agent is {agent.status}" if agent else "unknown number"
        office.metrics.webhooks.labels("/twilio/voice", "unknown_number").inc()
        log.event("call_declined", level="warning", reason=why, to=call.to_number)
        return twiml.reject()

    def _record(
        self, call: LiveCall, form: Form, decided: verdict.Verdict, called: Called
    ) -> CallRecord:
        chosen = called.chosen
        target = chosen.target.kind if chosen.target else "agent"
        call.legs = {"route": {"target": target, "index": chosen.index, "reason": chosen.reason}}
        return CallRecord(
            id=call.id,
            direction="inbound",
            created_at=call.created_at,
            tenant_id=call.tenant_id,
            agent_id=call.agent_id,
            from_number=call.from_number,
            to_number=call.to_number,
            status="ringing",
            twilio_call_sid=call.twilio_call_sid,
            node=self._office.node,
            ringing_at=call.created_at,
            metadata=_vouched(form),
            decision=decided.decision,
            legs=call.legs,
        )

    # ---- limits --------------------------------------------------------------------------------

    async def _exceeded(self, call: LiveCall, called: Called) -> admission.Exceeded | None:
        """Count the call for its tenant, or say which of the tenant's limits it would exceed."""
        office = self._office
        limit = limits_in(office.settings)(called.limits)
        if limit.calls_max is None and limit.calls_per_minute is None:
            return None
        now = office.clock.now()
        return await office.store.write(admission.begin, call.tenant_id, call.id, limit, now)

    async def _has_conversation(self, call: LiveCall) -> bool:
        """Whether an agent may talk with one more, as far as ElevenLabs' limit is known."""
        office, conversations = self._office, self._office.conversations
        if not conversations.most:
            return True
        async with conversations.asking(conversations.most) as share:
            now = office.clock.now()
            is_free = await office.store.write(nodes.take_conversation, share, now)
            if is_free:
                conversations.expect([call])
        return is_free

    async def _busy(
        self, call: LiveCall, record: CallRecord, decided: verdict.Verdict, why: str, text: str
    ) -> str:
        """A polite refusal: the caller hears that the line is busy."""
        self._office.metrics.calls_turned_away.labels(why).inc()
        blame = None if why in TOO_MANY else "gateway"
        outcome = Outcome("busy", blame, text)
        return await self._decline(
            call,
            record,
            decided,
            outcome,
            "busy",
            "busy",
            partial(admission.take_back, call_id=call.id),
        )

    # ---- the agent -----------------------------------------------------------------------------

    async def _by_agent(self, call: LiveCall, record: CallRecord, decided: verdict.Verdict) -> str:
        office = self._office
        if not await self._has_conversation(call):
            text = "as many agent conversations as elevenlabs.concurrency allows"
            return await self._busy(call, record, decided, "conversations", text)
        office.note(call, "ringing")
        try:
            # The agent leg is opened while the record is written; the answer waits for the record.
            await self._warming.prepare_soon(call, is_new=True)
        except PoolFull as full:
            why = "workers_busy" if isinstance(full, PoolBusy) else "workers_full"
            return await self._busy(call, record, decided, why, str(full))
        failpoints.reach("answer.before_commit")
        await office.ledger.open(call, record, decided.ruling)
        failpoints.reach("answer.after_commit")
        office.watch(call, office.settings.media.inbound_attach_timeout_s + STREAM_DEADLINE_S)
        office.note(call, "answered_with_stream")
        return self._warming.document(call)

    # ---- somebody or something else ------------------------------------------------------------

    async def _routed(
        self, call: LiveCall, record: CallRecord, decided: verdict.Verdict, target: Target
    ) -> str:
        office = self._office
        reason = str(call.legs["route"]["reason"])
        if target.reject is not None:
            result = "busy" if target.reject == "busy" else "cancelled"
            status = "busy" if target.reject == "busy" else "no-answer"
            outcome = Outcome(result, None, reason)
            return await self._decline(call, record, decided, outcome, status, target.reject)
        office.note(call, "ringing")
        if target.is_person:
            return await self._to_person(call, record, decided, target)
        await office.ledger.open(call, record, decided.ruling)
        call.outcome = Outcome("completed", None, reason)
        text = target.message or target.refusal or ""
        office.note(call, "answered_with_message", kind=target.kind)
        if target.record is not None:
            office.watch(call, target.record.max_s + 2 * TALK_MARGIN_S)
            return documents.take_message(
                text,
                action=office.urls.message_left(call.id),
                callback=office.urls.recorded(call.id),
                max_s=target.record.max_s,
            )
        office.watch(call, 2 * TALK_MARGIN_S)
        return twiml.say_hangup(text)

    async def _to_person(
        self, call: LiveCall, record: CallRecord, decided: verdict.Verdict, target: Target
    ) -> str:
        office = self._office
        order = order_of(target)
        if order.kind == "number":
            question = Question(
                "transfer",
                "dial",
                call.tenant_id,
                call.agent_id or "",
                call.to_number,
                order.address,
                call_id=call.id,
                transfer_target_listed=True,
            )
            asked = await verdict.ask(office, question)
            if not asked.allowed:
                return await self._not_put_through(call, record, decided, asked)
            leg = order.as_leg(call.legs) | {"decision": asked.decision}
        else:
            leg = order.as_leg(call.legs)
        now_ms = office.now_ms()
        call.legs = call.legs | {
            "transfer": leg | {"status": "dialling", "asked_at_ms": now_ms, "dialled_at_ms": now_ms}
        }
        call.away = True
        await office.ledger.open(call, replace(record, legs=call.legs), decided.ruling)
        office.note(call, "transfer_dialling", kind=order.kind, by="route")
        limit_s = int(max_call_s(office, call))
        office.watch(call, order.timeout_s + limit_s + RING_MARGIN_S)
        return documents.dial(
            order.kind,
            order.address,
            action=office.urls.dial_done(call.id),
            leg_status=office.urls.leg(call.id, leg["number"]),
            timeout_s=order.timeout_s,
            time_limit_s=limit_s,
            announce=order.announce,
            caller_id=caller_id(call),
            rings_on=True,
        )

    async def _not_put_through(
        self,
        call: LiveCall,
        record: CallRecord,
        decided: verdict.Verdict,
        asked: verdict.Verdict,
    ) -> str:
        """Policy forbids to dial the person: the agent takes the call, as far as there is one."""
        office = self._office
        office.note(call, "transfer_refused", reason=asked.reason)
        route = call.legs["route"] | {"target": "agent", "refused": asked.decision}
        call.legs = {"route": route}
        record = replace(record, legs=call.legs)
        if _may_answer(call.agent):
            return await self._by_agent(call, record, decided)
        outcome = Outcome("policy", "policy", asked.reason)
        return await self._decline(call, record, decided, outcome, "blocked", "rejected")

    async def _decline(
        self,
        call: LiveCall,
        record: CallRecord,
        decided: verdict.Verdict,
        outcome: Outcome,
        status: str,
        reason: str,
        also: Also | None = None,
    ) -> str:
        """Do not answer; the record says why."""
        office = self._office
        office.book.remove(call)
        log.event("call_declined", call_id=call.id, reason=outcome.reason)
        closed = replace(
            record,
            status=status,
            result=outcome.result,
            blame=outcome.blame,
            reason=outcome.reason,
            ended_at=office.clock.now(),
        )
        await office.ledger.open(call, closed, decided.ruling, also)
        office.metrics.calls.labels("inbound", outcome.result, outcome.blame or "none").inc()
        return twiml.reject(reason)

    # ---- a message left ------------------------------------------------------------------------

    def message_left(self, call: LiveCall) -> str:
        """The document after a message was recorded."""
        self._office.note(call, "message_left")
        self._office.watch(call, CONTINUE_DEADLINE_S)
        return twiml.say_hangup("Thank you. Goodbye.")

    async def recorded(self, call_id: str | None, form: Form) -> None:
        """Twilio has the recording of a message. Often after the end. Raises StoreUnavailable."""
        part = {
            "recording_sid": form.get("RecordingSid", "")[:64],
            "url": form.get("RecordingUrl", "")[:500],
            "status": form.get("RecordingStatus", "")[:20],
            "duration_s": whole_number(form.get("RecordingDuration", "")),
        }
        call = self._office.book.get(call_id) or self._office.book.by_sid(form.get("CallSid"))
        if call is not None and not call.closing and call.is_recorded:
            call.leg("voicemail", part)
            return
        await self._office.store.write(_add_leg, form.get("CallSid", ""), "voicemail", part)


def order_of(target: Target) -> Order:
    """A route's person as the order of a transfer."""
    kind: Kind = "number" if target.number else "client" if target.client else "sip"
    return Order(
        kind,
        target.number or target.client or target.sip or "",
        by="route",
        announce=target.announce or "",
        otherwise=target.otherwise,
        timeout_s=target.timeout_s,
    )


def _is_open(decision: Mapping[str, Any]) -> str:
    """`yes` or `no` by the rule about opening hours, as a dynamic variable; empty where it was not asked."""
    if all(rule["id"] != "INB-HOURS" for rule in decision["rules"]):
        return ""
    after_hours = {"kind": "route", "branch": "after_hours"}
    return "no" if after_hours in decision.get("obligations", ()) else "yes"


def _may_answer(agent: AgentRecord | None) -> bool:
    return agent is not None and agent.status in CALLABLE and bool(agent.elevenlabs_agent_id)


def _read(
    conn: Connection, sid: str | None, to_number: str, from_number: str, at: Any
) -> tuple[CallRecord | None, AgentRecord | None, Called]:
    former = table.by_sid(conn, sid) if sid else None
    known = agents.get(conn, former.agent_id) if former and former.agent_id else None
    return former, known, inbound.read(conn, to_number, from_number, at)


def _add_leg(conn: Connection, sid: str, name: str, part: dict[str, Any]) -> None:
    """To the record of a call that is over. Two parts at once: the later one has read the earlier."""
    record = table.by_sid(conn, sid) if sid else None
    if record is None:
        log.event("unknown_call", level="warning", what=name, sid=sid)
        return
    table.update(conn, record.id, legs=record.legs | {name: part})


def _vouched(form: Form) -> dict[str, Any]:
    """What the carrier vouches for, and how the call came by SIP, kept as it came."""
    kept = {"stir_verstat": "StirVerstat", "sip_domain": "SipDomain", "sip_call_id": "SipCallId"}
    return {name: form[key][:200] for name, key in kept.items() if form.get(key)}
