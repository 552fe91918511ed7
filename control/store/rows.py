"""Rows to records: a record's fields name the columns it is read from.

Columns that a record does not name are not read, so an older program can read a newer schema.

To build a statement of forty columns and the key under which SQLAlchemy has it compiled takes four times as long
as to run it (217 µs against 53 µs): what every call asks is built once, with `bindparam`s for its values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Row, Select, Table, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import MultipleResultsFound

from control.store import cursor as cursors
from control.store.prepared import Prepared, PreparedWrite, insert_into

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


def find(conn: Connection, table: Table, record: type[R], **equal: Any) -> R | None:
    """The one record whose columns are equal to these values (none of them None)."""
    found = _by(table, record, *equal).all(conn, equal)  # type: ignore[arg-type]  # a class can be hashed
    if len(found) > 1:
        raise MultipleResultsFound(f"{len(found)} rows of {table.name} where there is one at most")
    return record(*found[0]) if found else None


def insert(conn: Connection, table: Table, record: Any) -> None:
    """Add a record as a row."""
    _insert(table, type(record)).run(conn, values(record))  # type: ignore[arg-type]  # a class can be hashed


def dialect_insert(dialect: str, table: Table) -> Any:
    """An insert that can say `ON CONFLICT`: both dialects spell it alike, SQLAlchemy has no common word for it."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


@cache  # as many as there are questions in this program
def _by(table: Table, record: type[Any], *names: str) -> Prepared:
    equal = (table.c[name] == bindparam(name) for name in names)
    return Prepared(query(table, record).where(*equal))


@cache
def _insert(table: Table, record: type[Any]) -> PreparedWrite:
    return insert_into(table, (item.name for item in dataclasses.fields(record)))


def page(
    conn: Connection,
    statement: Select[Any],
    record: type[R],
    key: Column[Any],
    limit: int,
    cursor: str | None,
    filters: Mapping[str, Any],
    *,
    ascending: bool = False,
    parse: Callable[[str], Any] = str,
) -> tuple[list[R], str | None]:
    """Up to `limit` records in order of `key`, a unique column, and the cursor of the next page. Raises BadCursor.

    `filters` are what `statement` was narrowed by: a cursor is good for the same list and filters only. `parse`
    makes the key of a cursor's text.
    """
    of = cursors.digest(key.table.name, filters)
    if cursor is not None:
        last = parse(cursors.decode(cursor, of))
        statement = statement.where(key > last if ascending else key < last)
    statement = statement.order_by(key if ascending else key.desc()).limit(limit + 1)
    rows: Sequence[Row[Any]] = conn.execute(statement).all()
    records = [build(record, row) for row in rows[:limit]]
    if len(rows) <= limit or not records:
        return records, None
    return records, cursors.encode(str(getattr(records[-1], key.name)), of)
