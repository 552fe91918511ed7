"""The outbox: each item at least once, whatever dies; a slow lane holds up nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import trio

from control.clock import Clock
from control.outbox import GiveUp, Outbox, OutboxItem, Settled, TryAgain, steps
from control.store import Store, StoreUnavailable
from control.store import outbox as table

TENANT = "tnt_default"


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store.open(store_url, deadline_s=1.0)
    yield opened
    opened.close()


async def put(store: Store, key: str, kind: str = "work", **more: Any) -> bool:
    now = Clock().now()
    given: dict[str, Any] = {"due_at": now, "now": now} | more
    return await store.write(table.add, kind=kind, key=key, tenant_id=TENANT, **given)


@asynccontextmanager
async def running(*outboxes: Outbox) -> AsyncIterator[None]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for outbox in outboxes:
                await nursery.start(outbox.run)
            yield
            nursery.cancel_scope.cancel()


async def settled(store: Store, key: str, kind: str = "work") -> OutboxItem:
    """The item, once it no longer waits."""
    while True:
        item = await store.read(table.get, kind, key)
        assert item is not None
        if item.status != table.PENDING:
            return item
        await trio.sleep(0.01)


async def tried(store: Store, key: str) -> OutboxItem:
    """The item, once an attempt of it is over and written down."""
    while True:
        item = await store.read(table.get, "work", key)
        assert item is not None
        if item.last_error is not None:
            return item
        await trio.sleep(0.01)


async def test_item_with_known_key_is_not_added_again(store: Store) -> None:
    """(kind, key) is unique, so a transaction that is repeated asks for nothing new."""
    assert await put(store, "a")
    assert not await put(store, "a")
    assert await put(store, "a", kind="other")


async def test_transaction_that_fails_leaves_no_item(store: Store) -> None:
    """The work belongs to what made it necessary: rolled back together."""

    def both(conn: Any) -> None:
        now = Clock().now()
        table.add(conn, kind="work", key="a", tenant_id=TENANT, due_at=now)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(both)
    assert await store.read(table.get, "work", "a") is None


async def test_item_is_done_with_its_payload(store: Store) -> None:
    """The handler gets what was put in; afterwards the item is done."""
    seen: list[OutboxItem] = []

    async def handler(item: OutboxItem) -> None:
        seen.append(item)

    outbox = Outbox(store, Clock())
    outbox.handle("work", handler, schedule=steps())
    await put(store, "a", payload={"x": 1})
    async with running(outbox):
        item = await settled(store, "a")
    assert (item.status, item.attempts) == ("done", 1)
    assert [one.payload for one in seen] == [{"x": 1}]


async def test_item_that_its_handler_settles_is_left_alone(store: Store) -> None:
    """Done in the transaction of the work, and counted; lost when another daemon had taken the lease meanwhile."""
    counted: list[tuple[str, str]] = []
    tries = 0

    async def handler(item: OutboxItem) -> Settled:
        nonlocal tries
        tries += 1
        now = Clock().now()
        if tries == 1:
            await store.write(
                table.revive, "work", item.key, now
            )  # as whoever takes an item over does
        return Settled(await store.write(table.done, item, now))

    outbox = Outbox(store, Clock(), count=lambda *what: counted.append(what))
    outbox.handle("work", handler, schedule=steps())
    await put(store, "a")
    async with running(outbox):
        item = await settled(store, "a")
        while len(counted) < 2:
            await trio.sleep(0.01)
    assert (item.status, item.attempts, tries) == ("done", 1, 2)
    assert counted == [("work", "lost"), ("work", "done")]


async def test_failing_item_is_tried_by_its_schedule_and_buried(store: Store) -> None:
    """Each attempt is one of the schedule's; then it is a dead letter with its last error."""
    tries = 0

    async def handler(item: OutboxItem) -> None:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise ZeroDivisionError("a mistake of ours counts too")
        raise TryAgain(f"attempt {item.attempts}")

    outcomes: list[str] = []
    outbox = Outbox(store, Clock(), count=lambda kind, outcome: outcomes.append(outcome))
    outbox.handle("work", handler, schedule=steps(0.01, 0.01))
    await put(store, "a")
    async with running(outbox):
        item = await settled(store, "a")
    assert (item.status, item.attempts, item.last_error) == ("dead", 3, "attempt 3")
    assert outcomes == ["failed", "failed", "dead"]


