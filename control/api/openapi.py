"""The OpenAPI document, read off the handlers' models, and the decorator that a handler is described by.

quart-schema walks the routes and the pydantic models; what it cannot know (which problems a route may
answer, that a recording is no JSON) is added here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter
from quart import Quart
from quart_schema import (
    DataSource,
    OpenAPIProvider,
    QuartSchema,
    document_headers,
    document_querystring,
    document_request,
    document_response,
    operation_id,
    security_scheme,
    tag,
)
from werkzeug.routing.rules import Rule

from control.api.answers import Answer
from control.api.problem import CONTENT_TYPE, KINDS
from control.api.reading import Body, Query
from control.api.scopes import ABOUT, SCOPE

REFERENCE = "#/components/schemas/{model}"
SECURITY = "apiKey"
_PROBLEMS = "_tandem_problems"

H = TypeVar("H", bound=Callable[..., Any])


class FieldError(BaseModel):
    """One wrong field."""

    field: str = Field(description="Its name; a dotted path when it is nested.")
    detail: str


class ProblemBody(BaseModel):
    """An error (RFC 9457, application/problem+json)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldError] | None = None


class NoContent(BaseModel):
    """Done; there is no body."""


class WavFile(BaseModel):
    """A stereo WAV file."""


class PlainText(BaseModel):
    """Prometheus text exposition, version 0.0.4."""


class CsvFile(BaseModel):
    """A CSV file with a header."""


class HtmlPage(BaseModel):
    """An HTML page."""


class JsonDocument(BaseModel):
    """A JSON document."""


class KeyHeader(BaseModel):
    """The header of creating requests."""

    idempotency_key: str | None = Field(
        None,
        description="1 to 255 printable characters, chosen by you, one for each thing to be made. A repeat "
        "within 24 hours gets the first answer and makes nothing.",
    )


_NOT_JSON: dict[type[BaseModel], str] = {
    WavFile: "audio/wav",
    PlainText: "text/plain",
    HtmlPage: "text/html",
    CsvFile: "text/csv",
}


def operation(
    *,
    name: str,
    about: str,
    answers: dict[int, type[BaseModel]],
    body: type[Body] | None = None,
    query: type[Query] | None = None,
    problems: Iterable[str] = (),
    creates: bool = False,
    is_open: bool = False,
    scope: str | None = None,
) -> Callable[[H], H]:
    """Describe a handler: its id, its tag, its models, and the kinds of problem it may answer.

    `scope` is what a tenant's key needs for it; without it, `control.api.scopes` tells by tag and method.
    """
    kinds = set(problems)
    if not is_open:
        kinds |= {"unauthorized", "forbidden", "too-many-requests", "unavailable", "internal"}
    if body is not None:
        kinds |= {"malformed-json", "invalid", "too-large"}
    if query is not None:
        kinds |= {"invalid"}
    if creates:
        kinds |= {"in-flight", "key-reused", "outcome-unknown"}

    def describe(handler: H) -> H:
        setattr(handler, _PROBLEMS, frozenset(kinds))
        setattr(handler, SCOPE, scope)
        setattr(handler, ABOUT, about)
        operation_id(name)(handler)
        tag([about])(handler)
        # An empty requirement says "no key", against the document's default.
        if is_open:
            security_scheme([{}])(handler)
        if body is not None:
            document_request(body)(handler)
        if query is not None:
            document_querystring(query)(handler)
        if creates:
            document_headers(KeyHeader)(handler)
        for status, model in answers.items():
            document_response(model, status)(handler)
        return handler

    return describe


class Provider(OpenAPIProvider):
    """quart-schema's reading of the routes, with named models and problem answers."""

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        paths, components = super().build_paths(rule)
        kinds: frozenset[str] = getattr(
            self._app.view_functions[rule.endpoint], _PROBLEMS, frozenset()
        )
        for methods in paths.values():
            for described in methods.values():
                described["description"] = described.get("description", "").strip()
                described["responses"] = {
                    str(status): given for status, given in described["responses"].items()
                } | _problem_answers(kinds)
        components["Problem"] = _schema(ProblemBody)[0] | {"title": "Problem"}
        components["FieldError"] = _schema(FieldError)[0]
        return paths, components

    def operation_id(self, method: str, path: str, func: Callable[..., Any]) -> str | None:
        return getattr(func, "_quart_schema_operation_id", None)

    def build_request_body(
        self, model: Any, source: DataSource
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        schema, components = _schema(model, mode="validation")
        components[model.__name__] = schema
        reference = {"$ref": REFERENCE.format(model=model.__name__)}
        required = bool(schema.get("required"))
        return {"required": required, "content": {"application/json": {"schema": reference}}}, (
            components
        )

    def build_response_object(
        self, model: Any, headers_model: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        answered: dict[str, Any] = {"description": inspect.getdoc(model) or ""}
        if model is NoContent:
            return answered, {}
        if model in _NOT_JSON:
            schema = {"type": "string"} | ({"format": "binary"} if model is WavFile else {})
            return answered | {"content": {_NOT_JSON[model]: {"schema": schema}}}, {}
        schema, components = _schema(model)
        name = model.__name__
        components[name] = schema
        reference = {"$ref": REFERENCE.format(model=name)}
        return answered | {"content": {"application/json": {"schema": reference}}}, components


def document(app: Quart, *, version: str, server: str) -> QuartSchema:
    """Attach quart-schema to the application, without the pages it would load from elsewhere."""
    return QuartSchema(
        app,
        openapi_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        swagger_ui_path=None,
        info={
            "title": "Tandem control API",
            "version": version,
            "description": "Drives the media gateway: agents on telephone numbers, calls, policy. "
            "Lists answer `{items, next_cursor}`; times are RFC 3339 in UTC; numbers are E.164.",
        },
        servers=[{"url": server}],
        security_schemes={SECURITY: {"type": "http", "scheme": "bearer"}},
        security=[{SECURITY: []}],
        openapi_provider_class=Provider,
        conversion_preference="pydantic",
    )


def listing(item: type[Answer]) -> type[BaseModel]:
    """The model of a list of `item`, for the document."""
    return type(
        f"{item.__name__}List",
        (BaseModel,),
        {
            "__annotations__": {"items": list[item], "next_cursor": str | None},  # type: ignore[valid-type]
            "__module__": __name__,
            "__doc__": f"A page; `next_cursor` is null on the last. Items: {item.__name__}.",
        },
    )


def _schema(
    model: type[BaseModel], mode: Any = "serialization"
) -> tuple[dict[str, Any], dict[str, Any]]:
    schema = TypeAdapter(model).json_schema(ref_template=REFERENCE, mode=mode)
    return schema, schema.pop("$defs", {})


def _problem_answers(kinds: Iterable[str]) -> dict[str, Any]:
    """One answer for each status, its description naming the kinds that it may be."""
    answers: dict[str, Any] = {}
    for name in sorted(kinds, key=lambda kind: (KINDS[kind].status, kind)):
        kind = KINDS[name]
        answered = answers.setdefault(
            str(kind.status),
            {
                "description": "",
                "content": {CONTENT_TYPE: {"schema": {"$ref": REFERENCE.format(model="Problem")}}},
            },
        )
        sentence = f"{kind.title} (`{name}`): {kind.meaning}"
        answered["description"] = f"{answered['description']} {sentence}".strip()
    return answers
