"""Twilio's refusals in words that a person can act on, and what a country wants to see first.

Source: Twilio's error dictionary.
"""

from __future__ import annotations

from control.numbers.values import Missing, NumberProblem, NumberWish
from control.twilio import regulatory
from control.twilio.regulatory import Regulation, Requirement
from control.twilio.rest import TwilioError, TwilioRefused, TwilioRest

TAKEN = frozenset({21421, 21422})
"""Not for sale any more (or never was): the next candidate may be."""
_ADDRESS = {
    21615: "an address in the region of the number",
    21631: "an address",
}
_BUNDLE = frozenset({21649, 21650, 21651})
_ADVICE = {
    20003: "check twilio.account_sid and twilio.auth_token",
    20005: "the Twilio account is not active: see its status",
    21404: "a trial account cannot buy this number: upgrade the Twilio account",
    22300: "Twilio has restricted the account: write to Twilio's support",
    22401: "a limit of this country is reached: write to Twilio's support",
    22402: "a limit of this country is reached: write to Twilio's support",
    22403: "a limit of this country is reached: write to Twilio's support",
}
_ADDRESS_WORDS = {
    "any": "an address, in whichever country",
    "local": "an address in {country}",
    "foreign": "an address outside {country}",
}


def of(error: TwilioError) -> NumberProblem:
    """Any failure of a request about numbers."""
    if isinstance(error, TwilioRefused):
        advice = _ADVICE.get(error.code, "")
        text = f"{error}: {advice}" if advice else str(error)
        # Too many requests at once is over in a moment; a no stays a no.
        return NumberProblem(
            "refused", text, transient=error.status == 429, twilio_code=error.code or None
        )
    return NumberProblem("unreachable", str(error), transient=True)


async def of_purchase(rest: TwilioRest, error: TwilioRefused, wish: NumberWish) -> NumberProblem:
    """A refusal to sell: with what is missing, as far as Twilio says it."""
    if error.code in _ADDRESS:
        return _missing(wish, [_address(_ADDRESS[error.code])], error.code)
    if error.code in _BUNDLE:
        return _missing(wish, await _wanted(rest, wish), error.code)
    return of(error)


async def of_address(
    rest: TwilioRest, wish: NumberWish, address_requirements: str
) -> NumberProblem:
    """Every candidate needs an address, and none was given."""
    words = _ADDRESS_WORDS.get(address_requirements, "an address").format(country=wish.country)
    items = [_address(words)]
    if wish.bundle_sid is None:
        # Where an address is wanted a bundle often is too: better both at once than one after the other.
        found = await _regulations(rest, wish)
        if found:
            items += _of_regulations(wish, found)
    return _missing(wish, items, None)


def _missing(wish: NumberWish, items: list[Missing], code: int | None) -> NumberProblem:
    fields = [item.field for item in items if item.field]
    return NumberProblem(
        "requirements_missing",
        f"{wish.type.replace('_', '-')} numbers of {wish.country} need {_and(fields)}: "
        + "; ".join(item.name for item in items),
        field=fields[0] if fields else None,
        missing=items,
        twilio_code=code,
    )


def _address(words: str) -> Missing:
    return Missing(
        "address_sid",
        f"Address: {words}",
        "The SID (AD…) of an address of the account; one is made with Twilio's Addresses resource.",
    )


async def _wanted(rest: TwilioRest, wish: NumberWish) -> list[Missing]:
    return _of_regulations(wish, await _regulations(rest, wish))


async def _regulations(rest: TwilioRest, wish: NumberWish) -> list[Regulation]:
    """Empty too when Twilio cannot be asked: that something is missing is known all the same."""
    try:
        return await regulatory.regulations(rest, country=wish.country, number_type=wish.type)
    except TwilioError:
        return []


def _of_regulations(wish: NumberWish, found: list[Regulation]) -> list[Missing]:
    given = "another one: this was not accepted" if wish.bundle_sid else "approved by Twilio"
    items = [
        Missing(
            "bundle_sid",
            f"Regulatory bundle for {wish.type.replace('_', '-')} numbers of {wish.country}",
            f"The SID (BU…) of a regulatory bundle, {given}.",
        )
    ]
    for regulation in found:
        of_whom = regulation.end_user_type or "applicant"
        items += [_requirement(of_whom, one) for one in (*regulation.end_user, *regulation.proofs)]
    return items


def _requirement(of_whom: str, wanted: Requirement) -> Missing:
    told = [field.label for field in wanted.fields]
    papers = [document.label for document in wanted.documents]
    parts = [wanted.description] if wanted.description else []
    if told:
        parts.append(f"Tell: {', '.join(told)}.")
    if papers:
        parts.append(f"Any of: {', '.join(papers)}.")
    return Missing(None, f"In the bundle of a {of_whom}: {wanted.label}", " ".join(parts))


def _and(fields: list[str]) -> str:
    return " and ".join(dict.fromkeys(fields)) or "more"
