"""What is PostgreSQL's own: the driver, its timeouts, conflicts, a server that goes away and comes back."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
import trio
from sqlalchemy import exc, insert, select, text

from control.store import (
    Store,
    StoreUnavailable,
    calls,
    decisions,
    dialing,
    dnc,
    engine,
    outbox,
    permissions,
    routes,
)
from control.store.records import CallRecord
from control.store.tables import calls as calls_table
from tests.postgresql_server import PostgresqlServer

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
OURS = "tnt_default"


def call(number=1, **columns):
    return CallRecord(id=f"call_{number:04}", direction="inbound", created_at=NOW, **columns)


@pytest.fixture
def url(postgresql):
    found = postgresql.database()
    yield found
    postgresql.give_back(found)


@pytest.fixture
def store(url):
    opened = Store.open(url)
    yield opened
    opened.close()


@pytest.fixture
def other(url):
    """The store of a second daemon."""
    opened = Store.open(url)
    yield opened
    opened.close()


def test_url_without_driver_picks_psycopg_and_keeps_the_rest():
    """`postgresql://` is what operators write; the password stays what it was."""
    made = engine.create(
        "postgresql://u:p%40ss@h/d?sslmode=require", busy_timeout_ms=1, pool_size=1
    )
    assert made.url.render_as_string(hide_password=False) == (
        "postgresql+psycopg://u:p%40ss@h/d?sslmode=require"
    )


async def test_statement_that_takes_too_long_is_ended_by_the_server(url):
    """Nobody waits for it any more, so it does not go on there either; the connection is good again."""
    store = Store.open(url, deadline_s=1.0)
    with trio.fail_after(5), pytest.raises(StoreUnavailable, match="statement timeout"):
        await store.read(lambda conn: conn.execute(text("SELECT pg_sleep(30)")))
    await store.ping()
    store.close()


async def test_row_locked_by_another_machine_is_an_outage_in_time(url, other):
    """The lock is not waited for beyond the deadline; afterwards the write goes through."""
    store = Store.open(url, deadline_s=1.0)
    await store.write(calls.insert, call())
    locked, go_on = threading.Event(), threading.Event()

    def hold(conn):
        calls.update(conn, "call_0001", status="ringing")
        locked.set()
        go_on.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.write, hold)
        await trio.to_thread.run_sync(locked.wait)
        with trio.fail_after(5), pytest.raises(StoreUnavailable, match="timeout"):
            await store.write(calls.update, "call_0001", status="busy")
        go_on.set()
    await store.write(calls.update, "call_0001", status="busy")
    store.close()


async def test_read_sees_one_snapshot_and_may_not_write(store, other):
    """As in SQLite: two statements of one read agree, whatever is committed between them."""
    await store.write(calls.insert, call())
    counted, go_on = threading.Event(), threading.Event()

    def twice(conn):
        count = select(text("count(*)")).select_from(calls_table)
        first = conn.execute(count).scalar()
        counted.set()
        go_on.wait(10)
        return first, conn.execute(count).scalar()

    seen = []

    async def read():
        seen.append(await store.read(twice))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.to_thread.run_sync(counted.wait)
        await other.write(calls.insert, call(2))
        go_on.set()
    assert seen == [(1, 1)]
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.read(calls.insert, call(3))


async def test_two_transactions_in_each_others_way_both_come_to_pass(store, other):
    """A deadlock is the database's to break and ours to try again: nobody hears of it."""
    for number in (1, 2):
        await store.write(calls.insert, call(number))
    both = threading.Barrier(2)
    runs = []

    def crosswise(conn, first, second):
        runs.append(first)
        calls.update(conn, f"call_000{first}", resumes=first)
        if len(runs) <= 2:
            both.wait(10)
        calls.update(conn, f"call_000{second}", summary=f"after {first}")

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.write, crosswise, 1, 2)
            nursery.start_soon(other.write, crosswise, 2, 1)
    assert len(runs) == 3
    records = [await store.read(calls.get, f"call_000{number}") for number in (1, 2)]
    assert [(r.resumes, r.summary) for r in records] == [(1, "after 2"), (2, "after 1")]


def _permissions(conn, number):
    permissions.put(
        conn, permissions.PermissionsRecord(OURS, {"US": [True, False, False]}, {}, NOW)
    )


def _profile(conn, number):
    dnc.put_profile(conn, OURS, {"regions": ["US"]}, NOW, f"daemon {number}")


def _block(conn, number):
    dnc.block(conn, dnc.BlockRecord("+15550001111", f"daemon {number}", NOW))


def _routes(conn, number):
    routes.put(conn, routes.NumberRoutesRecord("+15550001111", NOW, NOW))


def _order(conn, number):
    """The first ones of a tenant: they found the account of its pace."""
    record = calls.insert(conn, call(number)) or call(number)
    dialing.add(conn, dialing.QueueRecord(record.id, OURS, NOW, NOW + timedelta(hours=1), NOW))


@pytest.mark.parametrize("adding", [_permissions, _profile, _block, _routes, _order])
async def test_two_daemons_that_add_the_same_row_at_once_both_come_to_pass(store, other, adding):
    """Each has looked and found nothing. The second one's error once ended its daemon."""
    added = threading.Event()
    runs = []

    def first(conn):
        adding(conn, 1)
        added.set()
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        assert any(
            conn.execute(waiting).scalar() for _ in range(50_000)
        )  # the other one, for this row

    def second(conn):
        runs.append(conn)
        adding(conn, 2)

    async def come_second():
        await trio.to_thread.run_sync(added.wait, 10)
        await other.write(second)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_second)
            await store.write(first)
    assert len(runs) == 2


