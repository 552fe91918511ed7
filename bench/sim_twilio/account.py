"""The account's resources as the REST API shows them: numbers and calls. No I/O.

Values follow the 2010 API: most are strings, dates are RFC 2822, what is unknown is null.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.sim_twilio.call import SimCall
    from bench.sim_twilio.child import ChildCall

API_VERSION = "2010-04-01"
E164 = re.compile(r"\+[1-9]\d{6,14}")


def new_sid(prefix: str) -> str:
    """A fresh SID: two letters and 32 hex digits."""
    return prefix + secrets.token_hex(16)


def rfc2822(moment: datetime | None) -> str | None:
    """`Tue, 31 Aug 2010 20:36:28 +0000`."""
    return format_datetime(moment) if moment else None


@dataclass(slots=True)
class Number:
    """An owned number. URLs are empty strings when not set; tests may set them directly."""

    phone_number: str
    voice_url: str = ""
    voice_method: str = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: str = "POST"
    status_callback: str = ""
    status_callback_method: str = "POST"
    sms_url: str = ""
    sms_method: str = "POST"
    sms_fallback_url: str = ""
    sms_fallback_method: str = "POST"
    friendly_name: str = ""
    voice_application_sid: str = ""
    sms_application_sid: str = ""
    trunk_sid: str = ""
    voice_caller_id_lookup: str = "false"
    voice_receive_mode: str = "voice"
    bundle_sid: str = ""
    address_sid: str = ""
    identity_sid: str = ""
    emergency_status: str = "Inactive"
    emergency_address_sid: str = ""
    api_version: str = API_VERSION
    account_sid: str = ""
    """The account that owns it; empty = the main one."""
    kind: str = "local"
    """`local`, `mobile`, `toll-free`."""
    status: str = "in-use"
    address_requirements: str = "none"
    can_send_mms: bool = True
    sid: str = field(default_factory=lambda: new_sid("PN"))
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def resource(self, account_sid: str) -> dict[str, Any]:
        """The JSON object of an IncomingPhoneNumber."""
        return {
            "sid": self.sid,
            "account_sid": account_sid,
            "phone_number": self.phone_number,
            "friendly_name": self.friendly_name or self.phone_number,
            "api_version": self.api_version,
            "voice_url": self.voice_url,
            "voice_method": self.voice_method,
            "voice_fallback_url": self.voice_fallback_url,
            "voice_fallback_method": self.voice_fallback_method,
            "status_callback": self.status_callback,
            "status_callback_method": self.status_callback_method,
            "sms_url": self.sms_url,
            "sms_method": self.sms_method,
            "sms_fallback_url": self.sms_fallback_url,
            "sms_fallback_method": self.sms_fallback_method,
            "voice_application_sid": self.voice_application_sid or None,
            "sms_application_sid": self.sms_application_sid or None,
            "trunk_sid": self.trunk_sid or None,
            "voice_caller_id_lookup": self.voice_caller_id_lookup == "true",
            "voice_receive_mode": self.voice_receive_mode,
            "bundle_sid": self.bundle_sid or None,
            "address_sid": self.address_sid or None,
            "identity_sid": self.identity_sid or None,
            "emergency_status": self.emergency_status,
            "emergency_address_sid": self.emergency_address_sid or None,
            "emergency_address_status": "unregistered",
            "capabilities": {
                "voice": True,
                "sms": True,
                "mms": self.can_send_mms,
                "fax": False,
            },
            "address_requirements": self.address_requirements,
            "beta": False,
            "origin": "twilio",
            "status": self.status,
            "type": self.kind,
            "date_created": rfc2822(self.created_at),
            "date_updated": rfc2822(self.updated_at or self.created_at),
            "uri": f"/{API_VERSION}/Accounts/{account_sid}/IncomingPhoneNumbers/{self.sid}.json",
        }


def _formatted(number: str) -> str:
    """`(415) 867-5309` for a North American number, else as it is."""
    match = re.fullmatch(r"\+1(\d{3})(\d{3})(\d{4})", number)
    return "({}) {}-{}".format(*match.groups()) if match else number


PRICE_A_MINUTE = 0.0085


def _price(call: SimCall | ChildCall) -> str | None:
    """Negative, once the call is over; nothing is charged for one that was not answered."""
    if call.ended_at is None:
        return None
    return f"{-PRICE_A_MINUTE * -(-call.duration_s // 60):.5f}"


def call_resource(call: SimCall | ChildCall) -> dict[str, Any]:
    """The JSON object of a Call."""
    uri = f"/{API_VERSION}/Accounts/{call.account_sid}/Calls/{call.sid}"
    children = ("notifications", "recordings", "payments", "events", "siprec", "streams")
    return {
        "sid": call.sid,
        "account_sid": call.account_sid,
        "parent_call_sid": call.parent_call_sid,
        "to": call.to_number,
        "to_formatted": _formatted(call.to_number),
        "from": call.from_number,
        "from_formatted": _formatted(call.from_number),
        "phone_number_sid": call.phone_number_sid,
        "status": call.status,
        "direction": call.direction,
        "start_time": rfc2822(call.started_at),
        "end_time": rfc2822(call.ended_at),
        "duration": None if call.ended_at is None else str(call.duration_s),
        "price": _price(call),
        "price_unit": "USD",
        "answered_by": call.answered_by,
        "forwarded_from": None,
        "caller_name": None,
        "group_sid": None,
        "queue_time": str(call.queue_time_ms),
        "trunk_sid": None,
        "api_version": API_VERSION,
        "date_created": rfc2822(call.created_at),
        "date_updated": rfc2822(call.ended_at or call.started_at or call.created_at),
        "uri": uri + ".json",
        "subresource_uris": {name: f"{uri}/{name.capitalize()}.json" for name in children},
    }
