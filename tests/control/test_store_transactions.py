"""The store itself: transactions, deadlines, many writers, and a database that is not there."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import Connection, exc, select, text

from control.store import RecordNotFound, Store, StoreUnavailable, calls, engine
from control.store.records import CallRecord
from control.store.tables import calls as table

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tandem.db"


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store.open(store_url, deadline_s=5)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{path}", deadline_s=5)
    yield opened
    opened.close()


def call(number: int = 1, **columns: Any) -> CallRecord:
    return CallRecord(id=f"call_{number:04}", direction="inbound", created_at=NOW, **columns)


async def test_store_write_is_committed_on_return(store: Store, store_url: str) -> None:
    """Another connection sees the row as soon as `write` has returned."""
    await store.write(calls.insert, call())
    other = engine.create(store_url, busy_timeout_ms=1000, pool_size=1)
    with other.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM calls")).scalar() == 1
    other.dispose()


async def test_store_write_that_raises_is_rolled_back(store: Store) -> None:
    """All of a composed write is undone, and the exception arrives as it was."""

    def both(conn: Connection) -> None:
        calls.insert(conn, call())
        calls.update(conn, "call_nobody", status="ringing")

    with pytest.raises(RecordNotFound):
        await store.write(both)
    assert await store.read(calls.get, "call_0001") is None


@pytest.mark.sqlite
async def test_store_sqlite_is_wal_full_and_keeps_references(sqlite_store: Store) -> None:
    """The settings that durability and readers depend on are in force."""

    def pragmas(conn: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [conn.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    assert await sqlite_store.read(pragmas) == ["wal", 2, 1]


async def test_store_insert_of_call_for_unknown_agent_is_an_error(store: Store) -> None:
    """References are checked by the database; a violation is not taken for an outage."""
    with pytest.raises(exc.IntegrityError):
        await store.write(calls.insert, call(agent_id="agt_nobody"))


async def test_store_with_many_writers_loses_nothing(store: Store, store_url: str) -> None:
    """Read-modify-write from many tasks and two stores on one file adds up."""
    await store.write(calls.insert, call())
    second = Store.open(store_url)

    def count_up(conn: Connection) -> None:
        mine = table.c.id == "call_0001"
        resumes = conn.execute(select(table.c.resumes).where(mine).with_for_update()).scalar_one()
        calls.update(conn, "call_0001", resumes=resumes + 1)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon((store, second)[number % 2].write, count_up)
    record = await store.read(calls.get, "call_0001")
    assert record is not None
    assert record.resumes == 60
    second.close()


async def test_store_reads_while_another_writes(store: Store) -> None:
    """A reader sees the last committed state and does not wait for the writer."""
    await store.write(calls.insert, call())
    changed, go_on = threading.Event(), threading.Event()

    def slow(conn: Connection) -> None:
        calls.update(conn, "call_0001", status="ringing")
        changed.set()
        go_on.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, slow)
        await trio.to_thread.run_sync(changed.wait)
        record = await store.read(calls.get, "call_0001")
        go_on.set()
    assert record is not None
    assert record.status == "queued"


@pytest.mark.sqlite
async def test_store_write_on_locked_database_is_unavailable(path: Path) -> None:
    """A lock that is not given up within the deadline is an outage, in time, and it passes."""
    store = Store.open(f"sqlite:///{path}", deadline_s=0.5)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with trio.fail_after(5), pytest.raises(StoreUnavailable, match="locked"):
        await store.write(calls.insert, call())
    assert await store.read(calls.get, "call_0001") is None, "reads go on"
    other.execute("ROLLBACK")
    await store.write(calls.insert, call())
    other.close()
    store.close()


@pytest.mark.sqlite
async def test_store_write_that_hangs_is_unavailable_at_its_deadline(path: Path) -> None:
    """Whatever the database does, the caller is answered; ping says the same while it lasts."""
    store = Store.open(f"sqlite:///{path}", deadline_s=0.2)
    release = threading.Event()

    def hang(_conn: Connection) -> None:
        release.wait(30)

    with trio.fail_after(5):
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await store.write(hang)
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await store.write(calls.insert, call())
        release.set()
        await store.ping()
    store.close()


async def test_store_write_survives_cancellation_of_its_caller(store: Store) -> None:
    """A record is written although the request that asked for it is gone."""
    started, go_on = threading.Event(), threading.Event()

    def slow(conn: Connection) -> None:
        started.set()
        go_on.wait(10)
        calls.insert(conn, call())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, slow)
        await trio.to_thread.run_sync(started.wait)
        nursery.cancel_scope.cancel()
        go_on.set()
    assert await store.read(calls.get, "call_0001") is not None


@pytest.mark.sqlite
def test_store_open_of_read_only_file_is_unavailable(path: Path) -> None:
    """A file that cannot be written is found out at start."""
    Store.open(f"sqlite:///{path}").close()
    with pytest.raises(StoreUnavailable, match="readonly"):
        Store.open(f"sqlite:///file:{path}?mode=ro&uri=true")


@pytest.mark.sqlite
async def test_store_write_to_file_turned_read_only_is_unavailable(sqlite_store: Store) -> None:
    """The same later on: an outage, not a bug, and reads go on."""

    def forbid(conn: Connection) -> None:
        conn.exec_driver_sql("PRAGMA query_only=ON")
        calls.insert(conn, call())

    with pytest.raises(StoreUnavailable, match="readonly"):
        await sqlite_store.write(forbid)
    assert await sqlite_store.read(calls.get, "call_nobody") is None
    with pytest.raises(StoreUnavailable, match="readonly"):
        await sqlite_store.ping()


@pytest.mark.sqlite
def test_store_open_of_file_that_is_no_database_is_unavailable(path: Path) -> None:
    """Rubbish in the file is reported and left alone."""
    path.write_bytes(b"not a database at all " * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Store.open(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"not a database")


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all.db", "", "nosuchsql://x/y", "tandem.db"]
)
def test_store_open_of_unusable_url_is_unavailable(url: str) -> None:
    """A place that cannot be opened and a url that is none are the same kind of error."""
    with pytest.raises(StoreUnavailable):
        Store.open(url)


async def test_store_errors_do_not_show_parameters(store: Store) -> None:
    """Telephone numbers stay out of error texts, which are logged."""
    await store.write(calls.insert, call(from_number="+15550001111"))
    with pytest.raises(exc.IntegrityError) as caught:
        await store.write(calls.insert, call(from_number="+15550001111"))
    assert "+1555" not in str(caught.value)


async def test_store_in_memory_works_for_tasks_at_once() -> None:
    """A database without a file has one connection, which its users share in turn."""
    store = Store.open("sqlite://")
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(store.write, calls.insert, call(number))
            nursery.start_soon(store.read, calls.get, f"call_{number:04}")
    found, _ = await store.read(calls.list_calls, limit=100)
    assert len(found) == 20
    store.close()


async def test_store_closed_over_a_read_nobody_waits_for_closes_its_connection(
    store_url: str,
) -> None:
    """A cancelled read goes on in its thread; its connection is not left open behind the store."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    store = Store.open(store_url, deadline_s=5)
    opened: list[Any] = []

    def slow(conn: Connection) -> None:
        opened.append(conn.connection.dbapi_connection)
        begun.set()
        go_on.wait(5)

    def close() -> None:
        store.close()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.read, slow)
        await trio.to_thread.run_sync(begun.wait, 5)
        nursery.cancel_scope.cancel()
    closing = threading.Thread(target=close)
    closing.start()
    try:
        assert not ended.is_set()
    finally:
        go_on.set()
        closing.join(5)
    assert ended.is_set()
    if store_url.startswith("sqlite"):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            opened[0].execute("SELECT 1")
    else:
        assert opened[0].closed
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.read(calls.get, "call_0001")
