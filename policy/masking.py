"""Telephone numbers as records and logs may show them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

E164 = re.compile(r"(?:\+|%2[Bb])([1-9][0-9]{6,})")
"""An E.164 number inside a text, its plus sign possibly URL-encoded. ITU-T E.164 allows 15 digits; a longer
run of digits is masked too, rather than shown because it is malformed."""

_MOMENT = (
    r"(?<!\d)(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?)?(?![\W_]*\d)"
)
_FOREIGN = re.compile(rf"({_MOMENT})|(?:\+|%2[Bb])?\d(?:[\W_]{{0,3}}\d){{6,}}")
"""Seven digits or more, whatever stands between them; but not a date or an instant (ISO 8601)."""
_WRITTEN = re.compile(
    r"(?:\+|%2[Bb])[1-9](?:[ ().-]{0,2}\d){6,}"  # +1 (212) 555-0100
    r"|(?<![\w.:/-])(?:1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-]|\.\d)"  # 212-555-0100
    r"|(?<![\w.:/-])(?:00)?\d{10,15}(?![\w-]|\.\d)"  # 12125550100
)
"""What people and programs write a number as. Not the long digits of an id, a version or an address."""
_OWN_DIGITS = 7
"""So many of a number's last digits in a row are the number."""

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


def mask_written(text: str) -> str:
    """The text with every number masked that is written in one of the usual ways, also without a plus sign.

    For log lines: what third parties say. Long digits within a word or an address stay, they are ids.
    """
    return _WRITTEN.sub(lambda match: _mask_run(match[0]), text)


def mask_foreign(text: str) -> str:
    """The text with everything masked that may be a number: seven digits, whatever is between; dates stay."""
    return _FOREIGN.sub(lambda match: match[1] or _mask_run(match[0]), text)


def own_digits(numbers: Iterable[str]) -> frozenset[str]:
    """The end of each number, without which it cannot be called; numbers shorter than that are left out."""
    found = (digits_of(number) for number in numbers)
    return frozenset(one[-_OWN_DIGITS:] for one in found if len(one) >= _OWN_DIGITS)


def _mask_run(run: str) -> str:
    """A number however it is written; without its country code only the end is shown."""
    digits = digits_of(run.removeprefix("%2B").removeprefix("%2b"))
    if run.startswith(("+", "%2")) and len(digits) > _HEAD_DIGITS + _TAIL_DIGITS + 2:
        return mask_number("+" + digits)
    return "•" * (len(digits) - _TAIL_DIGITS) + digits[-_TAIL_DIGITS:]


def digits_of(text: str) -> str:
    """The digits of a text, of any script, as those of ASCII."""
    return "".join(str(int(one)) for one in text if one.isdecimal())
