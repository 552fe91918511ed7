"""The story of a transfer.

    asked ─ policy ─ the agent finishes its sentence ─ Twilio gets <Dial> ─ the stream ends
    dialled ─ answered ─ completed: hang up, or back to the agent
            └ nobody answers: back to the agent (who is told), an excuse, or the end

A transfer changes the telephone call by REST before the stream is closed, as every end does; what Twilio asks
afterwards comes to `dial_done`. If the change fails, Twilio goes on with the verbs it holds and asks
`/twilio/continue`: then the caller is back with the agent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import trio

from control import verdict
from control.calls import TERMINAL, LiveCall, Outcome
from control.ending import CONTINUE_DEADLINE_S, STREAM_DEADLINE_S, Ending, outcome_of
from control.office import HANG_UP_TIMEOUT_S, Office
from control.refusals import CallOver, DialRefused, NotAdmitted, PolicyRefused, Refusal
from control.store import StoreUnavailable
from control.strangers import whole_number
from control.transfer import documents, fallback
from control.transfer.fallback import Fallback
from control.transfer.order import (
    GOOD_ENDS,
    OPEN,
    TRANSFER,
    TRANSFERS_MAX,
    Order,
    in_words,
    status_of,
    times,
)
from control.transfer.warm import Warm
from control.twilio import twiml
from control.twilio.rest import TwilioError, TwilioRefused
from control.verdict import Question
from control.warming import REGRET, Warming, max_call_s

DRAIN_S = 8.0
"""How long the agent may go on with its sentence; then it is cut short."""
OUTCOME_WAIT_S = 20.0
"""How long whoever asked waits to be told that Twilio has the call."""
RING_MARGIN_S = 60.0
"""Beyond ringing and talking: then Twilio is asked what became of the call."""
REPORT_WAIT_S = 3.0
DONE = Outcome("completed", None, "the caller was put through")

Form = Mapping[str, str]
Handover: TypeAlias = Callable[[LiveCall], Awaitable[None]]


class Transferring:
    """One per process. Callers hold a live call of this process's book."""

    def __init__(self, office: Office, warming: Warming, ending: Ending) -> None:
        self._office = office
        self._warming = warming
        self._ending = ending
        self._warm = Warm(office, ending, self._join)

    # ---- asked ---------------------------------------------------------------------------------

    async def start(self, call: LiveCall, order: Order) -> None:
        """Hand the caller over. Returns when Twilio dials (warm: when the person is rung).

        Raises CallOver (no talk to hand over, or one transfer too many), PolicyRefused, NotAdmitted,
        DialRefused (Twilio said no; the caller is back with the agent), StoreUnavailable.
        """
        self._check(call)
        decided = await self._ask_policy(call, order)
        self._check(call)  # the talk may have ended while the policy was asked
        leg = order.as_leg(call.legs) | {"asked_at_ms": self._office.now_ms(), "decision": decided}
        call.leg("transfer", leg)
        self._office.note(call, "transfer_asked", kind=order.kind, by=order.by, mode=leg["mode"])
        if order.is_warm:
            await self._warm.ring(call, order)
            return
        await self._let_go(call, partial(self._dial, order=order))
        status = status_of(call.legs)
        if status == "failed":
            raise DialRefused(0, str(call.legs["transfer"].get("reason", "")), call.id)
        if call.closing and not call.away:
            raise CallOver("the call ended before it was handed over")

    async def start_unasked(self, call: LiveCall, order: Order) -> None:
        """Like `start`, where nobody waits for the outcome: the timeline tells of a refusal."""
        try:
            await self.start(call, order)
        except Refusal as refusal:
            self._office.note(call, "transfer_refused", reason=str(refusal))

    def _check(self, call: LiveCall) -> None:
        if call.closing or call.ended_status or call.hung_up:
            raise CallOver("the call is over")
        if status_of(call.legs) in OPEN:
            raise CallOver("a transfer of this call is under way")
        if not call.attached or not self._office.pool.holds(call.id) or call.ending is not None:
            raise CallOver("the agent does not talk with the caller now")
        if times(call.legs) >= TRANSFERS_MAX:
            raise CallOver(f"the call was transferred {TRANSFERS_MAX} times already")
        if self._office.is_draining:
            raise NotAdmitted("the gateway is shutting down")

    async def _ask_policy(self, call: LiveCall, order: Order) -> dict[str, Any] | None:
        """Telephone numbers are asked about; clients, conferences and SIP addresses are the tenant's own."""
        if order.kind != "number":
            return None
        office = self._office
        question = Question(
            "transfer",
            "dial",
            call.tenant_id,
            call.agent_id or "",
            our_number(call),
            order.address,
            call_id=call.id,
            transfer_target_listed=is_listed(call, order),
        )
        decided = await verdict.ask(office, question)
        await office.ledger.decide(call, decided.ruling)
        if not decided.allowed:
            office.note(call, "transfer_refused", reason=decided.reason)
            raise PolicyRefused(decided.decision, call.id)
        return decided.decision

    async def _let_go(self, call: LiveCall, handover: Handover) -> None:
        """Have the agent finish its sentence and then do `handover`; wait until it was done."""
        office = self._office
        call.handed = trio.Event()
        call.handover = handover
        office.pool.hang_up(call.id, "transfer", drain=True)
        with trio.move_on_after(DRAIN_S):
            await call.handed.wait()
        if not call.handed.is_set() and call.ending is None:
            office.pool.hang_up(call.id, "transfer")
        with trio.move_on_after(OUTCOME_WAIT_S):
            await call.handed.wait()

    # ---- Twilio is told ------------------------------------------------------------------------

    async def _dial(self, call: LiveCall, *, order: Order) -> None:
        limit_s = int(max_call_s(self._office, call))
        document = self._to_person(call, order, limit_s)
        await self._hand(call, document, order.timeout_s + limit_s)

    def _to_person(self, call: LiveCall, order: Order, limit_s: int) -> str:
        urls = self._office.urls
        return documents.dial(
            order.kind,
            order.address,
            action=urls.dial_done(call.id),
            leg_status=urls.leg(call.id, call.legs["transfer"]["number"]),
            timeout_s=order.timeout_s,
            time_limit_s=limit_s,
            announce=order.announce,
            caller_id=order.caller_id or caller_id(call),
        )

    async def _join(self, call: LiveCall, room: str) -> None:
        """Warm: the person is there; the agent lets go and the caller comes into the room."""
        await self._let_go(call, partial(self._into, room=room))

    async def _into(self, call: LiveCall, *, room: str) -> None:
        limit_s = int(max_call_s(self._office, call))
        action = self._office.urls.dial_done(call.id)
        document = documents.join(room, action=action, time_limit_s=limit_s)
        await self._hand(call, document, limit_s)
        if status_of(call.legs) == "dialling":
            self._mark(call, status="connected", answered_at_ms=self._office.now_ms())

    async def _hand(self, call: LiveCall, document: str, longest_s: float) -> None:
        """The telephone call goes on with `document`; the agent leg's end is not its end any more."""
        office = self._office
        call.away = True
        try:
            problem = await self._instruct(call, document)
            if problem is None:
                self._mark(call, status="dialling", dialled_at_ms=office.now_ms())
                office.note(call, "transfer_dialling")
                office.watch(call, longest_s + RING_MARGIN_S)
            else:
                self._mark(call, status="failed", reason=problem)
                office.note(call, "transfer_failed", reason=problem)
                office.watch(call, CONTINUE_DEADLINE_S)
        finally:
            call.handover = None
            call.handed.set()

    async def _instruct(self, call: LiveCall, document: str) -> str | None:
        """None when Twilio goes on with the document, else why not."""
        with trio.move_on_after(HANG_UP_TIMEOUT_S):
            try:
                twilio = await self._office.twilio_of(call.tenant_id)
                if await twilio.instruct_call(call.twilio_call_sid or "", document):
                    return None
            except TwilioRefused as refusal:
                return f"Twilio refused: {refusal.message} ({refusal.code})"
            except TwilioError as error:
                return str(error)
            return "the telephone call was over"
        return "no answer of Twilio's in time"

    # ---- Twilio asks ---------------------------------------------------------------------------

    async def dial_done(self, call: LiveCall, form: Form) -> str:
        """The document after <Dial>: the end, or a way back to the agent."""
        status = form.get("DialCallStatus", "")
        office = self._office
        leg = dict(call.legs.get("transfer") or {})
        if status in GOOD_ENDS:
            status = "completed"
        elif status not in ("busy", "no-answer", "canceled"):
            status = "failed"
        changes: dict[str, Any] = {"status": status, "ended_at_ms": office.now_ms()}
        if (lasted_s := whole_number(form.get("DialCallDuration", ""))) is not None:
            changes["duration_s"] = lasted_s
        if form.get("DialCallSid"):
            changes["call_sid"] = form["DialCallSid"]
        if form.get("DialSipResponseCode"):
            changes["sip_code"] = form["DialSipResponseCode"]
        self._mark(call, **changes)
        office.note(call, "transfer_" + status.replace("-", "_"))
        if form.get("CallStatus") in ("completed", "canceled", "failed", "busy", "no-answer"):
            if leg.get("by") != fallback.BY:
                call.outcome = call.outcome or (DONE if status == "completed" else None)
            office.watch(call, CONTINUE_DEADLINE_S)
            return twiml.hangup()
        if leg.get("by") == fallback.BY:
            document = self._over(call, outcome_of(call))
            return document if status == "completed" else twiml.say_hangup(str(leg["otherwise"]))
        if status == "completed":
            if leg.get("then") == "return":
                return await self.back(call, "the person has hung up; the caller is back with you")
            return self._over(call, DONE)
        return await self._nobody(call, status, str(leg.get("otherwise", "agent")))

    async def _nobody(self, call: LiveCall, status: str, otherwise: str) -> str:
        why = in_words(status)
        if otherwise == "agent":
            return await self.back(call, f"the caller was to be put through, but {why}")
        result = {"busy": "busy", "no-answer": "no_answer"}.get(status, "carrier_fault")
        blame = "twilio" if result == "carrier_fault" else None
        document = self._over(call, Outcome(result, blame, f"transfer: {why}"))
        return document if otherwise == "hangup" else twiml.say_hangup(otherwise)

    def _over(self, call: LiveCall, outcome: Outcome) -> str:
        """Nothing more comes of this call; Twilio's last callback closes it."""
        call.outcome = outcome
        self._office.watch(call, CONTINUE_DEADLINE_S)
        return twiml.hangup()

    async def back(self, call: LiveCall, news: str) -> str:
        """The document that joins the caller to the agent again, which is told `news`."""
        office = self._office
        if call.worker is not None and call.report is None:
            with trio.move_on_after(REPORT_WAIT_S):
                await call.reported.wait()
        if call.closing or call.hang_up_wanted:
            return twiml.hangup()
        call.away = False
        call.ending = None
        if not await self._warming.resume(call, news):
            outcome = Outcome("busy", "gateway", "no media worker was free for the way back")
            self._over(call, outcome)
            return twiml.say_hangup(REGRET)
        office.watch(call, office.settings.media.inbound_attach_timeout_s + STREAM_DEADLINE_S)
        return self._warming.document(call)

    async def after_failure(self, call: LiveCall) -> str:
        """`/twilio/continue` for a caller who was to be somebody else's by now."""
        leg = call.legs.get("transfer") or {}
        why = str(leg.get("reason") or in_words(str(leg.get("status", "failed"))))
        if leg.get("status") in OPEN:
            self._mark(call, status="failed", ended_at_ms=self._office.now_ms())
        return await self.back(call, f"the caller could not be put through: {why}")

    async def last_resort(self, call: LiveCall) -> str:
        """The document for a caller for whom no agent is left: the agent's fallback, else the regret."""
        given = call.agent.settings.get("fallback") if call.agent else None
        if given is None or call.hang_up_wanted:
            return self._regret(call)
        wanted = Fallback.model_validate(given)
        cause = outcome_of(call)
        leg = {"cause": cause._asdict(), "at_ms": self._office.now_ms()}
        if wanted.message is not None:
            call.leg("fallback", leg | {"to": {"message": wanted.message}})
            self._office.note(call, "fallback", kind="message")
            self._ending.close(call)
            return twiml.say_hangup(wanted.message)
        order = wanted.order(REGRET)
        decided = await self._may_fall_back(call, order)
        if decided is None:
            return self._regret(call)
        self._ending.drop_worker(call)
        call.leg("fallback", leg | {"to": {order.kind: order.address}})
        now_ms = self._office.now_ms()
        dialling = {"status": "dialling", "asked_at_ms": now_ms, "dialled_at_ms": now_ms}
        call.leg("transfer", order.as_leg(call.legs) | dialling | decided)
        call.away = True
        self._office.note(call, "fallback", kind=order.kind)
        limit_s = int(max_call_s(self._office, call))
        self._office.watch(call, order.timeout_s + limit_s + RING_MARGIN_S)
        return self._to_person(call, order, limit_s)

    async def _may_fall_back(self, call: LiveCall, order: Order) -> dict[str, Any] | None:
        """What the transfer's leg says of the decision; None when nobody may be dialled."""
        if order.address == our_number(call):  # it would come back to the agent that is lost
            self._office.note(call, "transfer_refused", reason="the fallback is our own number")
            return None
        try:
            decided = await self._ask_policy(call, order)
        except PolicyRefused:
            return None  # noted
        except StoreUnavailable as error:
            self._office.note(call, "transfer_refused", reason=str(error))
            return None
        return {} if decided is None else {"decision": decided}

    def _regret(self, call: LiveCall) -> str:
        self._ending.close(call)
        return twiml.say_hangup(REGRET)

    # ---- Twilio tells --------------------------------------------------------------------------

    async def leg_status(self, call: LiveCall, form: Form) -> None:
        """How the leg to the person stands. Late and repeated callbacks change nothing."""
        leg = call.legs.get("transfer") or {}
        if form.get("CallSid") in leg.get("earlier_call_sids", ()):
            return  # of a former transfer
        if form.get(TRANSFER) and form.get(TRANSFER) != str(leg.get("number")):
            await self._of_a_former_one(call, form)
            return
        if leg.get("mode") == "warm":
            await self._warm.leg_status(call, form)
            return
        if form.get("ParentCallSid") and form.get("ParentCallSid") != call.twilio_call_sid:
            return
        if form.get("CallStatus") == "in-progress" and leg.get("status") == "dialling":
            self._mark(
                call,
                status="connected",
                call_sid=form.get("CallSid", ""),
                answered_at_ms=self._office.now_ms(),
            )
            call.move_to("in-progress", self._office.clock.now())
            self._office.note(call, "transfer_connected")

    async def _of_a_former_one(self, call: LiveCall, form: Form) -> None:
        """Twilio made a leg, and its answer was lost: nobody waits for this person any more, and it is paid for."""
        leg, sid = call.legs.get("transfer"), form.get("CallSid", "")
        status = form.get("CallStatus")
        if not leg or not sid or sid == leg.get("call_sid"):
            return
        if status in ("in-progress", "completed"):
            self._mark(call, earlier_call_sids=[*leg.get("earlier_call_sids", ()), sid])
        if status not in TERMINAL and not form.get("ParentCallSid"):
            await self._warm.dismiss(call, sid)

    def _mark(self, call: LiveCall, **changes: object) -> None:
        mark(call, **changes)
        self._office.wake.set()


def mark(call: LiveCall, **changes: object) -> None:
    """Change the call's transfer."""
    call.leg("transfer", dict(call.legs.get("transfer") or {}) | changes)


def is_listed(call: LiveCall, order: Order) -> bool:
    """Whether somebody who may has named this destination: a route, a request over the API, or the agent's list.

    What a model asks for on its own is on no list.
    """
    if order.by != "agent":
        return True
    listed = call.agent.settings.get("transfer_numbers") if call.agent else None
    return order.address in (listed or ())


def our_number(call: LiveCall) -> str:
    """The number of ours that the call came to, or went out from."""
    return call.to_number if call.direction == "inbound" else call.from_number


def caller_id(call: LiveCall) -> str | None:
    """Who the person sees: the caller, where Twilio allows it; a SIP caller has no number to show."""
    if call.direction == "inbound" and not call.from_number.startswith("+"):
        return our_number(call) if our_number(call).startswith("+") else None
    return None
