"""IncomingPhoneNumbers.json: what owning numbers takes, refuses and does.

Source: Twilio, "IncomingPhoneNumber resource", and its error dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.sim_twilio.account import E164, Number
from bench.sim_twilio.rest_error import RestError

if TYPE_CHECKING:
    from bench.sim_twilio.sim import TwilioSim

_FIELDS = {
    "ApiVersion": "api_version",
    "AddressSid": "address_sid",
    "BundleSid": "bundle_sid",
    "EmergencyAddressSid": "emergency_address_sid",
    "EmergencyStatus": "emergency_status",
    "FriendlyName": "friendly_name",
    "IdentitySid": "identity_sid",
    "SmsApplicationSid": "sms_application_sid",
    "SmsFallbackMethod": "sms_fallback_method",
    "SmsFallbackUrl": "sms_fallback_url",
    "SmsMethod": "sms_method",
    "SmsUrl": "sms_url",
    "StatusCallback": "status_callback",
    "StatusCallbackMethod": "status_callback_method",
    "TrunkSid": "trunk_sid",
    "VoiceApplicationSid": "voice_application_sid",
    "VoiceCallerIdLookup": "voice_caller_id_lookup",
    "VoiceFallbackMethod": "voice_fallback_method",
    "VoiceFallbackUrl": "voice_fallback_url",
    "VoiceMethod": "voice_method",
    "VoiceReceiveMode": "voice_receive_mode",
    "VoiceUrl": "voice_url",
}
UPDATE = frozenset(_FIELDS) | {"AccountSid"}
CREATE = frozenset(_FIELDS) | {"PhoneNumber", "AreaCode"}
LIST = frozenset({"Beta", "FriendlyName", "Origin", "PhoneNumber"})
FRIENDLY_NAME_MAX_CHARS = 64


def create(sim: TwilioSim, params: Mapping[str, Sequence[str]]) -> Number:
    """Buy a number. Raises: RestError 21421, 21422, 21451, 21452 or a bad value's code."""
    e164 = params.get("PhoneNumber", [""])[0]
    area_code = params.get("AreaCode", [""])[0]
    if not e164 and not area_code:
        raise RestError(400, 21421, "PhoneNumber or AreaCode is required")
    if not e164:
        e164 = _number_in(sim, area_code)
    if not E164.fullmatch(e164):
        raise RestError(400, 21421, f"PhoneNumber {e164} is invalid"[:200])
    if e164 in sim.numbers or (sim.available is not None and e164 not in sim.available):
        raise RestError(400, 21422, f"{e164} is not available.")
    number = Number(e164, created_at=sim.now())
    update(number, {name: v for name, v in params.items() if name in _FIELDS}, sim.now())
    sim.numbers[e164] = number
    return number


def update(number: Number, params: Mapping[str, Sequence[str]], now: datetime) -> None:
    """Change a number; an empty value clears. Nothing changes when one value is bad. Raises: RestError."""
    if "AccountSid" in params:
        raise RestError(400, 21473, "Numbers cannot be moved in this simulator")
    changes = {_FIELDS[name]: values[0] for name, values in params.items()}
    for name, value in changes.items():
        _check(name, value)
    voice_url = changes.get("voice_url", number.voice_url)
    if changes.get("voice_fallback_url") and not voice_url:
        raise RestError(400, 21405, "VoiceFallbackUrl needs a VoiceUrl")
    for name, value in changes.items():
        setattr(number, name, value.upper() if name.endswith("_method") else value)
    if changes.get("trunk_sid"):
        number.voice_application_sid = ""
    elif changes.get("voice_application_sid"):
        number.trunk_sid = ""
    number.updated_at = now


def _check(name: str, value: str) -> None:
    if name.endswith(("_url", "_callback")) and value:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RestError(400, 21402, f"{name} is not a valid URL: {value}"[:200])
    if name.endswith("_method") and value.upper() not in ("GET", "POST"):
        raise RestError(400, 21403, f"{name} must be GET or POST")
    if name == "friendly_name" and len(value) > FRIENDLY_NAME_MAX_CHARS:
        raise RestError(400, 20001, "FriendlyName is longer than 64 characters")


def _number_in(sim: TwilioSim, area_code: str) -> str:
    if not re.fullmatch(r"[2-9]\d\d", area_code):
        raise RestError(400, 21451, f"AreaCode {area_code} is invalid"[:200])
    taken = sim.numbers
    generated = (f"+1{area_code}555{n:04d}" for n in range(10_000))
    free = generated if sim.available is None else iter(sorted(sim.available))
    for e164 in free:
        if e164.startswith(f"+1{area_code}") and e164 not in taken:
            return e164
    raise RestError(400, 21452, f"No phone numbers found in area code {area_code}")


def select(numbers: Iterable[Number], params: Mapping[str, Sequence[str]]) -> list[Number]:
    """The numbers that the filters let through; `PhoneNumber` may be a part, with `*` for any digits."""
    wanted = {name: values[0] for name, values in params.items() if values[0]}
    part = wanted.get("PhoneNumber")
    name = wanted.get("FriendlyName")
    return [
        number
        for number in numbers
        if (part is None or fnmatchcase(number.phone_number, f"*{part.lstrip('+ ')}*"))
        and (name is None or (number.friendly_name or number.phone_number) == name)
    ]
