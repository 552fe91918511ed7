"""What may be dialled, by the numbering plans of all countries. Pure.

A country code that nobody has, a number of digits that no number of its country has, a national 0 behind the country
code: each can only be a mistake, and the last one would pass by an opt-out of the same person. Whether a number is in
use is not asked here: plans change faster than the metadata, and 555-01xx is for tests.

Source: ITU-T E.164; the metadata of libphonenumber (`phonenumbers`): "possible", not "valid".
"""

from __future__ import annotations

import re
from typing import Annotated

import phonenumbers
from phonenumbers import PhoneNumberFormat, ValidationResult
from pydantic import AfterValidator, Field, ValidationInfo

E164_PATTERN = r"^\+[1-9][0-9]{6,14}$"
NOT_E164 = "not a telephone number in E.164 (+ and 7 to 15 digits)"
ASKED = {"is_asked": True}
"""Context of a validation by which numbers are checked that somebody gives now; what was stored stays readable."""


def check_number(text: str) -> str:
    """The number as it is. Raises ValueError that says why it cannot be dialled."""
    if not re.fullmatch(E164_PATTERN[1:-1], text):
        raise ValueError(NOT_E164)
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        raise ValueError("no country has this code: not a telephone number") from None
    if phonenumbers.format_number(number, PhoneNumberFormat.E164) != text:
        raise ValueError(
            "not as E.164 writes it: no 0 of its country stands behind the country code"
        )
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        raise ValueError("no number of its country has this many digits")
    return text


def can_be_dialled(text: str) -> bool:
    """Whether `check_number` has nothing against it."""
    try:
        check_number(text)
    except ValueError:
        return False
    return True


def _if_asked(text: str, info: ValidationInfo) -> str:
    return check_number(text) if info.context == ASKED else text


TelephoneNumber = Annotated[
    str,
    Field(
        pattern=E164_PATTERN,
        description="A telephone number in E.164: + and 7 to 15 digits, as many as its country has.",
    ),
    AfterValidator(_if_asked),
]
"""Of somebody who is to be dialled, in requests and in what is kept of them."""
