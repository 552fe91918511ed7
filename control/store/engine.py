"""The database engine: the one place that knows SQLite from PostgreSQL.

SQLite: WAL, so that readers and the writer do not wait for each other; synchronous=FULL, so that what
was committed survives a power cut; transactions begun by us (`BEGIN IMMEDIATE` for a write), because
the driver's own habit is to begin late and a late upgrade of the lock cannot wait for its turn.

PostgreSQL: psycopg 3, whatever driver the URL leaves open. A read sees one snapshot (REPEATABLE READ, READ
ONLY), as it does in SQLite; a write is READ COMMITTED, because it locks the rows it depends on. The server
gives up by itself before our deadline, so that no statement of ours outlives whoever waited for it.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext, make_url

from control.store.prepared import send

WRITE = "tandem_write"
"""Execution option of a connection whose transaction will write."""
IDLE_TRANSACTION_MAX_MS = 30_000
TCP_USER_TIMEOUT_MS = 10_000
UPGRADE_LOCK = 0x74616E64656D
"""Key of PostgreSQL's advisory lock for migrations; the same in all versions."""
UPGRADE_WAIT_MS = 120_000


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
        return _postgresql(url, busy_timeout_ms, pool_size, options)
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


def _postgresql(url: URL, busy_timeout_ms: int, pool_size: int, options: dict[str, Any]) -> Engine:
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    server = {
        "statement_timeout": busy_timeout_ms,
        "lock_timeout": busy_timeout_ms,
        # Of a process that was stopped in the middle: its locks shall not stop everybody else.
        "idle_in_transaction_session_timeout": IDLE_TRANSACTION_MAX_MS,
        "timezone": "UTC",
        "default_transaction_isolation": "read\\ committed",
        # A commit that has returned is on the disk, whatever the server's own default is.
        "synchronous_commit": "on",
    }
    said = url.query.get("options", "")
    given = said if isinstance(said, str) else " ".join(said)
    ours = " ".join(f"-c {name}={value}" for name, value in server.items())
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=busy_timeout_ms / 1000,
        # The server may have been restarted since a connection was used last.
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": max(2, busy_timeout_ms // 1000),  # libpq knows nothing below 2 s
            "application_name": "tandem",
            "options": f"{ours} {given}".strip(),
            # A server that vanished without a word (failover) is noticed in seconds, not in two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
        },
        **options,
    )
    event.listen(engine, "handle_error", _without_detail)
    event.listen(engine, "before_cursor_execute", _without_nul, retval=True)
    return engine


def _without_nul(
    _conn: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
) -> tuple[str, Any]:
    """PostgreSQL has no NUL in a text, and refuses the row: strangers' texts get U+FFFD for it, as a reader would see."""
    sets = parameters if many else [parameters]
    if any(isinstance(v, str) and "\0" in v for one in sets for v in _values(one)):
        sets = [_clean(one) for one in sets]
        parameters = sets if many else sets[0]
    return statement, parameters


def _values(parameters: Any) -> Any:
    return parameters.values() if isinstance(parameters, dict) else parameters or ()


def _clean(parameters: Any) -> Any:
    def text(value: Any) -> Any:
        return value.replace("\0", "\ufffd") if isinstance(value, str) else value

    if isinstance(parameters, dict):
        return {name: text(value) for name, value in parameters.items()}
    return tuple(text(value) for value in parameters)


def _without_detail(context: ExceptionContext) -> None:
    """The server's DETAIL and CONTEXT quote rows, telephone numbers among them: only its first line stays."""
    orig, shown = context.original_exception, context.sqlalchemy_exception
    full = str(orig)
    first = full.splitlines()[0] if full else ""
    orig.args = (first, *orig.args[1:])
    if shown is not None and shown.args:
        shown.args = (str(shown.args[0]).replace(full, first), *shown.args[1:])


SNAPSHOT: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_WRITE_AGAIN = frozenset({"40001", "40P01", "23505"})
"""Serialization failure, deadlock, unique violation: who looked for a row before adding it finds another daemon's the second
time. What violates by itself does so again, and is told then."""
_AWAY = frozenset({"42501"})


def reading(engine: Engine) -> dict[str, Any]:
    """Execution options of a connection that only reads."""
    return {} if engine.dialect.name == "sqlite" else SNAPSHOT


def is_conflict(error: BaseException) -> bool:
    """PostgreSQL undid the transaction, perhaps in favour of another one: it may simply be done again."""
    return _sqlstate(error) in _WRITE_AGAIN


def is_away(error: BaseException) -> bool:
    """The database does not let us, which its kind of exception alone does not tell."""
    return _sqlstate(error) in _AWAY


def _sqlstate(error: BaseException) -> str | None:
    state: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state


def prepare_upgrade(conn: Connection) -> None:
    """One daemon at a time changes the schema, and takes as long as it needs. For this transaction only."""
    if conn.dialect.name == "sqlite":
        return  # BEGIN IMMEDIATE has the only writer's lock already
    conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
    conn.exec_driver_sql(f"SET LOCAL lock_timeout = {UPGRADE_WAIT_MS}")
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")


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
        # What is deleted is overwritten: what was erased shall not be readable in the file's free pages.
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        writes = conn.get_execution_options().get(WRITE, False)
        send(conn, "BEGIN IMMEDIATE" if writes else "BEGIN")
