"""Questions that every call asks, compiled once: SQLAlchemy's part of an execution is three quarters of its cost.

    _LIVE = Prepared(select(func.count()).where(calls.c.tenant_id == bindparam("tenant_id")))
    ((count,),) = _LIVE.all(conn, {"tenant_id": tenant_id})

A cached `SELECT` costs 31 to 40 µs through `Connection.execute` and 5 through the driver (SQLite). What goes in and comes
out is converted by the very types of the columns, and an error goes the way of any other. For `SELECT` in a
transaction that was begun, with plain values: lists among the *given* values are not expanded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, SelectBase

Convert = Callable[[Any], Any]


class _Ready(NamedTuple):
    """The statement for one dialect. `names` in their order: the driver takes a tuple; None: it takes a mapping."""

    sql: str
    names: tuple[str, ...] | None
    fixed: dict[str, Any]
    """Values that are part of the statement."""
    converts: dict[str, Convert]


class Prepared:
    """One `SELECT` whose values are `bindparam`s."""

    __slots__ = ("_outs", "_ready", "_statement")

    def __init__(self, statement: SelectBase) -> None:
        self._statement = statement
        self._ready: dict[Dialect, _Ready] = {}
        self._outs: dict[Dialect, tuple[tuple[int, Convert], ...]] = {}

    def all(self, conn: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Every row. Raises what `Connection.execute` does; KeyError for a value that was not given."""
        dialect = conn.dialect
        ready = self._ready.get(dialect)
        if ready is None:
            ready = self._ready[dialect] = _compiled(self._statement, dialect, values)
        given: dict[str, Any] = {**ready.fixed, **values}
        for name, convert in ready.converts.items():
            given[name] = convert(given[name])
        parameters: Any = given
        if ready.names is not None:
            parameters = tuple([given[name] for name in ready.names])
        sql, cursor = ready.sql, conn.connection.cursor()
        try:
            for listener in conn.dispatch.before_cursor_execute:
                sql, parameters = listener(conn, cursor, sql, parameters, None, False)
            cursor.execute(sql, parameters)
            rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
            described = cursor.description
        except dialect.loaded_dbapi.Error as error:
            conn._handle_dbapi_exception(error, sql, parameters, cursor, None)
        finally:
            cursor.close()
        outs = self._outs.get(dialect)
        if outs is None:
            outs = self._outs[dialect] = _outs(self._statement, dialect, described)
        if not rows or not outs:
            return list(rows)
        return [_converted(row, outs) for row in rows]

    def first(self, conn: Connection, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first row, of a statement that has one at most or a `LIMIT`."""
        found = self.all(conn, values)
        return found[0] if found else None

    def scalar(self, conn: Connection, values: Mapping[str, Any]) -> Any:
        """The first column of the first row; None without a row."""
        found = self.all(conn, values)
        return found[0][0] if found else None


def _converted(row: tuple[Any, ...], outs: tuple[tuple[int, Convert], ...]) -> tuple[Any, ...]:
    columns = list(row)
    for place, convert in outs:
        columns[place] = convert(columns[place])
    return tuple(columns)


def _compiled(statement: SelectBase, dialect: Dialect, values: Mapping[str, Any]) -> _Ready:
    compiled: Any = statement.compile(dialect=dialect)
    known = compiled.construct_params(dict(values))
    converts = dict(compiled._bind_processors)
    sql, names = compiled.string, compiled.positiontup
    if compiled.post_compile_params or compiled.literal_execute_params:
        # Lists that are part of the statement, `status IN ('sent', …)`: the same each time.
        expanded = compiled._process_parameters_for_postcompile(known)
        sql, names = expanded.statement, expanded.positiontup
        known = known | expanded.additional_parameters
        converts |= expanded.processors
    asked = set(names) if names is not None else {n for n in known if f"%({n})s" in sql}
    fixed = {
        name: converts.pop(name)(known[name]) if name in converts else known[name]
        for name in asked
        if name not in values
    }
    converts = {name: convert for name, convert in converts.items() if name in asked}
    return _Ready(sql, None if names is None else tuple(names), fixed, converts)


def _outs(
    statement: SelectBase, dialect: Dialect, described: Any
) -> tuple[tuple[int, Convert], ...]:
    found = []
    for place, column in enumerate(statement.selected_columns):
        convert = column.type.dialect_impl(dialect).result_processor(dialect, described[place][1])
        if convert is not None:
            found.append((place, convert))
    return tuple(found)
