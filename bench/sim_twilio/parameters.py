"""The form parameters of Twilio's voice webhooks and status callbacks. Pure.

Source: Twilio, "TwiML voice: request parameters" and "Call resource: status callbacks". Geographic
fields are often blank, and blank values count for the signature, so this simulator leaves most blank.
"""

from __future__ import annotations

from datetime import datetime

from bench.sim_twilio.account import API_VERSION, rfc2822
from bench.sim_twilio.call import SimCall

_GEO = ("City", "State", "Zip", "Country")


def _geo(party: str, number: str) -> list[tuple[str, str]]:
    country = "US" if number.startswith("+1") else ""
    return [(party + name, country if name == "Country" else "") for name in _GEO]


def voice(call: SimCall, status: str | None = None) -> list[tuple[str, str]]:
    """The parameters that every request about a call carries; `status` overrides the call's."""
    caller, called = call.from_number, call.to_number
    params = [
        ("AccountSid", call.account_sid),
        ("ApiVersion", API_VERSION),
        ("CallSid", call.sid),
        ("CallStatus", status or call.status),
        ("Called", called),
        ("Caller", caller),
        ("Direction", call.direction),
        ("From", caller),
        ("To", called),
    ]
    for party, number in (("Called", called), ("Caller", caller), ("From", caller), ("To", called)):
        params += _geo(party, number)
    if call.direction == "inbound":
        params += [
            ("StirVerstat", "TN-Validation-Passed-A"),
            ("CallToken", f'{{"parentCallInfoToken":"{call.sid}"}}'),
        ]
    given = call.extra_params
    return [item for item in params if item[0] not in given] + list(given.items())


def status_callback(
    call: SimCall, status: str, sequence: int, now: datetime
) -> list[tuple[str, str]]:
    """The parameters of one call status callback; `status` is its `CallStatus`."""
    params = voice(call, status)
    params += [
        ("CallbackSource", "call-progress-events"),
        ("SequenceNumber", str(sequence)),
        ("Timestamp", rfc2822(now) or ""),
    ]
    if call.is_over:
        params += [
            ("CallDuration", str(call.duration_s)),
            ("Duration", str(-(-call.duration_s // 60))),
        ]
        if call.answered_by is not None:
            params.append(("AnsweredBy", call.answered_by))
        if call.sip_response_code is not None:
            params.append(("SipResponseCode", str(call.sip_response_code)))
    return params


def stream_callback(
    call: SimCall, stream_sid: str, name: str, event: str, error: str, now: datetime
) -> list[tuple[str, str]]:
    """The parameters of one stream status callback."""
    params = [
        ("AccountSid", call.account_sid),
        ("CallSid", call.sid),
        ("StreamSid", stream_sid),
        ("StreamName", name or stream_sid),
        ("StreamEvent", event),
        ("Timestamp", now.isoformat(timespec="milliseconds").replace("+00:00", "Z")),
    ]
    return params + ([("StreamError", error)] if error else [])
