"""Answers: models to JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, Field
from quart import Response

from control.api.reading import Query
from control.store.cursor import CURSOR_MAX_CHARS

PAGE_DEFAULT = 50
PAGE_MAX = 200


class Answer(BaseModel):
    """Base of everything that is answered."""


class PageQuery(Query):
    """What every list takes."""

    limit: int = Field(PAGE_DEFAULT, ge=1, le=PAGE_MAX, description="Items on a page.")
    cursor: str | None = Field(
        None,
        max_length=CURSOR_MAX_CHARS,
        description="`next_cursor` of the page before. Opaque; good for this list with the same filters "
        "and the same tenant, else 422. `limit` may differ.",
    )


def answer(model: Answer, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """One object."""
    return Response(
        model.model_dump_json(by_alias=True),
        status=status,
        headers=dict(headers or {}),
        content_type="application/json",
    )


def page(items: Sequence[Answer], next_cursor: str | None = None) -> Response:
    """A list: `{"items": [...], "next_cursor": null | "..."}`."""
    # Joined, not built into one model: a page of calls need not be validated a second time.
    texts = ",".join(item.model_dump_json(by_alias=True) for item in items)
    cursor = "null" if next_cursor is None else f'"{next_cursor}"'
    return Response(
        f'{{"items":[{texts}],"next_cursor":{cursor}}}', content_type="application/json"
    )


def plain_page(items: Sequence[Mapping[str, Any]], next_cursor: str | None) -> Response:
    """The same of plain values; times are aware, in UTC."""
    text = orjson.dumps({"items": items, "next_cursor": next_cursor}, option=orjson.OPT_UTC_Z)
    return Response(text, content_type="application/json")
