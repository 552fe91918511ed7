"""Two SQL functions that SQLite and PostgreSQL spell differently: seconds between instants, an instant's day."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction


class seconds_between(GenericFunction[float]):
    """`seconds_between(begin, end)`: a float, negative when the end is before the beginning."""

    type: Any = Float()
    inherit_cache = True
    name = "seconds_between"


class utc_day(GenericFunction[str]):
    """`utc_day(instant)`: the day in UTC, `YYYY-MM-DD`."""

    type: Any = String()
    inherit_cache = True
    name = "utc_day"


def _arguments(element: Any, compiler: Any, **options: Any) -> list[str]:
    return [compiler.process(clause, **options) for clause in element.clauses]


@compiles(seconds_between)
def _seconds_between(element: Any, compiler: Any, **options: Any) -> str:
    begin, end = _arguments(element, compiler, **options)
    return f"EXTRACT(EPOCH FROM ({end} - {begin}))"


@compiles(seconds_between, "sqlite")
def _seconds_between_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    begin, end = _arguments(element, compiler, **options)
    # A day as a double is exact to some 40 microseconds at today's dates.
    return f"((julianday({end}) - julianday({begin})) * 86400.0)"


@compiles(utc_day)
def _utc_day(element: Any, compiler: Any, **options: Any) -> str:
    (instant,) = _arguments(element, compiler, **options)
    return f"to_char({instant} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


@compiles(utc_day, "sqlite")
def _utc_day_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    (instant,) = _arguments(element, compiler, **options)
    return f"strftime('%Y-%m-%d', {instant})"
