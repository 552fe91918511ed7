"""What an agent shall find out in a call: the schema of its `extractions`. Pure.

Either a list of `{name, type, description?, required?, enum?}` or an object of the same by name. Types are
those of ElevenLabs' data collection: string, integer, number, boolean.

Source: ElevenLabs API reference, "Create agent": `platform_settings.data_collection`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

TYPES = ("string", "integer", "number", "boolean")
FIELDS_MAX = 25
"""ElevenLabs' own limit of a workspace that has no contract."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
DESCRIPTION_MAX_CHARS = 2_000
ENUM_MAX = 100
_KEYS = frozenset(("name", "type", "description", "required", "enum"))


@dataclass(frozen=True, slots=True)
class Extraction:
    """One field. `enum` holds values of the field's own type; empty = any value."""

    name: str
    type: str
    description: str = ""
    required: bool = False
    enum: tuple[Any, ...] = ()


class ExtractionProblem(ValueError):
    """`field` is the place, such as `extractions.party_size.type`; the text says what is wrong there."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(words)
        self.field = field


def parse(given: Any, where: str = "extractions") -> tuple[Extraction, ...]:
    """The fields in their order; none for None. Raises ExtractionProblem for the first that is wrong."""
    if given is None:
        return ()
    if not isinstance(given, list | dict):
        raise ExtractionProblem(where, "expected a list of fields, or an object of fields by name")
    if len(given) > FIELDS_MAX:
        raise ExtractionProblem(where, f"{len(given)} fields; ElevenLabs takes {FIELDS_MAX}")
    pairs = given.items() if isinstance(given, dict) else _named(given, where)
    found: dict[str, Extraction] = {}
    for name, body in pairs:
        field = _field(name, body, f"{where}.{name}")
        if field.name in found:
            raise ExtractionProblem(f"{where}.{name}", "given twice")
        found[field.name] = field
    return tuple(found.values())


def data_collection(fields: tuple[Extraction, ...]) -> dict[str, dict[str, Any]]:
    """The fields as ElevenLabs takes them: `{name: {type, description, enum?}}`."""
    collected: dict[str, dict[str, Any]] = {}
    for field in fields:
        words = field.description or field.name.replace("_", " ").capitalize()
        one: dict[str, Any] = {"type": field.type, "description": words}
        if field.enum and field.type == "string":
            one["enum"] = list(field.enum)
        elif field.enum:
            # Their enum knows only texts.
            one["description"] += f" One of: {', '.join(map(str, field.enum))}."
        collected[field.name] = one
    return collected


def _named(items: list[Any], where: str) -> list[tuple[Any, Any]]:
    named = []
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise ExtractionProblem(f"{where}.{number}", "expected an object with name and type")
        if "name" not in item:
            raise ExtractionProblem(f"{where}.{number}.name", "required")
        named.append((item["name"], {k: v for k, v in item.items() if k != "name"}))
    return named


def _field(name: Any, body: Any, where: str) -> Extraction:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ExtractionProblem(
            where, "a name has letters, digits and _, begins with no digit, and is at most 64 long"
        )
    if isinstance(body, str):
        body = {"type": body}
    if not isinstance(body, dict):
        raise ExtractionProblem(where, "expected an object with a type")
    checked = cast("Mapping[str, Any]", body)
    for key in checked:
        if key not in _KEYS or (key == "name" and checked[key] != name):
            raise ExtractionProblem(f"{where}.{key}", "unknown field")
    kind = checked.get("type")
    if kind not in TYPES:
        problem = "required" if kind is None else f"unknown type {kind!r:.40}"
        raise ExtractionProblem(f"{where}.type", f"{problem}: one of {', '.join(TYPES)}")
    description = checked.get("description") or ""
    if not isinstance(description, str) or len(description) > DESCRIPTION_MAX_CHARS:
        raise ExtractionProblem(
            f"{where}.description", f"expected a text of at most {DESCRIPTION_MAX_CHARS} characters"
        )
    required = checked.get("required", False)
    if not isinstance(required, bool):
        raise ExtractionProblem(f"{where}.required", "expected true or false")
    return Extraction(name, kind, description, required, _enum(checked.get("enum"), kind, where))


def _enum(given: Any, kind: str, where: str) -> tuple[Any, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not 1 <= len(given) <= ENUM_MAX:
        raise ExtractionProblem(f"{where}.enum", f"expected a list of 1 to {ENUM_MAX} values")
    for value in given:
        if not fits(value, kind):
            raise ExtractionProblem(f"{where}.enum", f"{value!r:.40} is no {kind}")
    if len(set(given)) != len(given):
        raise ExtractionProblem(f"{where}.enum", "a value is given twice")
    return tuple(given)


def fits(value: Any, kind: str) -> bool:
    """Whether a value is of a field's type; a whole number is a number, too."""
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str)