async def test_wait_of_the_schedule_ends_at_the_latest_moment_that_the_handler_named(
    store: Store,
) -> None:
    """What is decided at a certain moment is looked at then, not at the schedule's next step."""
    clock = Clock()
    latest = clock.now() + timedelta(seconds=30)

    async def handler(item: OutboxItem) -> None:
        raise TryAgain("not yet", latest=latest if item.key == "a" else clock.now())

    outbox = Outbox(store, clock)
    outbox.handle("work", handler, schedule=steps(300.0, forever=True))
    dues = {}
    for key in "ab":
        await put(store, key)
        async with running(outbox):
            dues[key] = (await tried(store, key)).due_at
    assert dues["a"] == latest
    assert dues["b"] > latest  # a moment that has gone by bounds nothing


@pytest.mark.parametrize(
    ("jitter", "after_s", "waited_s"),
    [
        (0.95, None, 28.5),
        (1.08, None, 32.4),
        (1.0, 60.0, 60.0),
        (0.95, 60.0, 63.0),
        (1.08, 60.0, 64.8),
        (0.95, 10.0, 31.5),
    ],
)
async def test_wait_is_spread_and_what_was_asked_for_never_shortened(
    store: Store, jitter: float, after_s: float | None, waited_s: float
) -> None:
    """A thousand items that failed in one second are not tried again in one second; `Retry-After` is kept."""
    clock = Clock()
    at = clock.now()

    async def handler(item: OutboxItem) -> None:
        raise TryAgain("not yet", after_s)

    class Still(Clock):
        def now(self) -> datetime:
            return at

    outbox = Outbox(store, Still(), jitter=lambda: jitter)
    outbox.handle("work", handler, schedule=steps(30.0, forever=True))
    await put(store, "a", due_at=at, now=at)
    async with running(outbox):
        due_at = (await tried(store, "a")).due_at
    assert (due_at - at).total_seconds() == pytest.approx(waited_s)


async def test_item_given_up_is_buried_at_once(store: Store) -> None:
    """What can never work is not tried again."""

    async def handler(item: OutboxItem) -> None:
        raise GiveUp("never")

    outbox = Outbox(store, Clock())
    outbox.handle("work", handler, schedule=steps(0.01, forever=True))
    await put(store, "a")
    async with running(outbox):
        item = await settled(store, "a")
    assert (item.status, item.attempts, item.last_error) == ("dead", 1, "never")
    assert await store.write(table.revive, "work", "a", Clock().now())
    revived = await store.read(table.get, "work", "a")
    assert revived is not None
    assert (revived.status, revived.attempts) == ("pending", 0)


async def test_item_revived_before_its_end_is_written_down_is_done_once_more(store: Store) -> None:
    """Whoever saw its effect and asks for it anew is not forgotten because the runner was still about to settle."""
    done: list[int] = []

    async def handler(item: OutboxItem) -> None:
        done.append(item.attempts)
        if len(done) == 1:
            assert await store.write(table.revive, "work", "a", Clock().now())

    counts: list[tuple[str, str]] = []
    outbox = Outbox(store, Clock(), count=lambda *told: counts.append(told))
    outbox.handle("work", handler, schedule=steps())
    await put(store, "a")
    async with running(outbox):
        item = await settled(store, "a")
    assert (done, item.status, item.attempts) == ([1, 1], "done", 1)
    assert counts == [("work", "lost"), ("work", "done")]


async def test_item_that_wants_to_be_asked_again_is(store: Store) -> None:
    """A handler that returns a moment is run again then, and that is no failure."""
    seen: list[int] = []

    async def handler(item: OutboxItem) -> datetime | None:
        seen.append(item.attempts)
        return Clock().now() + timedelta(milliseconds=20) if len(seen) < 3 else None

    outbox = Outbox(store, Clock())
    outbox.handle("work", handler, schedule=steps())
    await put(store, "a")
    async with running(outbox):
        item = await settled(store, "a")
    assert (item.status, seen) == ("done", [1, 2, 3])


async def test_item_not_due_waits(store: Store) -> None:
    """`due_at` is the earliest moment; `hasten` makes it earlier."""
    done = trio.Event()

    async def handler(item: OutboxItem) -> None:
        done.set()

    outbox = Outbox(store, Clock())
    outbox.handle("work", handler, schedule=steps())
    now = Clock().now()
    await put(store, "a", due_at=now + timedelta(hours=1))
    async with running(outbox):
        await put(store, "b", kind="other")  # nobody's kind: stays
        await trio.sleep(0.05)
        assert not done.is_set()
        assert await store.write(table.hasten, "work", "a", now, now)
        outbox.wake()
        await done.wait()
    other = await store.read(table.get, "other", "b")
    assert other is not None
    assert other.attempts == 0


