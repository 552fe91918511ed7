"""What an agent found out in a call, against what it was to find out. Pure.

A language model filled the fields in, so what is plainly meant is taken: `"3"` for an integer, `"yes"` for a
boolean, `Blue` for the enum's `blue`, 94110 for a text. Whatever else does not fit is no value, and is kept
raw among the problems. A field that no schema names is passed on as it came.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control.extractions import Extraction

TRUE = frozenset(("true", "yes", "y", "1"))
FALSE = frozenset(("false", "no", "n", "0"))
RAW_MAX_CHARS = 2_000
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(\.0+)?")
_NUMBER = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{1,18})?|\.[0-9]{1,18})([eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Extracted:
    """`values` has every declared field, None where nothing (fitting) was found; `problems` is
    `{field: {"error": words, "raw": value}}`, without `raw` where nothing came."""

    values: dict[str, Any]
    problems: dict[str, dict[str, Any]]


class _Unfit(ValueError):
    pass


def extract(fields: Sequence[Extraction], collected: Mapping[str, Any]) -> Extracted:
    """Check and convert `{name: raw value}` by the declared fields."""
    values: dict[str, Any] = {}
    problems: dict[str, dict[str, Any]] = {}
    for field in fields:
        raw = collected.get(field.name)
        values[field.name] = None
        if _is_nothing(raw):
            if field.required:
                problems[field.name] = {"error": "required, and not found in the call"}
            continue
        try:
            values[field.name] = _of_enum(field, _converted(field.type, raw))
        except _Unfit as unfit:
            problems[field.name] = {"error": str(unfit), "raw": _kept(raw)}
    declared = {field.name for field in fields}
    values |= {name: raw for name, raw in collected.items() if name not in declared}
    return Extracted(values, problems)


def _is_nothing(raw: Any) -> bool:
    return raw is None or (isinstance(raw, str) and not raw.strip())


def _kept(raw: Any) -> Any:
    return raw[:RAW_MAX_CHARS] if isinstance(raw, str) else raw


def _converted(kind: str, raw: Any) -> Any:
    text = raw.strip() if isinstance(raw, str) else None
    value = _CONVERT[kind](raw, text)
    if value is None:
        raise _Unfit(f"expected {_article(kind)}, got {_kind_of(raw)}")
    return value


def _string(raw: Any, text: str | None) -> str | None:
    return str(raw) if text is None and _is_number(raw) else text


def _integer(raw: Any, text: str | None) -> int | None:
    if text is not None:
        return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else None
    if not _is_number(raw):
        return None
    return int(raw) if (isinstance(raw, int) or raw.is_integer()) else None


def _number(raw: Any, text: str | None) -> float | None:
    if text is not None:
        return float(text) if _NUMBER.fullmatch(text) else None
    return raw if _is_number(raw) else None


def _boolean(raw: Any, text: str | None) -> bool | None:
    word = (str(raw) if text is None else text).lower()
    return True if word in TRUE else False if word in FALSE else None


def _is_number(raw: Any) -> bool:
    """JSON of Python's may hold NaN and Infinity."""
    return (
        isinstance(raw, int | float)
        and not isinstance(raw, bool)
        and (isinstance(raw, int) or math.isfinite(raw))
    )


_CONVERT: dict[str, Callable[[Any, str | None], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
}


def _of_enum(field: Extraction, value: Any) -> Any:
    if not field.enum or value in field.enum:
        return value
    if isinstance(value, str):
        for known in field.enum:
            if str(known).casefold() == value.casefold():
                return known
    raise _Unfit(f"not one of {', '.join(map(str, field.enum))}")


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _kind_of(raw: Any) -> str:
    if isinstance(raw, str):
        return "another text"
    if isinstance(raw, bool):
        return "true or false"
    if isinstance(raw, int | float):
        return "a number"
    return "an object" if isinstance(raw, dict) else "a list"
