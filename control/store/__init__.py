"""The ledger: SQLAlchemy Core, synchronous, in threads behind one small `Store`.

    store = Store.open("sqlite:///tandem.db")
    record = await store.read(calls.get, call_id)
    await store.write(calls.update, call_id, status="ringing")

The functions of `calls`, `agents`, `opt_outs`, … take a connection first and know no transaction; a
write is one transaction, committed before `write` returns, so several of them can be composed into one:

    def ended(conn, report): calls.update(conn, …); calls.append_events(conn, …)
    await store.write(ended, report)

A write is not interrupted by cancellation, only by its deadline: whoever asked for it may be gone, the
record must not be. Threads do not see a mock clock: tests that use a store use the real one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

import trio
from sqlalchemy import Connection, Engine, exc, text

from control.store import engine as engines
from control.store import migrations, tenants
from control.store.errors import (
    BadCursor,
    NumberTaken,
    RecordNotFound,
    StoreError,
    StoreIncompatible,
    StoreUnavailable,
)

__all__ = [
    "BadCursor",
    "NumberTaken",
    "RecordNotFound",
    "Store",
    "StoreError",
    "StoreIncompatible",
    "StoreUnavailable",
]

P = ParamSpec("P")
T = TypeVar("T")

DEADLINE_S = 5.0
PING_DEADLINE_S = 2.0
BUSY_PART = 0.8
"""Part of the deadline that the database may wait for a lock, so that its own answer comes first."""
READ_THREADS = 4
WRITE_TRIES = 4
"""Of a transaction that the database undid because it was at odds with another one (PostgreSQL only)."""


class Store:
    """Runs functions on the database, in threads, each with a deadline."""

    def __init__(self, engine: Engine, *, deadline_s: float = DEADLINE_S) -> None:
        self._engine = engine
        self._deadline_s = deadline_s
        self._writes_fail = False
        """Whether the last write found the database unusable."""
        self._reads = trio.CapacityLimiter(READ_THREADS)
        # One writer at a time is all SQLite has; waiting here is fair, waiting in SQLite is not.
        self._writes = trio.CapacityLimiter(1 if engine.dialect.name == "sqlite" else READ_THREADS)
        if engines.is_memory(engine.url):
            self._reads = self._writes
        self._idle = threading.Condition()
        self._in_use = 0
        """Connections in threads, also in those whose answer nobody waits for any more."""
        self._closed = False

    @classmethod
    def open(cls, url: str, *, deadline_s: float = DEADLINE_S) -> Store:
        """Connect, bring the schema up to date, make the default tenant. Blocks: call it at start.

        Raises StoreUnavailable when the database cannot be opened, StoreIncompatible when a later
        version has written it.
        """
        try:
            engine = engines.create(
                url,
                busy_timeout_ms=int(deadline_s * BUSY_PART * 1000),
                pool_size=2 * READ_THREADS,
            )
        except (exc.ArgumentError, exc.NoSuchModuleError, ImportError) as error:
            raise StoreUnavailable(f"not a usable store url: {error}") from error
        store = cls(engine, deadline_s=deadline_s)
        try:
            store._write_now(_set_up)
        except BaseException:
            engine.dispose()
            raise
        return store

    async def read(
        self, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`fn(conn, *args, **kwargs)` in a read transaction. Raises StoreUnavailable."""
        return await self._in_thread(
            lambda: self._read_now(fn, *args, **kwargs), self._reads, self._deadline_s
        )

    async def write(
        self, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`fn(conn, *args, **kwargs)` in one transaction, committed on return, rolled back on a raise.

        Raises StoreUnavailable; after a deadline it is not known whether the write came to pass.
        """
        with trio.CancelScope(shield=True):
            try:
                result = await self._in_thread(
                    lambda: self._write_now(fn, *args, **kwargs), self._writes, self._deadline_s
                )
            except StoreUnavailable:
                self._writes_fail = True
                raise
            self._writes_fail = False
        return result

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the database answers, and takes a write if the last one failed.

        A full disk still answers every question.
        """
        deadline_s = min(PING_DEADLINE_S, self._deadline_s)
        await self._in_thread(lambda: self._read_now(_ping), self._reads, deadline_s)
        if self._writes_fail:
            await self._in_thread(
                lambda: self._write_now(tenants.prove_writable), self._writes, deadline_s
            )
            self._writes_fail = False

    def close(self) -> None:
        """Close the connections, once the threads that nobody waits for are done with theirs.

        Blocks for as long as the database may take for an answer, at most the deadline.
        """
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._in_use, self._deadline_s)
        self._engine.dispose()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self._idle:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            self._in_use += 1
        try:
            with self._engine.connect() as conn:
                yield conn
        finally:
            with self._idle:
                self._in_use -= 1
                self._idle.notify_all()

    async def _in_thread(
        self, fn: Callable[[], T], limiter: trio.CapacityLimiter, deadline_s: float
    ) -> T:
        # An abandoned thread keeps its place in the limiter until it is done, so a database that
        # hangs costs a bounded number of threads.
        try:
            with trio.fail_after(deadline_s):
                return await trio.to_thread.run_sync(fn, abandon_on_cancel=True, limiter=limiter)
        except trio.TooSlowError as error:
            raise StoreUnavailable(f"no answer within {deadline_s:g} s") from error

    def _read_now(
        self, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            with self._connection() as raw:
                conn = raw.execution_options(**engines.reading(self._engine))
                with conn.begin():
                    return fn(conn, *args, **kwargs)
        except exc.SQLAlchemyError as error:
            raise _translated(error) from error

    def _write_now(
        self, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        for tries_left in reversed(range(WRITE_TRIES)):
            try:
                with self._connection() as raw:
                    conn = raw.execution_options(**{engines.WRITE: True})
                    with conn.begin():
                        return fn(conn, *args, **kwargs)
            except exc.SQLAlchemyError as error:
                if not (tries_left and engines.is_conflict(error)):
                    raise _translated(error) from error
        raise AssertionError("the last try returns or raises")


def _set_up(conn: Connection) -> None:
    engines.prepare_upgrade(conn)
    migrations.upgrade(conn)
    tenants.ensure_default(conn)
    tenants.prove_writable(conn)


def _ping(conn: Connection) -> None:
    conn.execute(text("SELECT 1"))


_UNAVAILABLE = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)


def _translated(error: exc.SQLAlchemyError) -> Exception:
    """StoreUnavailable for what the database did; anything else is our own mistake and stays."""
    # sqlite3 says plain DatabaseError for a file that is broken or no database.
    said = isinstance(error, _UNAVAILABLE) or type(error) is exc.DatabaseError
    if said or engines.is_away(error):
        cause = getattr(error, "orig", None) or error
        return StoreUnavailable(f"{type(cause).__name__}: {cause}")
    return error
