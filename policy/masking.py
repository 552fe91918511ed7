"""Telephone numbers as records and logs may show them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

E164 = re.compile(r"(?:\+|%2[Bb])([1-9][0-9]{6,})")
"""An E.164 number inside a text, its plus sign possibly URL-encoded. ITU-T E.164 allows 15 digits; a longer
run of digits is masked too, rather than shown because it is malformed."""

_HEAD_DIGITS = 4
_TAIL_DIGITS = 2


def mask_number(number: str) -> str:
    """`+14155550100` as `+1415•••••00`: enough to tell country and area, not enough to call.

    Anything too short to hide something keeps its last two characters alone.
    """
    plus = "+" if number.startswith("+") else ""
    digits = number[len(plus) :]
    if len(digits) < _HEAD_DIGITS + _TAIL_DIGITS + 1:
        return plus + "•" * max(len(digits) - _TAIL_DIGITS, 0) + digits[-_TAIL_DIGITS:]
    hidden = len(digits) - _HEAD_DIGITS - _TAIL_DIGITS
    return plus + digits[:_HEAD_DIGITS] + "•" * hidden + digits[-_TAIL_DIGITS:]


def mask_numbers(text: str) -> str:
    """The text with every E.164 number in it masked."""
    return replace_numbers(text, mask_number)


def replace_numbers(text: str, instead: Callable[[str], str]) -> str:
    """The text with `instead(number)` for every E.164 number in it."""
    if "+" not in text and "%2" not in text:
        return text
    return E164.sub(lambda match: instead("+" + match.group(1)), text)
