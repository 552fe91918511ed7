"""Addresses.json: made, listed, shown, deleted. Source: Twilio, "Address resource"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench.sim_twilio.account import API_VERSION, new_sid, rfc2822
from bench.sim_twilio.rest_error import RestError

if TYPE_CHECKING:
    from bench.sim_twilio.sim import TwilioSim

_NEEDED = ("CustomerName", "Street", "City", "Region", "PostalCode", "IsoCountry")
CREATE = frozenset(_NEEDED) | {
    "AutoCorrectAddress",
    "EmergencyEnabled",
    "FriendlyName",
    "StreetSecondary",
}
LIST = frozenset({"CustomerName", "EmergencyEnabled", "FriendlyName", "IsoCountry"})


@dataclass(slots=True)
class Address:
    """Where a customer is."""

    customer_name: str
    street: str
    city: str
    region: str
    postal_code: str
    iso_country: str
    friendly_name: str = ""
    street_secondary: str = ""
    account_sid: str = ""
    sid: str = field(default_factory=lambda: new_sid("AD"))
    created_at: datetime | None = None

    def resource(self, account_sid: str) -> dict[str, Any]:
        """The JSON object of an Address."""
        return {
            "sid": self.sid,
            "account_sid": account_sid,
            "friendly_name": self.friendly_name or None,
            "customer_name": self.customer_name,
            "street": self.street,
            "street_secondary": self.street_secondary or None,
            "city": self.city,
            "region": self.region,
            "postal_code": self.postal_code,
            "iso_country": self.iso_country,
            "emergency_enabled": False,
            "validated": False,
            "verified": False,
            "date_created": rfc2822(self.created_at),
            "date_updated": rfc2822(self.created_at),
            "uri": f"/{API_VERSION}/Accounts/{account_sid}/Addresses/{self.sid}.json",
        }


def create(sim: TwilioSim, params: Mapping[str, Sequence[str]], account_sid: str = "") -> Address:
    """Raises: RestError 20001 for what is missing."""
    given = {name: values[0] for name, values in params.items()}
    missing = [name for name in _NEEDED if not given.get(name)]
    if missing:
        raise RestError(400, 20001, f"{missing[0]} is required")
    if len(given["IsoCountry"]) != 2:
        raise RestError(400, 20001, f"Invalid value for IsoCountry: {given['IsoCountry']}"[:200])
    made = Address(
        customer_name=given["CustomerName"],
        street=given["Street"],
        city=given["City"],
        region=given["Region"],
        postal_code=given["PostalCode"],
        iso_country=given["IsoCountry"].upper(),
        friendly_name=given.get("FriendlyName", ""),
        street_secondary=given.get("StreetSecondary", ""),
        account_sid=account_sid,
        created_at=sim.now(),
    )
    sim.addresses[made.sid] = made
    return made


def select(addresses: Iterable[Address], params: Mapping[str, Sequence[str]]) -> list[Address]:
    """The addresses that the filters let through."""
    wanted = {name: values[0] for name, values in params.items() if values[0]}
    return [
        address
        for address in addresses
        if all(
            (getattr(address, attribute) == wanted[name])
            for name, attribute in (
                ("CustomerName", "customer_name"),
                ("FriendlyName", "friendly_name"),
                ("IsoCountry", "iso_country"),
            )
            if name in wanted
        )
    ]
