"""Twilio's AvailablePhoneNumbers and IncomingPhoneNumbers, on the shared transport.

Every function raises TwilioRefused, TwilioUnreachable and TwilioUncertain.
Source: Twilio docs, "AvailablePhoneNumber resource", "IncomingPhoneNumber resource".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from control.twilio.rest import TwilioRefused, TwilioRest

TYPES = {"local": "local", "toll_free": "toll_free", "mobile": "mobile"}
"""Our words, and the resource of the client that lists them."""
LIST_MAX = 100
NEAR_MILES = 100
"""How far off a number may be that is near another one; Twilio takes up to 500."""


@dataclass(frozen=True, slots=True)
class ForSale:
    """A number that Twilio has to sell."""

    e164: str
    country: str
    region: str | None
    locality: str | None
    postal_code: str | None
    address_requirements: str
    is_beta: bool
    capabilities: dict[str, bool]


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The settings of a number that lead its calls and messages to us.

    An application or a trunk goes before the URLs, so that "none" is a setting too.
    """

    voice_url: str
    voice_fallback_url: str
    status_callback: str
    sms_url: str
    sms_fallback_url: str
    voice_method: str = "POST"
    voice_fallback_method: str = "POST"
    status_callback_method: str = "POST"
    sms_method: str = "POST"
    sms_fallback_method: str = "POST"
    voice_application_sid: str = ""
    sms_application_sid: str = ""
    trunk_sid: str = ""


@dataclass(frozen=True, slots=True)
class Owned:
    """A number of the account, as Twilio shows it."""

    sid: str
    e164: str
    friendly_name: str
    status: str
    type: str | None
    capabilities: dict[str, bool]
    webhooks: Webhooks
    bundle_sid: str | None
    address_sid: str | None
    account_sid: str | None


async def available(
    rest: TwilioRest,
    *,
    country: str,
    type: str,
    limit: int,
    area_code: str | None = None,
    contains: str | None = None,
    locality: str | None = None,
    region: str | None = None,
    near_number: str | None = None,
    sms: bool = False,
) -> list[ForSale] | None:
    """Up to `limit` numbers that take calls; None when Twilio sells no such type there (404)."""
    given = {
        "area_code": int(area_code) if area_code else None,
        "contains": contains,
        "in_locality": locality,
        "in_region": region,
        "near_number": near_number,
        "distance": NEAR_MILES if near_number else None,
        "sms_enabled": True if sms else None,
    }
    filters = {name: value for name, value in given.items() if value is not None}
    resource = getattr(rest.client.available_phone_numbers(country), TYPES[type])
    search = partial(
        resource.list, voice_enabled=True, limit=limit, page_size=min(limit, LIST_MAX), **filters
    )
    try:
        found = await rest.ask("numbers.search", search)
    except TwilioRefused as refusal:
        if refusal.status == 404:
            return None
        raise
    return [_for_sale(item, country) for item in found]


async def types_sold(rest: TwilioRest, country: str) -> list[str]:
    """The types of `TYPES` that Twilio sells in a country; empty when it sells nothing there."""
    try:
        shown = await rest.ask(
            "numbers.country", rest.client.available_phone_numbers(country).fetch
        )
    except TwilioRefused as refusal:
        if refusal.status == 404:
            return []
        raise
    return [name for name in TYPES if name in (shown.subresource_uris or {})]


async def buy(
    rest: TwilioRest,
    e164: str,
    *,
    friendly_name: str,
    webhooks: Webhooks,
    bundle_sid: str | None = None,
    address_sid: str | None = None,
) -> Owned:
    """Buy this very number, wired in the same request. Never sent twice when its outcome is uncertain."""
    more = {"bundle_sid": bundle_sid, "address_sid": address_sid}
    create = partial(
        rest.client.incoming_phone_numbers.create,
        phone_number=e164,
        friendly_name=friendly_name,
        **_urls_and_methods(webhooks),
        **{name: value for name, value in more.items() if value},
    )
    return _owned(await rest.ask("numbers.buy", create, repeatable=False))


