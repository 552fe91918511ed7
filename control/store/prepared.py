"""Statements that every call needs, compiled once: SQLAlchemy's part of an execution is three quarters of its cost.

    _LIVE = Prepared(select(func.count()).where(calls.c.tenant_id == bindparam("tenant_id")))
    ((count,),) = _LIVE.all(conn, {"tenant_id": tenant_id})

    _REMOVE = PreparedWrite(delete(calls).where(calls.c.id == bindparam("call_id")))
    how_many = _REMOVE.run(conn, {"call_id": call_id})

A cached `SELECT` costs 31 to 40 µs through `Connection.execute` and 5 through the driver (SQLite). What goes in and comes
out is converted by the very types of the columns, and an error goes the way of any other. For a transaction that was
begun, with plain values: lists among the *given* values are not expanded. What a `Prepared` is not given is part of
the statement from the first time on, so always give the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    Connection,
    Delete,
    Dialect,
    Insert,
    SelectBase,
    Table,
    Update,
    bindparam,
)
from sqlalchemy import insert as sql_insert

Convert = Callable[[Any], Any]
Values: TypeAlias = Mapping[str, Any]


class _Ready(NamedTuple):
    """The statement for one dialect. `names` in their order: the driver takes a tuple; None: it takes a mapping."""

    sql: str
    names: tuple[str, ...] | None
    fixed: dict[str, Any]
    """Values that are part of the statement."""
    converts: dict[str, Convert]

    def parameters(self, values: Values) -> Any:
        """As the driver takes them. Raises KeyError for a value that was not given."""
        given: dict[str, Any] = {**self.fixed, **values}
        for name, convert in self.converts.items():
            given[name] = convert(given[name])
        return given if self.names is None else tuple([given[name] for name in self.names])


class Prepared:
    """One `SELECT` whose values are `bindparam`s."""

    __slots__ = ("_outs", "_ready", "_statement")

    def __init__(self, statement: SelectBase) -> None:
        self._statement = statement
        self._ready: dict[Dialect, _Ready] = {}
        self._outs: dict[Dialect, tuple[tuple[int, Convert], ...]] = {}

    def all(self, conn: Connection, values: Values) -> list[tuple[Any, ...]]:
        """Every row. Raises what `Connection.execute` does; KeyError for a value that was not given."""
        dialect = conn.dialect
        ready = self._ready.get(dialect)
        if ready is None:
            ready = self._ready[dialect] = _compiled(self._statement, dialect, values)
        rows, described, _ = _sent(conn, ready.sql, ready.parameters(values))
        outs = self._outs.get(dialect)
        if outs is None:
            outs = self._outs[dialect] = _outs(self._statement, dialect, described)
        if not rows or not outs:
            return list(rows)
        return [_converted(row, outs) for row in rows]

    def first(self, conn: Connection, values: Values) -> tuple[Any, ...] | None:
        """The first row, of a statement that has one at most or a `LIMIT`."""
        found = self.all(conn, values)
        return found[0] if found else None

    def scalar(self, conn: Connection, values: Values) -> Any:
        """The first column of the first row; None without a row."""
        found = self.all(conn, values)
        return found[0][0] if found else None


class PreparedWrite:
    """One `INSERT`, `UPDATE` or `DELETE` without `RETURNING`, whose values are `bindparam`s.

    It names its columns (`named`), and defaults of columns that are made in Python are not known here.
    """

    __slots__ = ("_ready", "_statement")

    def __init__(self, statement: Insert | Update | Delete) -> None:
        self._statement = statement
        self._ready: dict[Dialect, _Ready] = {}

    def run(self, conn: Connection, values: Values) -> int:
        """How many rows it wrote. Raises what `Connection.execute` does."""
        sql, (parameters,) = self._bound(conn, (values,))
        return _sent(conn, sql, parameters)[2]

    def run_all(self, conn: Connection, sets: Sequence[Values]) -> int:
        """The same once for each set of values, of which there is one at least."""
        if len(sets) == 1:
            return self.run(conn, sets[0])
        sql, parameters = self._bound(conn, sets)
        return _sent(conn, sql, parameters, many=True)[2]

    def _bound(self, conn: Connection, sets: Sequence[Values]) -> tuple[str, list[Any]]:
        ready = self._ready.get(conn.dialect)
        if ready is None:
            ready = _compiled(self._statement, conn.dialect, sets[0])
            self._ready[conn.dialect] = ready
        try:
            return ready.sql, [ready.parameters(values) for values in sets]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # A value that is none for its column, as a StatementError: one call's mistake, which costs no other.
            conn._handle_dbapi_exception(error, ready.sql, None, None, None)


def named(names: Iterable[str]) -> dict[str, Any]:
    """`values` of an `INSERT` or `UPDATE` that writes these columns of what is given under their names."""
    return {name: bindparam(name) for name in names}


def insert_into(table: Table, names: Iterable[str]) -> PreparedWrite:
    """An `INSERT` of these columns."""
    return PreparedWrite(sql_insert(table).values(named(names)).inline())


def send(conn: Connection, sql: str) -> None:
    """A statement without values and without an answer, word for word. Raises what `Connection.execute` does."""
    _sent(conn, sql, ())


def _sent(
    conn: Connection, sql: str, parameters: Any, *, many: bool = False
) -> tuple[Sequence[tuple[Any, ...]], Any, int]:
    """Rows, what the driver says of their columns, and how many rows were written."""
    cursor = conn.connection.cursor()
    try:
        for listener in conn.dispatch.before_cursor_execute:
            sql, parameters = listener(conn, cursor, sql, parameters, None, many)
        (cursor.executemany if many else cursor.execute)(sql, parameters)
        described = cursor.description
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall() if described else ()
        return rows, described, cursor.rowcount
    except conn.dialect.loaded_dbapi.Error as error:
        conn._handle_dbapi_exception(error, sql, parameters, cursor, None)
    finally:
        cursor.close()


def _converted(row: tuple[Any, ...], outs: tuple[tuple[int, Convert], ...]) -> tuple[Any, ...]:
    columns = list(row)
    for place, convert in outs:
        columns[place] = convert(columns[place])
    return tuple(columns)


def _compiled(
    statement: SelectBase | Insert | Update | Delete, dialect: Dialect, values: Values
) -> _Ready:
    compiled: Any = statement.compile(dialect=dialect)
    if compiled.insert_prefetch or compiled.update_prefetch or compiled.effective_returning:
        raise TypeError(
            "defaults that are made in Python, and RETURNING, need `Connection.execute`"
        )
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
