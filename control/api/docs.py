"""`/docs`: one HTML page, rendered from the OpenAPI document. No script, no asset from anywhere."""

from __future__ import annotations

import json
import shlex
from typing import Any

from jinja2 import Environment, StrictUndefined

from control.api.docs_template import TEMPLATE
from control.api.problem import KINDS

METHODS = ("get", "post", "patch", "delete", "put")
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"


def render(document: dict[str, Any]) -> str:
    """The page for an OpenAPI document of ours."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE).render(
        info=document["info"],
        groups=_groups(document),
        schemas=[
            {"name": name, "about": schema.get("description", ""), "fields": _fields(schema)}
            for name, schema in sorted(document["components"]["schemas"].items())
        ],
        kinds=KINDS,
    )


def _groups(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Operations by tag, in the order of their paths."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in sorted(document["paths"].items()):
        for method in METHODS:
            if method in methods:
                shown = _operation(document, path, method, methods[method])
                groups.setdefault(shown["tag"], []).append(shown)
    return dict(sorted(groups.items()))


def _operation(
    document: dict[str, Any], path: str, method: str, described: dict[str, Any]
) -> dict[str, Any]:
    body = described.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = _resolve(document, body.get("schema", {}))
    return {
        "id": described["operationId"],
        "tag": described["tags"][0],
        "method": method.upper(),
        "path": path,
        "summary": described["summary"],
        "description": described["description"],
        "parameters": [_parameter(given) for given in described["parameters"]],
        "fields": _fields(schema),
        "curl": _curl(document, path, method, described, schema),
        "answers": [
            _answer(status, given) for status, given in sorted(described["responses"].items())
        ],
    }


def _parameter(given: dict[str, Any]) -> dict[str, str]:
    return {
        "name": given["name"],
        "where": given["in"],
        "type": _type(given["schema"]),
        "about": given.get("description", ""),
    }


def _answer(status: str, given: dict[str, Any]) -> dict[str, str]:
    kinds = given.get("content", {})
    media = next(iter(kinds), "")
    schema = kinds.get(media, {}).get("schema", {})
    return {
        "status": status,
        "media": media,
        "schema": _reference(schema),
        "about": given.get("description", ""),
    }


def _fields(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "type": _type(field),
            "is_required": name in required,
            "about": field.get("description", ""),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _type(schema: dict[str, Any]) -> str:
    """A few words for a schema."""
    if "$ref" in schema:
        return _reference(schema)
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " | ".join(dict.fromkeys(_type(one) for one in schema[several]))
    if isinstance(schema.get("type"), list):
        return " | ".join(schema["type"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type", "any"))


def _reference(schema: dict[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"].get(_reference(schema), schema)
    return found


def _curl(
    document: dict[str, Any],
    path: str,
    method: str,
    described: dict[str, Any],
    schema: dict[str, Any],
) -> str:
    """A command that can be copied into a shell."""
    # `$TANDEM_URL` and the key stay outside of single quotes, for the shell to fill in.
    for name, example in (
        ("{e164}", "%2B15550100456"),
        ("{agent_id}", "AGENT"),
        ("{call_id}", "CALL"),
    ):
        path = path.replace(name, example)
    words = ["curl -sS"]
    if method != "get":
        words.append(f"-X {method.upper()}")
    words.append(f'"$TANDEM_URL{path}"')
    if described.get("security") != [{}]:
        words.append('-H "Authorization: Bearer $TANDEM_KEY"')
    if any(given["name"].lower() == "idempotency-key" for given in described["parameters"]):
        words.append('-H "Idempotency-Key: $(uuidgen)"')
    for example in schema.get("examples", ())[:1]:
        words.append("-H 'Content-Type: application/json'")
        words.append("-d " + shlex.quote(json.dumps(example)))
    if "audio/wav" in described["responses"].get("200", {}).get("content", {}):
        words.append("-o call.wav")
    return " \\\n  ".join(words)
