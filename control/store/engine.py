"""The database engine: the one place that knows SQLite from PostgreSQL.

SQLite: WAL, so that readers and the writer do not wait for each other; synchronous=FULL, so that what
was committed survives a power cut; transactions begun by us (`BEGIN IMMEDIATE` for a write), because
the driver's own habit is to begin late and a late upgrade of the lock cannot wait for its turn.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event
from sqlalchemy.engine import URL, make_url

WRITE = "tandem_write"
"""Execution option of a connection whose transaction will write."""


def is_memory(url: URL) -> bool:
    """A SQLite database without a file: one connection is all there is."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def create(url_text: str, *, busy_timeout_ms: int, pool_size: int) -> Engine:
    """The engine for a store URL. Raises sqlalchemy.exc.ArgumentError for one that is none."""
    url = make_url(url_text)
    options: dict[str, Any] = {
        "json_serializer": _dump_json,
        "json_deserializer": orjson.loads,
        # Errors are logged and shown to operators; parameters hold telephone numbers.
        "hide_parameters": True,
    }
    if url.get_backend_name() != "sqlite":
        timeout_s = busy_timeout_ms / 1000
        return create_engine(
            url, pool_size=pool_size, pool_timeout=timeout_s, pool_pre_ping=True, **options
        )
    if is_memory(url):
        options["poolclass"] = StaticPool
    else:
        options |= {"pool_size": pool_size, "pool_timeout": busy_timeout_ms / 1000}
    options["connect_args"] = {"check_same_thread": False, "timeout": busy_timeout_ms / 1000}
    engine = create_engine(url, **options)
    _prepare_sqlite(engine, busy_timeout_ms)
    return engine


def _dump_json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def _prepare_sqlite(engine: Engine, busy_timeout_ms: int) -> None:
    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        # First, so that the pragmas after it already wait for a busy file.
        cursor.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        writes = conn.get_execution_options().get(WRITE, False)
        conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
