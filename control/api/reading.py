"""Bodies and query strings into models, or a problem that names every wrong field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from quart import request

from control.api.problem import Problem, invalid
from control.telephone_number import ASKED, E164_PATTERN, NOT_E164

BODY_MAX_BYTES = 64 * 1024
ERRORS_MAX = 20
"""Wrong fields that one answer names."""

E164 = Annotated[
    str,
    Field(pattern=E164_PATTERN, description="A telephone number in E.164: + and 7 to 15 digits."),
]
"""In lists, filters and paths. Of somebody who is to be dialled: `control.telephone_number.TelephoneNumber`."""


class Body(BaseModel):
    """Base of request bodies: nothing is coerced, nothing unknown is accepted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """Base of query strings: text is converted, nothing unknown is accepted."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)


async def read_body(model: type[B]) -> B:
    """The request's JSON body. Raises Problem (400, 413, 422)."""
    raw = await request.get_data(cache=True)
    assert isinstance(raw, bytes)
    if not raw.strip() and not any(field.is_required() for field in model.model_fields.values()):
        raw = b"{}"
    try:
        # orjson first: it is strict about what JSON is (no NaN, UTF-8 only), the model is not.
        orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Problem(
            "malformed-json",
            f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}",
            errors=[("body", "not a JSON document")],
        ) from error
    try:
        given = model.model_validate_json(raw, context=ASKED)
    except ValidationError as error:
        raise _problem(error) from error
    _check_storable(raw)
    return given


_SUSPECT = re.compile(rb"\\u0000|[0-9]{19}")
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def _check_storable(raw: bytes) -> None:
    """JSON has more than a database does: NUL characters, integers of any length. Raises Problem (422)."""
    if not _SUSPECT.search(raw):
        return
    errors = list(_unstorable(json.loads(raw, parse_int=_whole), ()))[:ERRORS_MAX]
    if errors:
        detail = "; ".join(f"{field}: {why}" for field, why in errors)
        raise Problem("invalid", detail, errors=errors)


def _whole(digits: str) -> int:
    return int(digits) if len(digits) <= 20 else _INT_MAX + 1


def _unstorable(value: Any, place: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    field = ".".join(place) or "body"
    if isinstance(value, str) and "\0" in value:
        yield field, _NO_NUL
    elif isinstance(value, int) and not _INT_MIN <= value <= _INT_MAX:
        yield field, "an integer of more than 64 bits"
    elif isinstance(value, dict):
        for name, one in value.items():
            if "\0" in name:
                yield field, f"a name: {_NO_NUL}"
            else:
                yield from _unstorable(one, (*place, name))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _unstorable(one, (*place, str(number)))


_NO_NUL = "a NUL character is no part of a text"


async def refuse_nul() -> None:
    """Before every request: a path that no resource can have. Raises Problem (404)."""
    if "\0" in request.path:
        raise Problem("not-found", "nothing has a NUL character in its path")


def read_query(model: type[Q]) -> Q:
    """The query string. Raises Problem (422)."""
    values: dict[str, str] = {}
    for name, given in request.args.lists():
        if len(given) > 1:
            raise invalid(name, "given more than once")
        if "\0" in given[0]:
            raise invalid(name, _NO_NUL)
        values[name] = _plus(given[0])
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _problem(error) from error


def check_e164(number: str, field: str) -> str:
    """A number out of a path. Raises Problem (422)."""
    if not re.fullmatch(E164_PATTERN[1:-1], number):
        raise invalid(field, NOT_E164)
    return number


def _plus(value: str) -> str:
    """An unescaped `+` in a query string arrives as a space; numbers and zone offsets need it back."""
    if re.fullmatch(r" [0-9]+", value):
        return "+" + value[1:]
    return re.sub(r"(T.*) (\d\d:\d\d)$", r"\1+\2", value)


def _problem(error: ValidationError) -> Problem:
    found = error.errors(include_url=False, include_input=False)[:ERRORS_MAX]
    errors = []
    for one in found:
        field = ".".join(str(part) for part in one["loc"] if part != "[key]") or "body"
        errors.append((field, _words(one["type"], one["msg"], dict(one.get("ctx", {})))))
    detail = "; ".join(f"{field}: {words}" for field, words in errors)
    return Problem("invalid", detail, errors=errors)


def _words(kind: str, message: str, context: dict[str, object]) -> str:
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "missing":
        return "required"
    if kind == "string_pattern_mismatch" and context.get("pattern") == E164_PATTERN:
        return NOT_E164
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", message))
    return message[:1].lower() + message[1:]
