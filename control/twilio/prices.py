"""What calls and messages cost at Twilio, once that is known.

Every function raises TwilioRefused, TwilioUnreachable, TwilioUncertain.
Source: Twilio docs, "Call resource", "Messages resource": `price` is null until some minutes after the end, then
negative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from control.twilio.rest import TwilioRefused, TwilioRest

NOT_FOUND = 404
GONE = "gone"
"""`status` of what Twilio does not know any more: somebody has deleted it."""
LEGS_MAX = 100
"""Legs of one call that are asked for: it may be transferred a few times, and each time a few numbers be tried."""


@dataclass(frozen=True, slots=True)
class Price:
    """`amount` in units of `currency` (ISO 4217), positive for what is paid."""

    amount: float
    currency: str


@dataclass(frozen=True, slots=True)
class Charge:
    """A call or a message at Twilio, and its price; None while that has not settled."""

    sid: str
    status: str
    price: Price | None


async def charge_of_call(twilio: TwilioRest, sid: str) -> Charge:
    """Of one call, its legs left out."""
    return await _fetched(twilio, "calls.fetch", sid, lambda: twilio.client.calls(sid).fetch())


async def charge_of_message(twilio: TwilioRest, sid: str) -> Charge:
    """Of one message."""
    return await _fetched(
        twilio, "messages.fetch", sid, lambda: twilio.client.messages(sid).fetch()
    )


async def charges_of_legs(twilio: TwilioRest, parent_sid: str) -> list[Charge]:
    """Of the calls that <Dial> has made out of this one, the oldest first."""
    legs = await twilio.ask(
        "calls.list",
        partial(twilio.client.calls.list, parent_call_sid=parent_sid, limit=LEGS_MAX),
    )
    return [_charge(leg, str(leg.sid)) for leg in reversed(legs)]


async def _fetched(twilio: TwilioRest, what: str, sid: str, fetch: Callable[[], Any]) -> Charge:
    try:
        return _charge(await twilio.ask(what, fetch), sid)
    except TwilioRefused as refusal:
        if refusal.status != NOT_FOUND:
            raise
        return Charge(sid, GONE, None)


def _charge(resource: Any, sid: str) -> Charge:
    return Charge(sid, str(resource.status or ""), price_in(resource))


def price_in(resource: Any) -> Price | None:
    """The price that a call's or a message's resource names."""
    try:
        amount = Decimal(str(resource.price))
    except InvalidOperation:
        return None
    if not amount.is_finite():
        return None
    return Price(float(-amount) or 0.0, str(resource.price_unit or "USD").upper())
