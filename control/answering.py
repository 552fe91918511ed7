"""The documents that answer Twilio's questions about a call: who answers, and how does it go on?

The work of an answer is done in the switchboard's nursery: it is finished also when the one who asked has
hung up, and a second request for the same call waits for the same document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from control import failpoints, ids, log, verdict
from control.calls import TERMINAL, LiveCall, Outcome
from control.dialer import Dialer
from control.dialing.intake import question
from control.ending import CONTINUE_DEADLINE_S, STREAM_DEADLINE_S, Ending
from control.ids import DEFAULT_TENANT_ID
from control.office import Office
from control.reception import Reception
from control.routing.callers import address_of
from control.store import StoreUnavailable
from control.store.records import AgentRecord, CallRecord
from control.strangers import caller_of
from control.transfer.service import Transferring
from control.twilio import twiml
from control.warming import REGRET, Warming
from control.workers import PoolFull

ANSWER_TIMEOUT_S = 12.0
"""Twilio waits 15 s and then takes the fallback."""
REPORT_WAIT_S = 3.0
"""Twilio may ask how to go on before the worker's last word about the stream has arrived."""
GOODBYE = "This call has been cancelled. Goodbye."

Form = Mapping[str, str]


class Answering:
    """Every method returns TwiML and raises nothing of ours."""

    def __init__(
        self,
        office: Office,
        warming: Warming,
        ending: Ending,
        dialer: Dialer,
        transfers: Transferring,
    ) -> None:
        self._office = office
        self._warming = warming
        self._ending = ending
        self._dialer = dialer
        self._transfers = transfers
        self._reception = Reception(office, warming, self._again)

    async def answer(self, form: Form, call_id: str | None) -> str:
        """`/twilio/voice`: a number was called, or a call of ours was answered."""
        sid = form.get("CallSid", "")
        if call_id is not None:
            return await self._answer_outbound(form, call_id, sid)
        call = self._office.book.by_sid(sid)
        if call is None:
            if self._office.is_draining:
                if self._office.has_successor:
                    # It came before this instance stopped accepting: the next question reaches the other one.
                    log.event("call_redirected", reason="draining", sid=sid)
                    return twiml.redirect(self._office.urls.voice())
                log.event("call_declined", reason="draining", sid=sid)
                return twiml.reject("busy")
            call = self._new_call(form, sid)
            self._office.spawn(self._settled, call, self._reception.answer, form)
        return await self._document_of(call)

    async def _document_of(self, call: LiveCall) -> str:
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            await call.ready.wait()
        return call.document or twiml.say_hangup(REGRET)

    async def _settled(
        self, call: LiveCall, answer: Callable[[LiveCall, Form], Awaitable[str]], form: Form
    ) -> None:
        """Whatever `answer` does, nobody waits for it forever."""
        try:
            call.document = await answer(call, form)
        except StoreUnavailable as error:
            log.event("answer_without_store", level="error", call_id=call.id, error=str(error))
        finally:
            if call.document is None:
                self._abandon(call)
            call.ready.set()

    def _abandon(self, call: LiveCall) -> None:
        """Without a record there is no call: what was prepared is dropped."""
        self._office.pool.cancel(call.id, "the call could not be recorded")
        if not call.is_recorded:
            self._office.book.remove(call)
        call.document = twiml.say_hangup(REGRET)

    # ---- inbound -------------------------------------------------------------------------------

    def _new_call(self, form: Form, sid: str) -> LiveCall:
        """In the book before anything is awaited: a repeated request finds it."""
        now = self._office.clock.now()
        call = LiveCall(
            id=ids.new_id(ids.CALL, now),
            tenant_id=DEFAULT_TENANT_ID,
            direction="inbound",
            from_number=caller_of(form.get("From", "")),
            to_number=address_of(form.get("To", "")),
            created_at=now,
            agent=None,
            status="ringing",
            twilio_call_sid=sid,
        )
        self._office.book.add(call)
        return call

    async def _again(self, call: LiveCall, former: CallRecord, agent: AgentRecord | None) -> str:
        """The question was asked before: the call is over, or a former process began it."""
        office = self._office
        office.book.remove(call)
        if former.ended_at is not None:
            return twiml.hangup()
        known = await office.find(former.id, None, take_over=True)
        return twiml.hangup() if known is None else await self._go_on(known)

    # ---- outbound ------------------------------------------------------------------------------

    async def _answer_outbound(self, form: Form, call_id: str, sid: str) -> str:
        call = await self._ours(form, call_id, sid, "voice")
        if call is None or call.closing:
            return twiml.hangup()
        if not call.asked:
            call.asked = True
            self._office.spawn(self._settled, call, self._picked_up, form)
        return await self._document_of(call)

    async def _picked_up(self, call: LiveCall, form: Form) -> str:
        office = self._office
        status = form.get("CallStatus", "")
        self._ending.move(call, "in-progress" if status in TERMINAL else status)
        decided = await verdict.ask(office, question(call, "answer"))
        call.change(decision=decided.decision)
        await office.ledger.decide(call, decided.ruling)
        if not decided.allowed:
            call.outcome = Outcome("policy", "policy", f"revoked: {decided.reason}")
            office.note(call, "revoked", reason=decided.reason)
        if call.hang_up_wanted or not decided.allowed:
            office.pool.cancel(call.id, "the call is not wanted any more")
            office.watch(call, CONTINUE_DEADLINE_S)
            return twiml.say_hangup(GOODBYE)
        return await self._joined(call)

    async def _joined(self, call: LiveCall) -> str:
        office = self._office
        if not office.pool.holds(call.id):
            try:
                await self._warming.prepare_soon(call)
            except PoolFull:
                call.outcome = Outcome("gateway_fault", "gateway", "all media workers are full")
                office.watch(call, CONTINUE_DEADLINE_S)
                return twiml.say_hangup(REGRET)
        office.watch(call, office.settings.media.inbound_attach_timeout_s + STREAM_DEADLINE_S)
        office.note(call, "answered_with_stream")
        return self._warming.document(call)

    # ---- after a stream ------------------------------------------------------------------------

    async def go_on(self, form: Form, call_id: str | None) -> str:
        """`/twilio/continue`: the stream is over, and Twilio is still there."""
        call = await self._ours(form, call_id, form.get("CallSid", ""), "continue")
        if call is None or call.closing:
            return twiml.hangup()
        return await self._go_on(call)

    async def _go_on(self, call: LiveCall) -> str:
        office = self._office
        office.note(call, "asked_to_continue")
        failpoints.reach("continue.asked")
        if call.worker is not None and call.attached:
            with trio.move_on_after(REPORT_WAIT_S):
                await call.reported.wait()
        if call.closing or call.outcome is not None or call.hung_up:
            self._ending.close(call)
            return twiml.hangup()
        if call.away:
            return await self._transfers.after_failure(call)
        async with call.going_on:
            if office.pool.holds(call.id) and not call.attached and not call.rejoined:
                # The stream never came, or the call has: the agent leg is there; one more try.
                call.rejoined = True
                return self._warming.document(call)
            if self._warming.may_resume(call) and await self._warming.resume(call):
                failpoints.reach("continue.resumed")
                within_s = office.settings.media.inbound_attach_timeout_s + STREAM_DEADLINE_S
                office.watch(call, within_s)
                return self._warming.document(call)
        return await self._transfers.last_resort(call)

    # ---- after somebody was dialled, or a message was left -------------------------------------

    async def dial_done(self, form: Form, call_id: str | None) -> str:
        """`/twilio/dial`: the leg to a person is over."""
        call = await self._ours(form, call_id, form.get("CallSid", ""), "dial")
        if call is None or call.closing:
            return twiml.hangup()
        return await self._transfers.dial_done(call, form)

    async def message_left(self, form: Form, call_id: str | None) -> str:
        """`/twilio/message`: the caller has said what there was to say."""
        call = await self._ours(form, call_id, form.get("CallSid", ""), "message")
        return twiml.hangup() if call is None else self._reception.message_left(call)

    async def recorded(self, form: Form, call_id: str | None) -> None:
        """`/twilio/recorded`. Raises StoreUnavailable."""
        await self._reception.recorded(call_id, form)

    async def _ours(self, form: Form, call_id: str | None, sid: str, what: str) -> LiveCall | None:
        """The live call that Twilio asks about. Its SID has to be the one that we know."""
        try:
            call = await self._office.find(call_id, sid, take_over=True)
        except StoreUnavailable as error:
            log.event("call_unreadable", level="error", what=what, sid=sid, error=str(error))
            return None
        if call is None:
            log.event("unknown_call", level="warning", what=what, sid=sid)
            return None
        if call.twilio_call_sid is None and sid:
            # The question has overtaken the answer to the dial request.
            self._dialer.bind(call, sid)
        if call.twilio_call_sid != sid:
            log.event("foreign_sid", level="warning", what=what, call_id=call.id, sid=sid)
            return None
        return call
