"""Calls.json: what creating, updating and listing calls takes, refuses and does.

Source: Twilio, "Call resource", and its error dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.sim_twilio import amd
from bench.sim_twilio.account import E164
from bench.sim_twilio.call import DocumentSource, SimCall, StatusTarget
from bench.sim_twilio.child import ChildCall
from bench.sim_twilio.rest_error import RestError

if TYPE_CHECKING:
    from bench.sim_twilio.sim import TwilioSim

CREATE = frozenset(
    {
        "ApplicationSid",
        "AsyncAmd",
        "AsyncAmdStatusCallback",
        "AsyncAmdStatusCallbackMethod",
        "Byoc",
        "CallReason",
        "CallToken",
        "CallerId",
        "ClientNotificationUrl",
        "FallbackMethod",
        "FallbackUrl",
        "From",
        "MachineDetection",
        "MachineDetectionSilenceTimeout",
        "MachineDetectionSpeechEndThreshold",
        "MachineDetectionSpeechThreshold",
        "MachineDetectionTimeout",
        "Method",
        "Record",
        "RecordingChannels",
        "RecordingStatusCallback",
        "RecordingStatusCallbackEvent",
        "RecordingStatusCallbackMethod",
        "RecordingTrack",
        "SendDigits",
        "SipAuthPassword",
        "SipAuthUsername",
        "StatusCallback",
        "StatusCallbackEvent",
        "StatusCallbackMethod",
        "TimeLimit",
        "Timeout",
        "To",
        "Trim",
        "Twiml",
        "Url",
    }
)
UPDATE = frozenset(
    {
        "FallbackMethod",
        "FallbackUrl",
        "Method",
        "Status",
        "StatusCallback",
        "StatusCallbackMethod",
        "TimeLimit",
        "Twiml",
        "Url",
    }
)
LIST = frozenset(
    {"To", "From", "ParentCallSid", "Status"}
    | {f"{name}{sign}" for name in ("StartTime", "EndTime") for sign in ("", "<", ">")}
)
REFUSALS = {
    21214: "'To' phone number cannot be reached",
    21215: "Account not authorized to call this number. Enable it in the geo permissions",
    21216: "Account not allowed to call this number",
    21217: "Phone number does not appear to be valid",
    21219: "'To' phone number not verified",
}
TWIML_MAX_CHARS = 4_000
STATUS_EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})
TIMEOUT_MAX_S = 600
TIME_LIMIT_MAX_S = 86_400


class _Form:
    """The parameters of one request, checked as they are read."""

    def __init__(self, params: Mapping[str, Sequence[str]]) -> None:
        self._params = params

    def text(self, name: str) -> str:
        return self._params.get(name, [""])[0]

    def given(self, name: str) -> bool:
        return name in self._params

    def url(self, name: str, code: int) -> str:
        text = self.text(name)
        if text and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname):
            raise RestError(400, code, f"{name} is not a valid URL: {text}"[:200])
        return text

    def method(self, name: str) -> str:
        method = self.text(name).upper() or "POST"
        if method not in ("GET", "POST"):
            raise RestError(400, 21209, f"{name} must be GET or POST")
        return method

    def number(self, name: str, default: int, low: int, high: int, code: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if not text.isdecimal() or not low <= int(text) <= high:
            raise RestError(400, code, f"Invalid {name} value: {text}"[:200])
        return int(text)

    def events(self) -> frozenset[str]:
        words = " ".join(self._params.get("StatusCallbackEvent", [])).split()
        unknown = [word for word in words if word not in STATUS_EVENTS]
        if unknown:
            raise RestError(400, 21626, f"Invalid StatusCallbackEvent: {unknown[0]}"[:200])
        return frozenset(words) or frozenset({"completed"})

    def source(self) -> DocumentSource | None:
        twiml = self.text("Twiml")
        if len(twiml) > TWIML_MAX_CHARS:
            raise RestError(400, 32018, "Twiml is longer than 4000 characters")
        url = self.url("Url", 21205)
        if not url and not twiml:
            return None
        return DocumentSource(
            url=url,
            method=self.method("Method"),
            fallback_url=self.url("FallbackUrl", 21205),
            fallback_method=self.method("FallbackMethod"),
            # With both, the URL wins (Twilio, error 32019).
            twiml=None if url else twiml,
        )


def create(sim: TwilioSim, params: Mapping[str, Sequence[str]], account_sid: str = "") -> SimCall:
    """Check the parameters as Twilio does and queue the call. Raises: RestError."""
    form = _Form(params)
    to, caller_id = form.text("To"), form.text("From")
    if not to:
        raise RestError(400, 21201, "No 'To' number specified")
    if not caller_id:
        raise RestError(400, 21213, "'From' phone number is required")
    if not to.startswith(("sip:", "client:")) and not E164.fullmatch(to):
        raise RestError(
            400, 21211, f"The phone number you are attempting to call, {to}, is not valid."
        )
    if not E164.fullmatch(caller_id):
        raise RestError(400, 21212, f"The source phone number provided, {caller_id}, is not valid.")
    owner = account_sid or sim.account_sid
    is_owned = any(number.phone_number == caller_id for number in sim.numbers_of(owner))
    if not is_owned and caller_id not in sim.verified_numbers:
        raise RestError(
            400,
            21210,
            f"The source phone number provided, {caller_id}, is not yet verified for your account.",
        )
    source = form.source()
    if source is None:
        raise RestError(400, 21205, "Url parameter is required.")
    target = StatusTarget(
        url=form.url("StatusCallback", 21609),
        method=form.method("StatusCallbackMethod"),
        events=form.events(),
    )
    detection = amd.asked(form.text, form.url, form.method)
    callee = sim.destinations.get(to)
    if callee is not None and callee.refused is not None:
        raise RestError(400, callee.refused, REFUSALS.get(callee.refused, "Refused"))
    timeout_s = form.number("Timeout", 60, 1, TIMEOUT_MAX_S, 21208)
    time_limit_s = form.number("TimeLimit", 14_400, 1, TIME_LIMIT_MAX_S, 21208)
    call = sim.queue_call(
        account_sid=owner,
        to=to,
        caller_id=caller_id,
        source=source,
        status_target=target,
        ring_timeout_s=timeout_s,
        time_limit_s=time_limit_s,
    )
    call.detection = detection
    return call


def update(call: SimCall, params: Mapping[str, Sequence[str]]) -> None:
    """Hang up, cancel, or send the call to another document. Raises: RestError."""
    form = _Form(params)
    status = form.text("Status")
    source = form.source()
    if status not in ("", "completed", "canceled"):
        raise RestError(400, 20001, f"Invalid Status: {status}"[:200])
    if form.text("Url") and form.text("Twiml"):
        raise RestError(400, 20001, "Url and Twiml are mutually exclusive")
    if call.is_over:
        raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
    if status == "canceled" and call.status == "in-progress":
        raise RestError(400, 21220, "Call is in-progress. Cannot cancel.")
    if source is not None and call.status != "in-progress":
        raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
    if form.given("StatusCallback"):
        target = call.status_target
        url, method = form.url("StatusCallback", 21609), form.method("StatusCallbackMethod")
        call.status_target = StatusTarget(url, method, target.events)
    if status:
        call.hang_up(by="api")
    elif source is not None:
        call.redirect(source)


def select(
    calls: Iterable[SimCall], params: Mapping[str, Sequence[str]]
) -> list[SimCall | ChildCall]:
    """The calls and their legs that the filters let through, newest first. Raises: RestError 20001 for a bad date."""
    wanted = {name: values[0] for name, values in params.items() if values[0]}
    every: list[SimCall | ChildCall] = []
    for call in calls:
        every += [call, *call.children]
    every.sort(key=lambda one: one.created_at)
    return [call for call in reversed(every) if _matches(call, wanted)]


def _matches(call: SimCall | ChildCall, wanted: Mapping[str, str]) -> bool:
    plain = {
        "To": call.to_number,
        "From": call.from_number,
        "Status": call.status,
        "ParentCallSid": call.parent_call_sid,
    }
    if any(name in wanted and wanted[name] != value for name, value in plain.items()):
        return False
    # A call that was not dialled yet has no start time; it is listed under its creation.
    times = {"StartTime": call.started_at or call.created_at, "EndTime": call.ended_at}
    return all(
        _in_range(moment, sign, wanted[name + sign])
        for name, moment in times.items()
        for sign in ("", "<", ">")
        if name + sign in wanted
    )


def _in_range(moment: datetime | None, sign: str, text: str) -> bool:
    try:
        bound = datetime.fromisoformat(text)
        whole_day = len(text) == len("2026-05-01")
    except ValueError as error:
        raise RestError(400, 20001, f"Invalid date: {text}"[:200]) from error
    if moment is None:
        return False
    if whole_day:
        day: date = moment.astimezone(UTC).date()
        limit = bound.date()
        return day == limit if not sign else day <= limit if sign == "<" else day >= limit
    bound = bound if bound.tzinfo else bound.replace(tzinfo=UTC)
    # Twilio counts in whole seconds.
    moment = moment.replace(microsecond=0)
    return moment == bound if not sign else moment <= bound if sign == "<" else moment >= bound
