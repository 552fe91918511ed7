"""What comes from outside, brought into a shape that the store takes. Pure.

JSON may hold what is no text (a surrogate without its other half, as a transcript that was cut inside an emoji has),
integers that no database has room for, and nesting that no encoder follows; numbers in forms may be of any length.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

DEPTH_MAX = 200
"""Of objects and lists in one another; orjson writes 254."""
WITHHELD = {
    "+266696687": "anonymous",
    "+7378742833": "restricted",
    "+2562533": "blocked",
    "+8656696": "unknown",
    "+86282452253": "unavailable",
}
"""What Twilio calls somebody who withholds their number: the word, spelled on a telephone's keys."""
_WORDS = frozenset({*WITHHELD.values(), "private", ""})
DIGITS_MAX = 9
"""Of a number in a form: every duration and code is shorter, and a 32-bit column takes it."""


def read_json(body: bytes) -> Any:
    """The value, such that it can be written again. Raises ValueError, RecursionError for what is no JSON."""
    found = json.loads(body)
    try:
        orjson.dumps(found)
    except TypeError:
        return _storable(found, DEPTH_MAX)
    return found


def _storable(value: Any, depth_left: int) -> Any:
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, dict | list) and depth_left == 0:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        return {whole_text(key): _storable(item, depth_left - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item, depth_left - 1) for item in value]
    return value


def caller_of(text: str) -> str:
    """Who calls, as Twilio's `From` says: a number, a SIP address or client, or a word for a number that is withheld.

    Never a number that stands for many people: it would be written to, called back, and known by what others said.
    """
    return WITHHELD.get(text, text)


def is_somebody(caller: str) -> bool:
    """Whether it is one caller's own, rather than a word for all who withhold their number."""
    scheme, _, rest = caller.rpartition(":")
    user = rest.partition("@")[0] if scheme.lower() in ("sip", "sips") else caller
    return caller_of(user).lower() not in _WORDS


def whole_text(text: str) -> str:
    """The text with U+FFFD for what is no character; surrogates that are a pair become theirs."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def whole_number(text: str) -> int | None:
    """The number that these decimal digits are; None for anything else, and for one that is too long."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX
    return int(text) if is_number else None
