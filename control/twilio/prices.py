"""What calls and messages cost at Twilio, once that is known.

Source: Twilio docs, "Call resource": `price` is null until some minutes after the end, then negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from control.twilio.rest import TwilioRest


@dataclass(frozen=True, slots=True)
class Price:
    """`amount` in units of `currency` (ISO 4217), positive for what is paid."""

    amount: float
    currency: str


async def price_of_call(twilio: TwilioRest, sid: str) -> Price | None:
    """None while it has not settled. Raises TwilioRefused, TwilioUnreachable, TwilioUncertain."""
    call = await twilio.ask("calls.fetch", lambda: twilio.client.calls(sid).fetch())
    return price_in(call)


def price_in(resource: Any) -> Price | None:
    """The price that a call's or a message's resource names."""
    try:
        amount = Decimal(str(resource.price))
    except InvalidOperation:
        return None
    if not amount.is_finite():
        return None
    return Price(float(-amount) or 0.0, str(resource.price_unit or "USD").upper())