async def test_error_does_not_quote_the_row(store):
    """PostgreSQL's DETAIL line holds the values that collided: it reaches neither text nor cause."""
    number = "+15550001111"
    with pytest.raises(exc.IntegrityError) as caught:
        await store.write(calls.insert, call(from_number=number, agent_id="agt_" + number))
    shown = f"{caught.value} {caught.value.orig} {caught.value.__cause__}"
    assert "violates foreign key constraint" in shown
    assert number not in shown

    def no_status(conn):
        conn.execute(insert(calls_table).values(id="x", tenant_id=OURS, to_number=number))

    with pytest.raises(exc.IntegrityError) as caught:
        await store.write(no_status)
    assert number not in f"{caught.value} {caught.value.orig}"


async def test_connections_cut_off_are_replaced_unnoticed(store, other):
    """A failover ends every connection; the next question gets a new one."""
    await store.write(calls.insert, call())

    def cut(conn):
        conn.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    await other.write(cut)
    assert await store.read(calls.get, "call_0001") is not None
    await store.write(calls.update, "call_0001", status="ringing")


async def test_server_that_goes_away_and_comes_back_loses_nothing_committed():
    """While it is away everything is an outage, said in time; afterwards all is as before."""
    server = PostgresqlServer.create()
    try:
        server.start()
        store = Store.open(server.empty_database(), deadline_s=3.0)
        await store.write(calls.insert, call())
        server.stop()
        with trio.fail_after(10):
            for attempt in (store.ping, lambda: store.write(calls.insert, call(2))):
                with pytest.raises(StoreUnavailable):
                    await attempt()
        server.start()
        await store.ping()
        assert await store.read(calls.get, "call_0001") is not None
        await store.write(calls.insert, call(2))
        store.close()
    finally:
        server.remove()


async def test_daemons_started_at_once_on_an_empty_database_make_one_schema(postgresql):
    """Migrations take an advisory lock: one makes the schema, the others find it."""
    url = postgresql.empty_database()
    stores = []

    def open_one():
        stores.append(Store.open(url))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(trio.to_thread.run_sync, open_one)
    for store in stores:
        await store.ping()
        store.close()
    postgresql.drop(url)


def test_user_without_rights_is_told_so_at_start(postgresql):
    """A configuration mistake, not a crash."""
    url = postgresql.empty_database()
    admin = engine.create(url, busy_timeout_ms=1000, pool_size=1)
    with admin.begin() as conn:
        conn.execute(text("CREATE ROLE poor LOGIN"))
    admin.dispose()
    try:
        with pytest.raises(StoreUnavailable, match="permission denied"):
            Store.open(url.replace("postgres@", "poor@"))
    finally:
        postgresql.drop(url)


async def test_links_of_one_chain_written_by_two_machines_follow_each_other(store, other):
    """The head's row is locked: no two links have the same place, and none is missing."""
    async with trio.open_nursery() as nursery:
        for number in range(40):
            write = (store, other)[number % 2].write
            nursery.start_soon(write, decisions.append, None, OURS, "check", {"n": number}, NOW)
    found = await store.read(decisions.verify)
    assert (found.rows, found.flaws) == (40, [])


async def test_row_of_the_queue_is_taken_by_one_machine(store, other):
    """Both look at the same moment, over and over: each call is somebody's, once."""
    due = 30

    def fill(conn):
        for number in range(due):
            record = call(number, dial_state="intent", status="queued")
            calls.insert(conn, record)
            dialing.add(
                conn,
                dialing.QueueRecord(record.id, OURS, NOW, NOW + timedelta(hours=1), NOW),
            )

    await store.write(fill)
    taken = []

    async def take(one, name):
        for step in range(60):
            now = NOW + timedelta(seconds=1 + step)
            seat = dialing.Seat(name, now + timedelta(hours=1))
            found = await one.write(
                dialing.take, seat, now, 5, lambda limits: dialing.Limit(cps=1000.0)
            )
            taken.extend(record.call_id for record in found)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, store, "one")
        nursery.start_soon(take, other, "two")
    assert len(taken) == len(set(taken)) == due


async def test_item_of_the_outbox_is_claimed_by_one_machine(store, other):
    """Two runners at once: every item once."""

    def fill(conn):
        for number in range(40):
            outbox.add(conn, kind="work", key=str(number), tenant_id=OURS, due_at=NOW)

    await store.write(fill)
    claimed = []

    async def claim(one, name):
        for _ in range(25):
            found = await one.write(
                outbox.claim,
                owner=name,
                kinds=["work"],
                now=NOW,
                lease=timedelta(minutes=1),
                limit=3,
            )
            claimed.extend(item.key for item in found)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(claim, store, "one")
        nursery.start_soon(claim, other, "two")
    assert len(claimed) == len(set(claimed))
    assert set(claimed) == {str(n) for n in range(40)}


async def test_write_that_is_undone_for_a_conflict_more_than_it_may_is_an_outage(store):
    """Trying again has an end."""
    runs = []

    def conflict(conn):
        runs.append(1)
        conn.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    with pytest.raises(StoreUnavailable):
        await store.write(conflict)
    assert len(runs) == 4


async def test_connections_are_bounded(store):
    """However many ask at once, the server sees no more than the pool."""
    seen = []

    def count(conn):
        sessions = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        seen.append(conn.execute(sessions).scalar())

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(store.read, count)
            nursery.start_soon(store.write, count)
    assert max(seen) <= 8
