"""Answering machines: what Twilio is asked to find out, and what is done when it has.

The detection is asynchronous: the agent begins to talk at once, and Twilio's word comes some seconds later. (In
the synchronous kind everybody, people too, hears about four seconds of nothing.)

Source: Twilio docs, "Answering machine detection", "Optimizing answering machine detection".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from control.calls import LiveCall, Outcome
from control.ending import Ending
from control.office import Office
from control.strangers import whole_number
from control.twilio.errors import TwilioError

HANG_UP = "hang_up"
LEAVE_MESSAGE = "leave_message"
CONTINUE = "continue"

FAST = "fast"
MESSAGE_END = "message_end"
MODES = {FAST: "Enable", MESSAGE_END: "DetectMessageEnd"}

TUNING = {
    "timeout_s": ("machine_detection_timeout", 3, 59),
    "speech_threshold_ms": ("machine_detection_speech_threshold", 1000, 6000),
    "speech_end_threshold_ms": ("machine_detection_speech_end_threshold", 500, 5000),
    "silence_timeout_ms": ("machine_detection_silence_timeout", 2000, 10000),
}
"""Our names; the client's names and Twilio's bounds."""

ANSWERERS = frozenset(
    {
        "human",
        "machine_start",
        "machine_end_beep",
        "machine_end_silence",
        "machine_end_other",
        "fax",
        "unknown",
    }
)
MESSAGE_DEADLINE_S = 180.0
"""A message is a few sentences; Twilio tells when the call is over."""
TELL_AGENT = (
    "An answering machine or voicemail has picked up, no person. Its greeting is over: leave your message "
    "now, in one or two sentences, and then end the call."
)


def parameters(wanted: Mapping[str, Any] | None, callback_url: str) -> dict[str, Any]:
    """The parameters of Twilio's client for a call that is to be listened to; none when it is not."""
    if not wanted:
        return {}
    asked: dict[str, Any] = {
        "machine_detection": MODES[wanted.get("mode") or MESSAGE_END],
        "async_amd": "true",
        "async_amd_status_callback": callback_url,
        "async_amd_status_callback_method": "POST",
    }
    for name, (parameter, _, _) in TUNING.items():
        if wanted.get(name) is not None:
            asked[parameter] = wanted[name]
    return asked


def message_document(wanted: Mapping[str, Any]) -> str | None:
    """TwiML that leaves the message and hangs up; None when the agent is to speak it."""
    if wanted.get("play_url"):
        verb = f"<Play>{escape(wanted['play_url'])}</Play>"
    elif wanted.get("message"):
        language = wanted.get("language")
        attribute = f" language={quoteattr(language)}" if language else ""
        verb = f"<Say{attribute}>{escape(wanted['message'])}</Say>"
    else:
        return None
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{verb}<Hangup/></Response>'


class Machines:
    """Acts on Twilio's word about who answered."""

    def __init__(self, office: Office, ending: Ending) -> None:
        self._office = office
        self._ending = ending

    def heard(self, call: LiveCall, form: Mapping[str, str]) -> None:
        """Twilio's callback: note who answered, and start what is to be done. Repeats change nothing."""
        answered_by = form.get("AnsweredBy", "")
        if answered_by not in ANSWERERS or call.answered_by is not None:
            return
        call.answered_by = answered_by
        call.change(answered_by=answered_by)
        took_ms = whole_number(form.get("MachineDetectionDuration", ""))
        data = {} if took_ms is None else {"took_ms": took_ms}
        self._office.note(call, "answered_by", answered_by=answered_by, **data)
        is_machine = answered_by.startswith("machine") or answered_by == "fax"
        if is_machine and not call.closing and not call.hang_up_wanted:
            self._office.spawn(self._act, call, answered_by)

    async def _act(self, call: LiveCall, answered_by: str) -> None:
        wanted = call.machine_detection or {}
        act = wanted.get("on_machine", CONTINUE)
        if not _may_leave_message(call) and act != HANG_UP:
            self._office.note(call, "message_forbidden")
            act = HANG_UP
        if act == LEAVE_MESSAGE and answered_by != "fax":
            await self._leave_message(call, wanted)
        elif act in (HANG_UP, LEAVE_MESSAGE):
            await self._hang_up(call, f"hung up: {_name(answered_by)} answered")

    async def _hang_up(self, call: LiveCall, reason: str) -> None:
        call.outcome = Outcome("machine", None, reason)
        pool = self._office.pool
        if call.attached and pool.holds(call.id):
            pool.hang_up(call.id, reason)  # it then ends by REST, like any other end of ours
        elif await self._ending.end_by_rest(call):
            self._ending.close(call)

    async def _leave_message(self, call: LiveCall, wanted: Mapping[str, Any]) -> None:
        office = self._office
        document = message_document(wanted)
        if document is None:
            office.note(call, "agent_told_of_machine")
            office.pool.say(call.id, "user_message", TELL_AGENT)
            return
        before = call.outcome
        call.outcome = Outcome("machine", None, "left a message on an answering machine")
        call.away = True  # the end of the agent leg is not the end of the call
        office.watch(call, MESSAGE_DEADLINE_S)
        try:
            twilio = await office.twilio_of(call.tenant_id)
            taken = await twilio.instruct_call(call.twilio_call_sid or "", document)
        except TwilioError as error:
            # The agent is still there: better that it talks than that nobody does.
            call.outcome, call.away = before, False
            office.note(call, "message_failed", error=str(error))
            return
        if taken:
            office.note(call, "machine_message")
        else:
            office.note(call, "message_failed", error="the call was over already")


def _may_leave_message(call: LiveCall) -> bool:
    """False for marketing without a toll-free number that reaches the opt-out (47 CFR 64.1200(b)(3))."""
    return all(
        duty.get("leave_message", True) for duty in call.duties if duty.get("kind") == "voicemail"
    )


def _name(answered_by: str) -> str:
    return "a fax machine" if answered_by == "fax" else "an answering machine"
