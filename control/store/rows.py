"""Rows to records: a record's fields name the columns it is read from.

Columns that a record does not name are not read, so an older program can read a newer schema.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, Table, select

from control.store import cursor as cursors

R = TypeVar("R")


def columns(table: Table, record: type[Any]) -> list[Any]:
    """The table's columns that the record has fields for, in the record's order."""
    return [table.c[item.name] for item in dataclasses.fields(record)]


def values(record: Any) -> dict[str, Any]:
    """The record as column values (not `asdict`: that would copy the JSON inside)."""
    return {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}


def build(record: Callable[..., R], row: Row[Any]) -> R:
    """One record from a row of `columns(...)`."""
    return record(*row)


def query(table: Table, record: type[Any]) -> Select[Any]:
    """`SELECT` of the record's columns."""
    return select(*columns(table, record))


def page(
    conn: Connection, statement: Select[Any], record: type[R], key: str, limit: int
) -> tuple[list[R], str | None]:
    """Up to `limit` records and the cursor of the next page; `key` names the field it is ordered by."""
    rows: Sequence[Row[Any]] = conn.execute(statement.limit(limit + 1)).all()
    records = [build(record, row) for row in rows[:limit]]
    more = len(rows) > limit
    return records, cursors.encode(getattr(records[-1], key)) if more and records else None
