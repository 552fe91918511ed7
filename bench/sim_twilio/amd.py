"""Answering machine detection: the parameters, the verdict, the asynchronous callback.

Source: Twilio, "Answering machine detection"; errors 21234 (a value out of range), 21262 (asynchronous without a
callback URL).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from bench.sim_twilio.rest_error import RestError

if TYPE_CHECKING:
    from bench.sim_twilio.call import SimCall
    from bench.sim_twilio.verbs import Carrier

MODES = ("Enable", "DetectMessageEnd")
RANGES = {
    "MachineDetectionTimeout": (3, 59),
    "MachineDetectionSpeechThreshold": (1000, 6000),
    "MachineDetectionSpeechEndThreshold": (500, 5000),
    "MachineDetectionSilenceTimeout": (2000, 10000),
}


@dataclass(frozen=True, slots=True)
class Detection:
    """What a call is listened to for, and who is told."""

    mode: str
    is_async: bool
    url: str
    method: str


def asked(
    text: Callable[[str], str], url: Callable[[str, int], str], method: Callable[[str], str]
) -> Detection | None:
    """What a create request asks for; the functions read its parameters. Raises: RestError."""
    for name, (low, high) in RANGES.items():
        value = text(name)
        if value and not (value.isdecimal() and low <= int(value) <= high):
            raise RestError(400, 21234, f"Invalid {name} value: {value}"[:200])
    mode = text("MachineDetection")
    if not mode or text("SendDigits"):
        return None
    if mode not in MODES:
        raise RestError(400, 21234, f"Invalid MachineDetection value: {mode}"[:200])
    if text("AsyncAmd") not in ("", "true", "false"):
        raise RestError(400, 21234, "AsyncAmd must be true or false")
    is_async = text("AsyncAmd") == "true"
    callback = url("AsyncAmdStatusCallback", 21262)
    if is_async and not callback:
        raise RestError(400, 21262, "AsyncAmdStatusCallback is required")
    return Detection(mode, is_async, callback, method("AsyncAmdStatusCallbackMethod"))


def verdict(detection: Detection, answered_by: str) -> str:
    """`AnsweredBy` as this mode words it: `Enable` does not wait for the end of a greeting."""
    if not answered_by.startswith("machine"):
        return answered_by
    if detection.mode == "Enable":
        return "machine_start"
    return "machine_end_beep" if answered_by == "machine_start" else answered_by


async def listen(carrier: Carrier, call: SimCall) -> None:
    """Listen for as long as it takes, then tell; a call that is over first is not told about."""
    detection = call.detection
    if detection is None:
        return
    if detection.is_async:
        await trio.sleep(call.caller.detected_after_s)
    else:
        with call.interruptible():
            await trio.sleep(call.caller.detected_after_s)
    if call.is_over or call.hung_up_by is not None:
        return
    call.answered_by = verdict(detection, call.caller.answered_by)
    call.note("answered-by", answered_by=call.answered_by)
    if detection.is_async:
        took_ms = round(call.caller.detected_after_s * 1000)
        params = [
            ("AccountSid", call.account_sid),
            ("AnsweredBy", call.answered_by),
            ("CallSid", call.sid),
            ("MachineDetectionDuration", str(took_ms)),
        ]
        call.callbacks.put(detection.url, detection.method, params)
