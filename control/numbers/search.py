"""What Twilio has to sell, and what it has near by when it has nothing."""

from __future__ import annotations

from control.numbers import plan, refusals
from control.numbers.values import Candidate, Nearby, NumberProblem, NumberWish
from control.twilio import numbers as twilio_numbers
from control.twilio.numbers import ForSale
from control.twilio.rest import TwilioError, TwilioRest

NEARBY_SEARCHED = 100
NEARBY_MAX = 5


async def candidates(rest: TwilioRest, wish: NumberWish, limit: int) -> list[Candidate]:
    """Up to `limit`; empty when nothing matches now. Raises NumberProblem (`not_sold`, and failures)."""
    try:
        found = await twilio_numbers.available(
            rest,
            country=wish.country,
            type=wish.type,
            limit=limit,
            area_code=wish.area_code,
            contains=wish.contains,
            locality=wish.locality,
            region=wish.region,
            sms=wish.sms,
        )
        if found is None:
            raise _not_sold(wish, await twilio_numbers.types_sold(rest, wish.country))
    except TwilioError as error:
        raise refusals.of(error) from error
    return [_candidate(item, wish) for item in found]


async def nothing(rest: TwilioRest, wish: NumberWish) -> NumberProblem:
    """Why a search was empty, naming the field to change, with area codes near by."""
    given = [
        name
        for name in ("contains", "locality", "area_code", "region", "sms")
        if getattr(wish, name)
    ]
    what = (
        ", ".join(name if name == "sms" else f"{name} {getattr(wish, name)}" for name in given)
        or f"type {wish.type}"
    )
    nearby = await _nearby(rest, wish)
    hint = ""
    if nearby:
        codes = ", ".join(f"{near.area_code} ({near.locality or near.region})" for near in nearby)
        hint = f"; near by there are numbers in {codes}"
    return NumberProblem(
        "none_available",
        f"Twilio has no {wish.type.replace('_', '-')} number of {wish.country} with {what} now{hint}",
        # The narrowest field first: it is what to loosen.
        field=given[0] if given else "type",
        nearby=nearby,
    )


async def _nearby(rest: TwilioRest, wish: NumberWish) -> list[Nearby]:
    """Other area codes around the one that is sold out; empty when Twilio cannot say."""
    if wish.area_code is None or wish.type != "local":
        return []
    try:
        found = await twilio_numbers.available(
            rest,
            country=wish.country,
            type=wish.type,
            limit=NEARBY_SEARCHED,
            near_number=plan.near_area_code(wish.area_code),
            sms=wish.sms,
        )
    except TwilioError:
        return []  # a hint only
    near: dict[str, Nearby] = {}
    for item in found or ():
        code = plan.area_code_of(item.e164)
        if code is not None and code != wish.area_code:
            near.setdefault(code, Nearby(code, item.region, item.locality))
    return list(near.values())[:NEARBY_MAX]


def _not_sold(wish: NumberWish, types: list[str]) -> NumberProblem:
    if not types:
        return NumberProblem(
            "not_sold",
            f"country: Twilio sells no local, toll-free or mobile numbers of {wish.country}",
            field="country",
        )
    return NumberProblem(
        "not_sold",
        f"type: Twilio sells no {wish.type.replace('_', '-')} numbers of {wish.country}, "
        f"but {', '.join(types)}",
        field="type",
    )


def _candidate(item: ForSale, wish: NumberWish) -> Candidate:
    return Candidate(
        e164=item.e164,
        type=wish.type,
        country=item.country,
        region=item.region,
        locality=item.locality,
        postal_code=item.postal_code,
        address_requirements=item.address_requirements,
        is_beta=item.is_beta,
        capabilities=item.capabilities,
    )
