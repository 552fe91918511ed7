"""The opt-out inside a call, enforced here whatever the model does: a key, or words of the caller.

The suppression is committed first, for every channel of the tenant; then the agent is told, and where the law
wants it (a call of ours that may be marketing) Twilio says a confirmation and the call ends. The model's own tool may
add an opt-out; nothing here can take one back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import trio
from sqlalchemy import Connection

from control import log
from control.calls import LiveCall, Outcome
from control.compliance import phrases
from control.compliance.script import language_of
from control.compliance.suppression import suppress
from control.office import Office, ms_to_datetime
from control.store import StoreUnavailable, calls, consents
from control.store.records import OptOutRecord
from control.twilio import twiml
from control.twilio.errors import TwilioError
from control.warming import opt_out_digit
from gateway.link import CallEvent, TranscriptTurn

KEY_EVENT = "opt_out_key"
"""The worker's line when the caller has pressed the key of the opt-out."""
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses between tries of a write that fails; the last one is repeated until it is written."""
CONFIRM_TIMEOUT_S = 5.0
ENDS = frozenset({"marketing", "survey", "political", "nonprofit"})
"""Purposes whose calls end at once (47 CFR 64.1200(b)(3)); an unknown one is marketing."""
NAMES = {"dtmf": "pressed the opt-out key", "spoken": "asked not to be called again"}
_CONFIRMATIONS = {
    "en": "You will not be called again. Goodbye.",
    "es": "No volveremos a llamarle. Adiós.",
    "fr": "Vous ne serez plus appelé. Au revoir.",
    "de": "Sie werden nicht mehr angerufen. Auf Wiederhören.",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What shows that somebody asked."""

    source: str
    """`dtmf`, `spoken`, `wrong_number`, `spoken_review` (probably a request; somebody has to look at it)."""
    at_ms: int
    evidence: dict[str, Any] = field(default_factory=dict)


class InCallOptOut:
    """Listens to what workers tell. One per process."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def on_event(self, call: LiveCall, event: CallEvent) -> None:
        """A line of a worker's timeline."""
        if event.name == KEY_EVENT and call.direction == "outbound":
            key = opt_out_digit(call.agent)
            self._requested(call, Request("dtmf", event.at_ms, {"key": key}))

    def on_turn(self, call: LiveCall, turn: TranscriptTurn) -> None:
        """What was said: perhaps a request of the caller."""
        if turn.role == "agent":
            return
        found = phrases.find(turn.text)
        words = turn.text
        if found is None and call.last_said:
            # A request may be cut in two by the transcription.
            words = f"{call.last_said} {turn.text}"
            found = phrases.find(words)
        call.last_said = turn.text
        if found is not None:
            source = {"revoke": "spoken", "hold": "spoken_review"}.get(found.kind, found.kind)
            evidence = {
                "words": words,
                "turn": turn.turn + call.turn_offset,
                "matched": found.words,
                "pattern": found.pattern,
                "phrases_version": found.version,
            }
            self._requested(call, Request(source, turn.at_ms, evidence))

    def _requested(self, call: LiveCall, request: Request) -> None:
        if call.opt_out in (request.source, "dtmf", "spoken", "wrong_number"):
            return  # once; a plain request counts more than one that has to be looked at
        call.opt_out = request.source
        self._office.note(call, "opt_out_requested", source=request.source)
        self._office.spawn(self._enforce, call, request)

    async def _enforce(self, call: LiveCall, request: Request) -> None:
        begun_s = trio.current_time()
        purpose = await self._suppress(call, request)
        took_ms = round((trio.current_time() - begun_s) * 1000)
        self._office.note(call, "opt_out_recorded", source=request.source, after_ms=took_ms)
        if call.closing:
            return
        said = NAMES.get(request.source, NAMES["spoken"])
        self._office.pool.say(
            call.id,
            "contextual_update",
            f"The caller {said}. It is recorded and nobody will call this number again. "
            "Confirm it in one short sentence, do not try to change their mind, and say goodbye.",
        )
        owes_it = any(duty.get("kind") == "offer_opt_out" for duty in call.duties)
        ends = call.direction == "outbound" and (purpose is None or purpose in ENDS or owes_it)
        if ends and request.source != "spoken_review":
            await self._confirm_and_end(call)

    async def _suppress(self, call: LiveCall, request: Request) -> str | None:
        """Commit it, however often that has to be tried. The purpose of the call, if it has one."""
        write = partial(_write, call=call, request=request, now=self._office.clock.now())
        for tries in range(10**9):
            try:
                return await self._office.store.write(write)
            except StoreUnavailable as error:
                log.event("opt_out_unwritten", level="error", call_id=call.id, error=str(error))
            await trio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
        raise AssertionError("unreachable")

    async def _confirm_and_end(self, call: LiveCall) -> None:
        """Twilio says it and hangs up: the agent has no more part in the call."""
        office = self._office
        if call.twilio_call_sid is None or call.closing:
            return
        call.outcome = Outcome("completed", None, "the caller opted out")
        call.hang_up_wanted = True
        language = "en" if call.agent is None else language_of(call.agent)
        document = twiml.say_hangup(_CONFIRMATIONS[language])
        with trio.move_on_after(CONFIRM_TIMEOUT_S):
            try:
                twilio = await office.twilio_of(call.tenant_id)
                if await twilio.instruct_call(call.twilio_call_sid, document):
                    office.note(call, "opt_out_confirmed")
                    return
            except TwilioError as error:
                office.note(call, "opt_out_unconfirmed", error=str(error))
        office.pool.hang_up(call.id, "the caller opted out")


def _write(conn: Connection, call: LiveCall, request: Request, now: datetime) -> str | None:
    """Suppression and evidence, in one transaction; an opt-out that stands keeps its date."""
    theirs = call.from_number if call.direction == "inbound" else call.to_number
    if not theirs.startswith("+"):
        return None  # a caller without a number: nobody could call it
    at = ms_to_datetime(request.at_ms)
    evidence = request.evidence | {"call_id": call.id, "at": at.isoformat()}
    reason = "has to be looked at" if request.source == "spoken_review" else None
    suppress(
        conn,
        OptOutRecord(theirs, request.source, at, call.tenant_id, reason, call.id, evidence),
        now,
    )
    if request.source == "wrong_number":
        consents.add_answer(
            conn,
            consents.ReassignedRecord(call.tenant_id, theirs, "yes", at, at.date().isoformat()),
        )
    record = calls.get(conn, call.id)
    said = record.metadata.get("purpose") if record else None
    own = call.agent.settings.get("purpose") if call.agent else None
    purpose = said or own
    return purpose if isinstance(purpose, str) else None
