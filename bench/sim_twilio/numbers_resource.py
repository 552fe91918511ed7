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
from bench.sim_twilio.market import COUNTRIES, kind_of
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


def create(sim: TwilioSim, params: Mapping[str, Sequence[str]], account_sid: str = "") -> Number:
    """Buy a number. Raises: RestError 21421, 21422, 21451, 21452, what a country asks for, or a bad value's."""
    e164 = params.get("PhoneNumber", [""])[0]
    area_code = params.get("AreaCode", [""])[0]
    if not e164 and not area_code:
        raise RestError(400, 21421, "PhoneNumber or AreaCode is required")
    if not e164:
        e164 = _number_in(sim, area_code)
    if not E164.fullmatch(e164):
        raise RestError(400, 21421, f"PhoneNumber {e164} is invalid"[:200])
    market = sim.market
    if market.snatch_next > 0 and e164 not in sim.numbers:
        market.snatch_next -= 1
        market.sold_out.add(e164)
    if (
        e164 in sim.numbers
        or (market.only is not None and e164 not in market.only)
        or market.is_sold_out(e164)
    ):
        raise RestError(400, 21422, f"{e164} is not available.")
    number = Number(e164, created_at=sim.now(), account_sid=account_sid)
    _check_requirements(sim, number, params)
    update(number, {name: v for name, v in params.items() if name in _FIELDS}, sim.now())
    sim.numbers[e164] = number
    return number


_KINDS = {"Local": "local", "TollFree": "toll-free", "Mobile": "mobile"}


def _check_requirements(
    sim: TwilioSim, number: Number, params: Mapping[str, Sequence[str]]
) -> None:
    found = kind_of(number.phone_number)
    if found is None:
        return
    country, kind = found
    number.kind = _KINDS[kind]
    number.can_send_mms = country.code in ("US", "CA")
    number.address_requirements = country.address_requirements
    if kind in country.needs_bundle:
        bundle_sid = params.get("BundleSid", [""])[0]
        if not bundle_sid or not sim.has_approved_bundle(bundle_sid):
            raise RestError(
                400, 21649, f"Bundle required: {number.phone_number} needs an approved one"
            )
    if country.address_requirements != "none":
        address = sim.addresses.get(params.get("AddressSid", [""])[0])
        if address is None:
            raise RestError(400, 21631, f"Phone Number Requires an Address: {number.phone_number}")
        if country.address_requirements == "local" and address.iso_country != country.code:
            raise RestError(400, 21615, "Phone Number Requires a Local Address")


def move(sim: TwilioSim, number: Number, params: Mapping[str, Sequence[str]]) -> None:
    """To another account of the family, if `AccountSid` says so. Raises: RestError 21473."""
    target = params.get("AccountSid", [""])[0]
    if not target:
        return
    if target not in sim.accounts or sim.accounts[target].status != "active":
        raise RestError(400, 21473, f"Number cannot be moved to account {target}"[:200])
    number.account_sid = target


def update(number: Number, params: Mapping[str, Sequence[str]], now: datetime) -> None:
    """Change a number; an empty value clears. Nothing changes when one value is bad. Raises: RestError."""
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
    for code in ("US", "CA"):
        offers = sim.market.offers(
            COUNTRIES[code],
            "Local",
            lambda offer: (
                offer.phone_number.startswith(f"+1{area_code}")
                and offer.phone_number not in sim.numbers
            ),
            1,
        )
        if offers:
            return offers[0].phone_number
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
