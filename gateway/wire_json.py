"""Reading a provider's JSON: typed access to fields, and samples that may be logged.

For the two wire codecs only. Types are read tolerantly (a counter may be a number or a string of digits),
structure strictly (what must be an object is one). Pure.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

COUNT_MAX = 10**18 - 1
"""Largest counter, id or timestamp that is believed; 18 digits, so that any text form stays cheap to read."""

SAMPLE_MAX_CHARS = 120
_SAMPLE_SOURCE_BYTES = 400

_COUNT = re.compile(r"-?[0-9]{1,18}", re.ASCII).fullmatch
_STRING_OR_LONG_WORD = re.compile(
    r'"((?:[^"\\]|\\.)*)(?:"(\s*:)?|\\?$)|[^\s"{}\[\]:,]{13,}', re.DOTALL
)
_KEY = re.compile(r"[A-Za-z_]{1,40}").fullmatch
_DIGIT = re.compile(r"\d")


class FieldError(ValueError):
    """A message is not what the provider documents. The text names the field and holds no value."""


def load_object(message: bytes) -> dict[str, Any]:
    """The JSON object in a message. Raises FieldError for anything else."""
    try:
        body = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise FieldError(f"not JSON ({error})") from None
    if not isinstance(body, dict):
        raise FieldError("not a JSON object")
    return body


def object_in(body: dict[str, Any], key: str) -> dict[str, Any]:
    """`body[key]`, an object that must be there."""
    value = body.get(key)
    if not isinstance(value, dict):
        raise FieldError(_complaint(body, key, "an object"))
    return value


def optional_object_in(body: dict[str, Any], key: str) -> dict[str, Any]:
    """`body[key]`; empty when absent or null."""
    return {} if body.get(key) is None else object_in(body, key)


def text_in(body: dict[str, Any], key: str) -> str:
    """`body[key]`, a string that must be there."""
    value = body.get(key)
    if not isinstance(value, str):
        raise FieldError(_complaint(body, key, "a string"))
    return value


def optional_text_in(body: dict[str, Any], key: str) -> str | None:
    """`body[key]`; None when absent or null."""
    return None if body.get(key) is None else text_in(body, key)


def flag_in(body: dict[str, Any], key: str, default: bool) -> bool:
    """`body[key]`, true or false; `default` when absent or null."""
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise FieldError(_complaint(body, key, "true or false"))
    return value


def number_in(body: dict[str, Any], key: str) -> float:
    """`body[key]`, a number that must be there."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError(_complaint(body, key, "a number"))
    return float(value)


def count_in(body: dict[str, Any], key: str) -> int:
    """`body[key]`, an integer that must be there: a JSON number or a string of decimal digits."""
    value = as_count(body.get(key))
    if value is None:
        raise FieldError(_complaint(body, key, "an integer of at most 18 digits"))
    return value


def optional_count_in(body: dict[str, Any], key: str) -> int | None:
    """`body[key]`; None when absent or null."""
    return None if body.get(key) is None else count_in(body, key)


def as_count(value: object) -> int | None:
    """The integer a provider meant by a JSON value (7, 7.0, "7"); None when it is none of up to 18 digits."""
    if isinstance(value, str):
        return int(value) if _COUNT(value) else None
    if (
        isinstance(value, float) and value.is_integer()
    ):  # orjson also reads ints over 64 bits as floats
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -COUNT_MAX <= value <= COUNT_MAX else None


def redacted(message: bytes) -> str:
    """What a message looked like, fit for a log: its keys, but no values, digits or long words.

    One line: the size, then at most SAMPLE_MAX_CHARS characters. Never raises.
    """
    text = message[:_SAMPLE_SOURCE_BYTES].decode("utf-8", "replace")
    text = _STRING_OR_LONG_WORD.sub(_redact, text)
    text = "".join(char if char.isprintable() else "?" for char in _DIGIT.sub("#", text))
    short = text if len(text) <= SAMPLE_MAX_CHARS else text[: SAMPLE_MAX_CHARS - 1] + "…"
    return f"{len(message)} bytes: {short}"


def _redact(match: re.Match[str]) -> str:
    string, colon = match.groups()
    if string is None:
        return "…"
    return f'"{string}":' if colon and _KEY(string) else '"…"' + (colon or "")


def _complaint(body: dict[str, Any], key: str, wanted: str) -> str:
    return f"`{key}` is not {wanted}" if key in body else f"`{key}` is missing"