async def fetch(rest: TwilioRest, sid: str) -> Owned | None:
    """The number with this SID; None when the account has none."""
    try:
        return _owned(
            await rest.ask("numbers.fetch", rest.client.incoming_phone_numbers(sid).fetch)
        )
    except TwilioRefused as refusal:
        if refusal.status == 404:
            return None
        raise


async def by_e164(rest: TwilioRest, e164: str) -> Owned | None:
    """The account's number `e164`. Twilio's filter also matches parts of numbers."""
    listed = partial(rest.client.incoming_phone_numbers.list, phone_number=e164, limit=20)
    found = await rest.ask("numbers.list", listed)
    return next((_owned(number) for number in found if number.phone_number == e164), None)


async def all_owned(rest: TwilioRest) -> list[Owned]:
    """Every number of the account, a thousand to a page."""
    listed = partial(rest.client.incoming_phone_numbers.list, page_size=1000)
    return [_owned(number) for number in await rest.ask("numbers.list", listed)]


async def by_name(rest: TwilioRest, friendly_name: str) -> Owned | None:
    """The account's number of exactly this name."""
    listed = partial(rest.client.incoming_phone_numbers.list, friendly_name=friendly_name, limit=20)
    found = await rest.ask("numbers.list", listed)
    named = (number for number in found if number.friendly_name == friendly_name)
    return next((_owned(number) for number in named), None)


async def wire(rest: TwilioRest, sid: str, webhooks: Webhooks) -> Owned:
    """Set all webhooks; an empty text clears what would go before them."""
    settings = {name: getattr(webhooks, name) for name in WIRED}
    change = partial(rest.client.incoming_phone_numbers(sid).update, **settings)
    return _owned(await rest.ask("numbers.update", change))


async def move(main: TwilioRest, sid: str, account_sid: str) -> Owned:
    """Give a number of the main account, whose client this is, to a subaccount of it."""
    change = partial(main.client.incoming_phone_numbers(sid).update, account_sid=account_sid)
    return _owned(await main.ask("numbers.move", change))


async def release(rest: TwilioRest, sid: str) -> bool:
    """Give it back, for good. False when the account had it no more."""
    try:
        await rest.ask("numbers.release", rest.client.incoming_phone_numbers(sid).delete)
    except TwilioRefused as refusal:
        if refusal.status == 404:
            return False
        raise
    return True


WIRED = tuple(Webhooks.__dataclass_fields__)
"""The settings that `wire` sets."""
_CLEARED = frozenset({"voice_application_sid", "sms_application_sid", "trunk_sid"})


def _urls_and_methods(webhooks: Webhooks) -> dict[str, str]:
    """For a number that is new there is nothing to clear."""
    return {name: getattr(webhooks, name) for name in WIRED if name not in _CLEARED}


def _for_sale(item: Any, country: str) -> ForSale:
    return ForSale(
        e164=str(item.phone_number),
        country=item.iso_country or country,
        region=item.region or None,
        locality=item.locality or None,
        postal_code=item.postal_code or None,
        address_requirements=str(item.address_requirements or "none"),
        is_beta=bool(item.beta),
        capabilities=_capabilities(item.capabilities),
    )


def _owned(number: Any) -> Owned:
    return Owned(
        sid=number.sid,
        e164=number.phone_number,
        friendly_name=number.friendly_name or "",
        status=str(number.status or "in-use"),
        type=number.type or None,
        capabilities=_capabilities(number.capabilities),
        webhooks=Webhooks(**{name: getattr(number, name) or "" for name in WIRED}),
        bundle_sid=number.bundle_sid or None,
        address_sid=number.address_sid or None,
        account_sid=number.account_sid or None,
    )


def _capabilities(given: Any) -> dict[str, bool]:
    """Keys in lower case: Twilio writes `SMS` and `sms`."""
    return {str(name).lower(): bool(able) for name, able in dict(given or {}).items()}
