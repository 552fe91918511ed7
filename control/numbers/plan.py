"""What a wish or a number has to look like, by the numbering plans of all countries. Pure.

Source: the metadata of libphonenumber (`phonenumbers`), ISO 3166-1, ITU-T E.164; Twilio docs,
"AvailablePhoneNumber resource" for what may be asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import phonenumbers
from phonenumbers import PhoneNumberType

from control.numbers.values import NumberProblem, NumberType, NumberWish
from control.telephone_number import check_number

NANP_WITH_AREA_CODES = frozenset({"US", "CA"})
"""Twilio takes `AreaCode` and searches near a number in these countries only."""
LABEL_MAX_CHARS = 30
_SPOKEN = {"UK": "GB", "EN": "GB", "EL": "GR"}
_FORMS = (
    ("contains", re.compile(r"[0-9A-Za-z*%+$]{2,16}"), "2 to 16 of digits, letters, `*` for any"),
    ("locality", re.compile(r"\S.{0,63}"), "1 to 64 characters"),
    ("region", re.compile(r"[A-Za-z]{2}"), "two letters, such as SC"),
    (
        "bundle_sid",
        re.compile(r"BU[0-9a-fA-F]{32}"),
        "not the SID of a regulatory bundle (BU and 32 hex digits)",
    ),
    (
        "address_sid",
        re.compile(r"AD[0-9a-fA-F]{32}"),
        "not the SID of an address (AD and 32 hex digits)",
    ),
)
_TYPES: dict[int, NumberType] = {
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.MOBILE: "mobile",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the numbering plans say about a number. `country` is None for what belongs to none."""

    e164: str
    country: str | None
    type: NumberType


def checked(wish: NumberWish, *, prefix: str = "") -> NumberWish:
    """The wish, spelled as Twilio wants it. Raises NumberProblem that names the field after `prefix`."""

    def wrong(field: str, why: str) -> NumberProblem:
        return NumberProblem("invalid", f"{prefix}{field}: {why}", field=f"{prefix}{field}")

    country = wish.country.upper()
    if country not in phonenumbers.SUPPORTED_REGIONS:
        meant = _SPOKEN.get(country)
        hint = f"; did you mean {meant}?" if meant else " (ISO 3166-1 alpha-2, such as US or DE)"
        raise wrong("country", f"there is no country {wish.country!r}{hint}")
    if wish.area_code is not None:
        why = _area_code_fault(wish.area_code, country, wish.type)
        if why:
            raise wrong("area_code", why)
    for field, fits, why in _FORMS:
        text = getattr(wish, field)
        if text is not None and not fits.fullmatch(text):
            raise wrong(field, why)
    if wish.region is not None and country not in NANP_WITH_AREA_CODES:
        raise wrong("region", "Twilio searches by region in the US and Canada only")
    if wish.e164 is not None:
        plan = parsed(wish.e164, field=f"{prefix}e164")
        # A toll-free number of North America belongs to all its countries.
        if plan.country not in (None, country) and plan.type != "toll_free":
            raise wrong("e164", f"a number of {plan.country}, but country is {country}")
    return replace(wish, country=country, region=wish.region.upper() if wish.region else None)


def parsed(text: str, *, field: str = "e164") -> Plan:
    """An E.164 number. Raises NumberProblem."""
    try:
        number = phonenumbers.parse(check_number(text), None)
    except ValueError as error:
        raise NumberProblem("invalid", f"{field}: {error}", field=field) from None
    # Without a country where the plan knows no such range; the first of those that share a code then.
    region = phonenumbers.region_code_for_number(number)
    if region in (None, phonenumbers.UNKNOWN_REGION):
        region = phonenumbers.region_code_for_country_code(number.country_code or 0)
    country = region if region in phonenumbers.SUPPORTED_REGIONS else None
    return Plan(text, country, _TYPES.get(phonenumbers.number_type(number), "local"))


def twilio_name(label: str | None, own_id: str) -> str:
    """A name at Twilio by which a thing is found again: printable ASCII, at most 64 characters."""
    words = " ".join(re.sub(r"[^A-Za-z0-9 .-]+", " ", label or "").split())
    return f"{words[:LABEL_MAX_CHARS].strip()} {own_id}".strip()


def area_code_of(e164: str) -> str | None:
    """The area code of a North American number."""
    match = re.fullmatch(r"\+1([2-9]\d\d)\d{7}", e164)
    return match[1] if match else None


def near_area_code(area_code: str) -> str:
    """A number in this area code: Twilio searches around numbers."""
    return f"+1{area_code}5550100"


def _area_code_fault(area_code: str, country: str, type: NumberType) -> str | None:
    if country not in NANP_WITH_AREA_CODES:
        return f"Twilio searches by area code in the US and Canada only; for {country} use `contains` or `locality`"
    if not re.fullmatch(r"[2-9]\d\d", area_code):
        return "three digits, the first of them 2 to 9"
    number = phonenumbers.parse(f"+1{area_code}2340000", None)
    is_toll_free = phonenumbers.number_type(number) == PhoneNumberType.TOLL_FREE
    if type == "toll_free":
        return None if is_toll_free else f"{area_code} is no toll-free code (800, 833, 844, 855, …)"
    if is_toll_free:
        return f"{area_code} is a toll-free code; give type toll_free"
    region = phonenumbers.region_code_for_number(number)
    if region is None:
        return f"{area_code} is not in use in the North American numbering plan"
    if region != country:
        return f"{area_code} belongs to {region}, not to {country}"
    return None
