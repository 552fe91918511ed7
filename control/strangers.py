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


def whole_text(text: str) -> str:
    """The text with U+FFFD for what is no character; surrogates that are a pair become theirs."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def whole_number(text: str) -> int | None:
    """The number that these decimal digits are; None for anything else, and for one that is too long."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX
    return int(text) if is_number else None
