"""The TwiML of a transfer. Pure.

Source: Twilio docs, "TwiML Voice: <Dial>, <Number>, <Client>, <Sip>, <Conference>, <Record>"; addresses in an
update of a call in progress have to be absolute (error 15004).
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from control.transfer.order import Kind
from control.twilio.twiml import response, say

LEG_EVENTS = "ringing answered completed"
BEEP = "false"
RECORD_SILENCE_S = 5


def dial(
    kind: Kind,
    address: str,
    *,
    action: str,
    leg_status: str,
    timeout_s: int,
    time_limit_s: int,
    announce: str = "",
    caller_id: str | None = None,
    rings_on: bool = False,
) -> str:
    """Put the caller through. `rings_on`: an inbound call that is not answered yet goes on ringing."""
    attributes = {
        "action": action,
        "method": "POST",
        "timeout": str(timeout_s),
        "timeLimit": str(time_limit_s),
    }
    if caller_id:
        attributes["callerId"] = caller_id
    if rings_on and not announce:
        attributes["answerOnBridge"] = "true"
    said = say(announce) if announce else ""
    return response(f"{said}{_element('Dial', attributes, _noun(kind, address, leg_status))}")


def join(room: str, *, action: str, time_limit_s: int, announce: str = "") -> str:
    """Put the caller into the conference in which a person waits, or will come."""
    said = say(announce) if announce else ""
    attributes = {"action": action, "method": "POST", "timeLimit": str(time_limit_s)}
    return response(f"{said}{_element('Dial', attributes, _conference(room, ends=True))}")


def whisper_and_join(text: str, room: str, *, time_limit_s: int) -> str:
    """What the person hears first, and then the conference with the caller."""
    said = say(text) if text else ""
    limit = {"timeLimit": str(time_limit_s)}
    return response(f"{said}{_element('Dial', limit, _conference(room, ends=True))}")


def take_message(text: str, *, action: str, callback: str, max_s: int) -> str:
    """Say something, then record what the caller says."""
    attributes = {
        "action": action,
        "method": "POST",
        "maxLength": str(max_s),
        "timeout": str(RECORD_SILENCE_S),
        "playBeep": "true",
        "trim": "do-not-trim",
        "recordingStatusCallback": callback,
        "recordingStatusCallbackMethod": "POST",
        "recordingStatusCallbackEvent": "completed absent",
    }
    return response(f"{say(text)}{_element('Record', attributes)}<Hangup/>")


def _noun(kind: Kind, address: str, leg_status: str) -> str:
    if kind == "conference":
        return _conference(address, ends=False)
    attributes = {
        "statusCallback": leg_status,
        "statusCallbackMethod": "POST",
        "statusCallbackEvent": LEG_EVENTS,
    }
    if kind == "client":
        return _element("Client", attributes, f"<Identity>{escape(address)}</Identity>")
    return _element("Number" if kind == "number" else "Sip", attributes, escape(address))


def _conference(room: str, *, ends: bool) -> str:
    """`ends`: the room is for two and does not outlive one of them; others' rooms go on."""
    attributes = {
        "beep": BEEP,
        "startConferenceOnEnter": "true",
        "endConferenceOnExit": "true" if ends else "false",
        "jitterBufferSize": "small",
    }
    return _element("Conference", attributes, escape(room))


def _element(name: str, attributes: dict[str, str], inner: str = "") -> str:
    given = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    return f"<{name}{given}>{inner}</{name}>" if inner else f"<{name}{given}/>"
