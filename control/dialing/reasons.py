"""Twilio's codes in words that say what to do. Pure.

Source: Twilio, "Error and warning dictionary"; SIP response codes: RFC 3261 section 21, RFC 5057, ITU-T Q.850
as carriers map it.
"""

from __future__ import annotations

REFUSALS = {
    10001: "the Twilio account is not active",
    10002: "a trial account may not do this",
    10004: "the account has as many calls at once as Twilio allows",
    13223: "the called number has no valid format",
    13224: "Twilio does not know how to reach this number",
    13225: "Twilio has blocked this number",
    13227: "the account has no permission to call this country: Console, Voice, Geo permissions",
    20003: "the account's credentials do not permit calls",
    20005: "the Twilio account is suspended or closed",
    20429: "too many requests at once",
    21201: "no number to call was given",
    21210: "the caller id is neither owned by the account nor verified for it",
    21211: "the called number is not valid",
    21212: "the caller id is not a valid number",
    21213: "no caller id was given",
    21214: "the called number cannot be reached",
    21215: "the account has no permission to call this country: Console, Voice, Geo permissions",
    21216: "Twilio does not permit calls to this number",
    21217: "the called number does not seem to be valid",
    21219: "a trial account may only call verified numbers",
    21234: "a parameter of machine detection is out of range",
    21262: "machine detection has no callback address",
    22005: "more calls are queued at Twilio than it can dial in a day",
}

SIP = {
    "403": "the carrier refused the call",
    "404": "the number is not in service",
    "408": "the phone could not be reached in time",
    "410": "the number is not in service any more",
    "480": "the phone is switched off or cannot be reached",
    "484": "the number is incomplete",
    "486": "the line was busy",
    "487": "the call was ended before it was answered",
    "488": "the two sides agree on no codec",
    "500": "the carrier failed",
    "503": "the carrier was not available",
    "600": "the line was busy everywhere",
    "603": "the call was declined",
    "604": "the number does not exist",
    "607": "the callee does not want such calls",
    "608": "the callee's network rejected the call as unwanted",
}


def refusal(code: int, message: str) -> str:
    """Why Twilio did not take a call; its own words where it gave no code that is known here."""
    known = REFUSALS.get(code)
    said = f"Twilio did not take the call: {known or message}"
    return f"{said} ({code})" if code else said


def after_sip(text: str, sip_code: str | None) -> str:
    """A reason with what the SIP code adds to it: `nobody answered (SIP 480: the phone is …)`."""
    if not sip_code:
        return text
    words = SIP.get(sip_code)
    return (
        f"{text} (SIP {sip_code}: {words})"
        if words and words != text
        else f"{text} (SIP {sip_code})"
    )
