"""Requests and answers against the providers' own OpenAPI documents, when they are at hand.

`TANDEM_SPECS` names a folder that holds `twilio/twilio_*.json`, as Twilio publishes them (twilio-oai), and
`elevenlabs/rest_openapi_*.json`, the document of ElevenLabs' REST API.
They are not ours to ship: without the folder the tests that need them are skipped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

VARIABLE = "TANDEM_SPECS"
EXAMPLES_DIFFER = frozenset({"latitude", "longitude"})
"""Where the document's own examples are not what its schema says (texts, not numbers)."""


NEWER_QUERY = {
    "GET /v1/convai/tools": frozenset({"page_size", "cursor", "types"}),
    "GET /v1/convai/conversations": frozenset({"dynamic_variable_params"}),
}
"""Of ElevenLabs' current API reference ("List tools", "List conversations"), and not in the document of August 2025."""


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    name: str
    document: dict[str, Any]
    content: dict[str, Any]


def are_at_hand() -> bool:
    """Whether there is a folder with both."""
    folder = Path(os.environ.get(VARIABLE) or "-")
    return (folder / "twilio").is_dir() and (folder / "elevenlabs").is_dir()


def twilio_specs() -> Path:
    """The folder; skips the test when there is none."""
    folder = os.environ.get(VARIABLE)
    if not folder or not (Path(folder) / "twilio").is_dir():
        pytest.skip(f"{VARIABLE} does not name a folder with the providers' OpenAPI documents")
    return Path(folder) / "twilio"


def faults_of(method: str, target: str, body: bytes, status: int, answer: bytes) -> list[str]:
    """What is wrong with one exchange, by Twilio's document; an unknown path is a fault too."""
    twilio_specs()
    path = unquote(urlsplit(target).path)
    found = _operation(method, path)
    if found is None:
        return [f"{method} {path}: no such operation"]
    pairs = parse_qsl(urlsplit(target).query, keep_blank_values=True)
    told = [f"{found.name}: {fault}" for fault in _query_faults(found, pairs)]
    form = parse_qsl(body.decode(), keep_blank_values=True)
    told += [f"{found.name}: {fault}" for fault in _form_faults(found, form)]
    if status < 400 and answer:
        told += [
            f"{found.name}: answer: {fault}" for fault in _answer_faults(found, status, answer)
        ]
    return told


def elevenlabs_faults(method: str, path: str, query: Iterable[str]) -> list[str]:
    """What is wrong with a request by ElevenLabs' document: its path, its method, the names in its query."""
    for template, pattern, document, operations in _elevenlabs_paths():
        if pattern.fullmatch(path) and method.lower() in operations:
            found = Operation(f"{method} {template}", document, operations[method.lower()])
            known = {one["name"] for one in found.content.get("parameters", ())}
            known |= NEWER_QUERY.get(found.name, frozenset())
            return [f"{found.name}: no query parameter {one}" for one in query if one not in known]
    return [f"{method} {path}: no such operation"]


def _query_faults(operation: Operation, pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    known = {
        one["name"]: one for one in operation.content.get("parameters", ()) if one["in"] == "query"
    }
    given = dict(pairs)
    for name, value in given.items():
        if name not in known:
            yield f"no query parameter {name}"
        else:
            yield from _value_faults(operation, name, value, known[name]["schema"])
    for name, one in known.items():
        if one.get("required") and name not in given:
            yield f"query parameter {name} is missing"


def _form_faults(operation: Operation, pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    content = operation.content.get("requestBody", {}).get("content", {})
    schema = content.get("application/x-www-form-urlencoded", {}).get("schema", {})
    schema = _resolved(operation, schema)
    known = schema.get("properties", {})
    pairs = list(pairs)
    for name, value in pairs:
        if name not in known:
            yield f"no form field {name}"
        else:
            yield from _value_faults(operation, name, value, known[name])
    for name in schema.get("required", ()):
        if name not in dict(pairs):
            yield f"form field {name} is missing"


def _value_faults(
    operation: Operation, name: str, value: str, schema: dict[str, Any]
) -> Iterator[str]:
    schema = _resolved(operation, schema)
    if schema.get("type") == "array":
        schema = _resolved(operation, schema["items"])
    if not value:
        return  # an empty text clears
    if "enum" in schema and value not in schema["enum"]:
        yield f"{name}={value!r} is none of {schema['enum']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{name}={value!r} does not match {schema['pattern']}"
    forms = {"integer": r"-?\d+", "boolean": "true|false", "number": r"-?\d+(\.\d+)?"}
    form = forms.get(schema.get("type", ""))
    if form and not re.fullmatch(form, value):
        yield f"{name}={value!r} is no {schema['type']}"


def _answer_faults(operation: Operation, status: int, answer: bytes) -> Iterator[str]:
    from openapi_schema_validator import OAS30Validator

    answers = operation.content["responses"]
    if str(status) not in answers:
        yield f"{status} is not documented"
        return
    content = answers[str(status)].get("content", {}).get("application/json")
    if content is None:
        return
    schema = dict(content["schema"]) | {"components": operation.document["components"]}
    for error in OAS30Validator(schema).iter_errors(json.loads(answer)):
        if error.absolute_path and error.absolute_path[-1] in EXAMPLES_DIFFER:
            continue
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"


def _resolved(operation: Operation, schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if not reference:
        return schema
    found: Any = operation.document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _operation(method: str, path: str) -> Operation | None:
    for template, pattern, document, operations in _paths():
        if pattern.fullmatch(path) and method.lower() in operations:
            return Operation(f"{method} {template}", document, operations[method.lower()])
    return None


Paths = list[tuple[str, re.Pattern[str], dict[str, Any], dict[str, Any]]]


@cache
def _paths() -> Paths:
    return _read(twilio_specs().glob("twilio_*.json"))


@cache
def _elevenlabs_paths() -> Paths:
    return _read((twilio_specs().parent / "elevenlabs").glob("rest_openapi_*.json"))


def _read(files: Iterable[Path]) -> Paths:
    found = []
    for file in sorted(files):
        document = json.loads(file.read_text(encoding="utf-8"))
        for template, operations in document["paths"].items():
            parts = re.split(r"(\{[^}]+\})", template)
            pattern = "".join(
                "[^/]+?" if part.startswith("{") else re.escape(part) for part in parts
            )
            found.append((template, re.compile(pattern), document, operations))
    # Fixed segments before variable ones: `…/IncomingPhoneNumbers/Local.json` is no SID.
    found.sort(key=lambda one: one[0].count("{"))
    return found
