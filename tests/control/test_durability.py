"""What is acknowledged survives; a disk that is full costs no record; and readiness tells."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import event, text

from control.calls import LiveCall
from control.ledger import Ledger, Ruling
from control.store import Store, StoreUnavailable, calls
from control.store.records import CallRecord

# Files, journals and a full disk.
pytestmark = pytest.mark.sqlite

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
NAMES = 40


@pytest.fixture
def store(tmp_path):
    opened = Store.open(f"sqlite:///{tmp_path / 'tandem.db'}")
    yield opened
    opened.close()


class Disk:
    """The database file may not grow any more: SQLite says SQLITE_FULL, as it does at ENOSPC."""

    def __init__(self, store):
        self.is_full = False
        event.listen(store._engine, "begin", self._limit)

    def _limit(self, conn):
        # 1 is below what the file has, so SQLite takes the size that it has now.
        conn.exec_driver_sql(f"PRAGMA max_page_count={1 if self.is_full else 1_000_000}")


def live(number=1):
    return LiveCall(
        id=f"call_{number:04}",
        tenant_id="default",
        direction="inbound",
        from_number="+14155550100",
        to_number="+14155550199",
        created_at=NOW,
        agent=None,
    )


def record(call):
    return CallRecord(id=call.id, direction="inbound", created_at=NOW)


async def test_every_connection_of_the_store_syncs_each_commit(store):
    """FULL: the log is synced before a commit returns; NORMAL would lose the last ones in a power cut."""

    def pragmas(conn):
        return (
            conn.execute(text("PRAGMA journal_mode")).scalar(),
            conn.execute(text("PRAGMA synchronous")).scalar(),
        )

    assert await store.write(pragmas) == ("wal", 2)
    assert await store.read(pragmas) == ("wal", 2)


async def test_commits_on_postgresql_are_synchronous_whatever_the_server_thinks(postgresql):
    """Somebody has switched it off for the database: an acknowledged decision could be lost in a crash."""
    url = postgresql.empty_database()
    postgresql._execute(
        "ALTER DATABASE {} SET synchronous_commit = off", url.split("@/")[1].split("?")[0]
    )
    opened = Store.open(url)

    def setting(conn):
        return conn.execute(text("SHOW synchronous_commit")).scalar()

    try:
        assert await opened.write(setting) == "on"
        assert await opened.read(setting) == "on"
    finally:
        opened.close()
        postgresql.drop(url)


async def test_records_of_live_calls_wait_while_the_disk_is_full_and_are_written_after(store):
    """Nothing of the timeline is lost, and its order stays; a new call is refused, not forgotten."""
    disk, ledger, call = Disk(store), Ledger(store, "n1"), live()
    ruling = Ruling("accept", "default", {"outcome": "allow"}, NOW)
    await ledger.open(call, record(call), ruling)
    disk.is_full = True
    for number in range(NAMES):
        call.line(f"name_{number:02}", number, {"filler": "x" * 4000})
        await ledger.flush([call])
    assert call.is_dirty
    other = live(2)
    with pytest.raises(StoreUnavailable):
        await ledger.open(other, record(other), replace_filler(ruling))
    assert not other.is_recorded
    assert store._writes_fail
    disk.is_full = False
    await ledger.flush([call])
    await store.ping()
    events = await store.read(calls.events, call.id)
    assert [one.name for one in events] == [f"name_{n:02}" for n in range(NAMES)]


async def test_line_of_a_write_that_came_to_pass_after_its_deadline_is_not_there_twice(
    store, monkeypatch
):
    """Nobody waited for the thread any more, and it was done all the same: so the write is repeated."""
    ledger, call = Ledger(store, "node"), live()
    await ledger.open(call, record(call), Ruling("accept", "default", {"outcome": "allow"}, NOW))
    write = store.write

    async def late(*arguments):
        await write(*arguments)
        raise StoreUnavailable("no answer within 5 s")

    call.line("answered", 1)
    with monkeypatch.context() as patched:
        patched.setattr(store, "write", late)
        await ledger.flush([call])
    assert call.is_dirty
    call.line("ended", 2)
    await ledger.flush([call])
    told = await store.read(calls.events, call.id)
    assert [one.name for one in told] == ["answered", "ended"]


def replace_filler(ruling):
    """Too much for what is left in the last page."""
    return ruling._replace(decision={"outcome": "allow", "filler": "x" * 20_000})


async def test_readiness_after_a_write_that_failed_needs_a_write_that_works(store):
    """A full disk answers every question; only a write shows it."""
    failing = True

    def refuse(conn, _cursor, statement, *_):
        if failing and statement.startswith("UPDATE"):
            raise StoreUnavailable("OperationalError: database or disk is full")

    event.listen(store._engine, "before_cursor_execute", refuse)
    await store.ping()

    def change(conn):
        conn.execute(text("UPDATE tenants SET name = 'x'"))

    with pytest.raises(StoreUnavailable):
        await store.write(change)
    with pytest.raises(StoreUnavailable):
        await store.ping()
    failing = False
    await store.ping()