async def test_two_daemons_do_each_item_once(store: Store) -> None:
    """A lease keeps the other one away."""
    seen: list[str] = []

    async def handler(item: OutboxItem) -> None:
        seen.append(item.key)
        await trio.sleep(0.005)

    outboxes = [Outbox(store, Clock(), owner=name) for name in ("one", "two")]
    for outbox in outboxes:
        outbox.handle("work", handler, schedule=steps())
    for number in range(30):
        await put(store, str(number))
    async with running(*outboxes):
        for number in range(30):
            await settled(store, str(number))
    assert sorted(seen, key=int) == [str(number) for number in range(30)]


async def test_item_of_a_daemon_that_died_is_done_by_another(store: Store) -> None:
    """Its lease runs out; what the dead one says later does not count."""
    now = Clock().now()
    await put(store, "a")
    long_ago = now - timedelta(minutes=5)
    await store.write(table.hasten, "work", "a", long_ago, long_ago)
    lost = await store.write(
        table.claim,
        owner="dead",
        kinds=["work"],
        now=now,
        lease=timedelta(milliseconds=50),
        limit=1,
    )
    assert len(lost) == 1

    async def handler(item: OutboxItem) -> None:
        assert item.attempts == 2

    outbox = Outbox(store, Clock(), owner="alive")
    outbox.handle("work", handler, schedule=steps())
    async with running(outbox):
        item = await settled(store, "a")
    assert item.status == "done"
    assert not await store.write(table.retry, lost[0], now, now, "from the grave")
    item = await settled(store, "a")
    assert item.status == "done"


async def test_lane_that_hangs_holds_up_its_own_items_only(store: Store) -> None:
    """One item of a lane at a time, also where many are due at once."""
    seen: list[str] = []

    async def handler(item: OutboxItem) -> None:
        seen.append(item.key)
        if item.lane == "hangs":
            await trio.sleep_forever()

    outbox = Outbox(store, Clock())
    outbox.handle("work", handler, schedule=steps(), at_once=3)
    for number in range(5):
        await put(store, f"h{number}", lane="hangs")
    for number in range(5):
        await put(store, f"q{number}", lane="quick")
    async with running(outbox):
        for number in range(5):
            await settled(store, f"q{number}")
    assert seen.count("h0") == 1
    assert [key for key in seen if key != "h0"] == [f"q{number}" for number in range(5)]
    # What was under way is given back at the end.
    item = await store.read(table.get, "work", "h0")
    assert item is not None
    assert (item.status, item.lease_owner) == ("pending", None)


async def test_handler_that_takes_too_long_is_tried_again(store: Store) -> None:
    """Nothing holds a place for longer than its deadline."""

    async def handler(item: OutboxItem) -> None:
        if item.attempts == 1:
            await trio.sleep_forever()

    outbox = Outbox(store, Clock())
    outbox.handle("work", handler, schedule=steps(0.01), deadline_s=0.05)
    await put(store, "a")
    async with running(outbox):
        item = await settled(store, "a")
    assert (item.status, item.attempts) == ("done", 2)
    assert item.last_error == "not done within 0.05 s"


async def test_store_that_is_away_delays_and_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked database: the runner waits and goes on."""
    read, failures = store.read, 0

    async def flaky(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        nonlocal failures
        if fn.__name__ == "_look" and failures < 1:
            failures += 1
            raise StoreUnavailable("database is locked")
        return await read(fn, *args, **kwargs)

    async def handler(item: OutboxItem) -> None:
        pass

    monkeypatch.setattr(store, "read", flaky)
    outbox = Outbox(store, Clock())
    outbox.handle("work", handler, schedule=steps())
    await put(store, "a")
    async with running(outbox):
        item = await settled(store, "a")
    assert (item.status, failures) == ("done", 1)


async def test_purge_forgets_what_was_done_and_keeps_the_dead(store: Store) -> None:
    """Dead letters wait for a person."""
    now = Clock().now()
    for key in ("done", "dead", "waits"):
        await put(store, key)
    items = await store.write(
        table.claim, owner="me", kinds=["work"], now=Clock().now(), lease=timedelta(1), limit=9
    )
    by_key = {item.key: item for item in items}
    await store.write(table.done, by_key["done"], now)
    await store.write(table.bury, by_key["dead"], now, "no")
    assert await store.write(table.purge, now + timedelta(days=3)) == 1
    assert await store.read(table.counts) == {"dead": 1, "pending": 1}
