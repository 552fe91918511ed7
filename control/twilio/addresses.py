"""Twilio's Addresses: where a customer is, for numbers and papers that ask for it.

Every function raises TwilioRefused, TwilioUnreachable and TwilioUncertain.
Source: Twilio docs, "Address resource".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from control.twilio.rest import TwilioRest


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address. `iso_country` is ISO 3166-1 alpha-2."""

    customer_name: str
    street: str
    city: str
    region: str
    postal_code: str
    iso_country: str
    street_secondary: str | None = None
    sid: str | None = None


async def create(rest: TwilioRest, address: Address) -> Address:
    """Make it. Not sent again when uncertain: a second one would do no harm, but is not made blindly."""
    given = {name: value for name, value in asdict(address).items() if value and name != "sid"}
    make = partial(rest.client.addresses.create, **given)
    return _address(await rest.ask("addresses.create", make, repeatable=False))


async def listed(rest: TwilioRest, limit: int) -> list[Address]:
    """The account's addresses."""
    found = await rest.ask("addresses.list", partial(rest.client.addresses.list, limit=limit))
    return [_address(one) for one in found]


def _address(one: Any) -> Address:
    return Address(
        customer_name=one.customer_name or "",
        street=one.street or "",
        city=one.city or "",
        region=one.region or "",
        postal_code=one.postal_code or "",
        iso_country=one.iso_country or "",
        street_secondary=one.street_secondary or None,
        sid=one.sid,
    )
