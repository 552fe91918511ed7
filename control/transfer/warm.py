"""A warm transfer: the person is rung and told what it is about while the caller still talks to the agent.

    ringing ─ answered: the person hears the summary and waits in a room; the agent lets go, the caller comes in
            └ nobody answers: the caller has noticed nothing, the agent is told

The room ends when either leaves it. A person who hangs up before the caller came in leaves an empty room: the
caller is fetched from there and brought back to the agent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from control import log
from control.calls import TERMINAL, LiveCall
from control.ending import Ending
from control.office import HANG_UP_TIMEOUT_S, Office
from control.refusals import DialRefused, NotAdmitted
from control.transfer import documents
from control.transfer.order import SUMMARY_MAX_CHARS, Order, in_words, status_of
from control.twilio import twiml
from control.twilio.conferences import ring_person
from control.twilio.rest import TwilioError, TwilioRefused, TwilioUncertain, TwilioUnreachable
from control.warming import max_call_s

RING_MARGIN_S = 15.0
"""Twilio may ring 5 s longer, and its callback takes its time."""
EMPTY_ROOM_S = 3.0
"""How long <Dial> may take to notice that the room has ended, before the caller is fetched."""
FETCHING = "One moment, please."

Form = Mapping[str, str]


class Warm:
    """The part of `control.transfer.service` that rings a person first."""

    def __init__(
        self, office: Office, ending: Ending, join: Callable[[LiveCall, str], Awaitable[None]]
    ) -> None:
        self._office = office
        self._ending = ending
        self._join = join

    async def ring(self, call: LiveCall, order: Order) -> None:
        """Ring the person. Raises DialRefused, NotAdmitted: nobody rings then."""
        office = self._office
        room = f"tandem-{call.id}-{call.legs['transfer']['number']}"
        _mark(call, status="ringing", room=room)
        whisper = documents.whisper_and_join(
            order.summary[:SUMMARY_MAX_CHARS], room, time_limit_s=int(max_call_s(office, call))
        )
        try:
            twilio = await office.twilio_of(call.tenant_id)
            sid = await ring_person(
                twilio,
                to=order.address
                if order.kind == "number"
                else f"{_SCHEME[order.kind]}{order.address}",
                from_=_our_number(call),
                twiml=whisper,
                status_callback=office.urls.leg(call.id, call.legs["transfer"]["number"]),
                ring_timeout_s=order.timeout_s,
            )
        except TwilioUncertain as error:
            # It may ring; its callback will say so.
            office.note(call, "transfer_uncertain", error=str(error))
            sid = None
        except TwilioRefused as refusal:
            self._failed(call, refusal.message)
            raise DialRefused(refusal.code, refusal.message, call.id) from refusal
        except TwilioUnreachable as error:
            self._failed(call, str(error))
            raise NotAdmitted("Twilio cannot be reached") from error
        if sid and not call.legs["transfer"].get("call_sid"):
            _mark(call, call_sid=sid)
        office.note(call, "transfer_ringing")
        office.spawn(self._watch, call, call.legs["transfer"]["number"], order.timeout_s)

    async def _watch(self, call: LiveCall, number: int, timeout_s: int) -> None:
        """Nobody rings for ever, and nobody goes on ringing for a caller who has left."""
        with trio.move_on_after(timeout_s + RING_MARGIN_S):
            await call.closed.wait()
        leg = call.legs.get("transfer") or {}
        if leg.get("number") != number:
            return
        if call.closing:
            await self.dismiss(call, leg.get("call_sid"))
        elif leg.get("status") == "ringing":
            await self.dismiss(call, leg.get("call_sid"))
            self._unanswered(call, "no-answer")

    async def leg_status(self, call: LiveCall, form: Form) -> None:
        """A status callback of the person's leg."""
        leg = call.legs.get("transfer") or {}
        sid, status = form.get("CallSid", ""), form.get("CallStatus", "")
        if leg.get("call_sid") not in (None, sid):
            return
        known = status_of(call.legs)
        if leg.get("call_sid") is None:
            _mark(call, call_sid=sid)
        if status == "in-progress":
            if known == "ringing" and not call.closing:
                self._office.note(call, "transfer_answered")
                self._office.spawn(self._fetch_caller, call, str(leg.get("room", "")))
            elif known not in ("asked", "dialling", "connected"):
                await self.dismiss(call, sid)
        elif status in TERMINAL:
            if known == "ringing":
                self._unanswered(call, status)
            elif known in ("dialling", "connected"):
                self._office.spawn(self._empty_room, call, leg.get("number"))

    async def _fetch_caller(self, call: LiveCall, room: str) -> None:
        _mark(call, status="asked")
        await self._join(call, room)

    def _unanswered(self, call: LiveCall, status: str) -> None:
        """The caller talks with the agent as before; the agent has to know."""
        status = "no-answer" if status == "completed" else status
        _mark(call, status=status, ended_at_ms=self._office.now_ms())
        self._office.note(call, "transfer_" + status.replace("-", "_"))
        words = (
            f"The person could not be reached: {in_words(status)}. The caller is still with you."
        )
        self._office.pool.say(call.id, "contextual_update", words)

    def _failed(self, call: LiveCall, reason: str) -> None:
        _mark(call, status="failed", reason=reason[:200], ended_at_ms=self._office.now_ms())
        self._office.note(call, "transfer_failed", reason=reason[:200])

    async def _empty_room(self, call: LiveCall, number: object) -> None:
        """The person is gone. The room has ended with them, unless they never came into it."""
        with trio.move_on_after(EMPTY_ROOM_S):
            await call.closed.wait()
        leg = call.legs.get("transfer") or {}
        if call.closing or leg.get("number") != number or not call.away:
            return
        if leg.get("status") not in ("dialling", "connected"):
            return
        self._office.note(call, "transfer_room_empty")
        document = twiml.say_redirect(FETCHING, self._office.urls.resume(call.id))
        try:
            with trio.move_on_after(HANG_UP_TIMEOUT_S):
                twilio = await self._office.twilio_of(call.tenant_id)
                await twilio.instruct_call(call.twilio_call_sid or "", document)
        except TwilioError as error:
            log.event("caller_not_fetched", level="error", call_id=call.id, error=str(error))

    async def dismiss(self, call: LiveCall, sid: object) -> None:
        """End the person's leg."""
        if not isinstance(sid, str) or not sid:
            return
        try:
            with trio.move_on_after(HANG_UP_TIMEOUT_S):
                twilio = await self._office.twilio_of(call.tenant_id)
                await twilio.end_call(sid)
        except TwilioError as error:
            log.event("person_not_dismissed", level="warning", call_id=call.id, error=str(error))


_SCHEME = {"client": "client:", "sip": ""}


def _mark(call: LiveCall, **changes: object) -> None:
    call.leg("transfer", dict(call.legs.get("transfer") or {}) | changes)


def _our_number(call: LiveCall) -> str:
    return call.to_number if call.direction == "inbound" else call.from_number
