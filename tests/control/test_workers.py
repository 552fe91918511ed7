"""The pool of media workers, with a stand-in process that says what a test has it say."""

import contextlib
import dataclasses
import os
import socket
import sys

import pytest
import trio
import trio.testing

from control import worker_process, workers
from control.workers import PoolBusy, PoolFull, WorkerGone, WorkerLost, WorkerPool
from gateway.errors import LinkError
from gateway.link import CallEvent, CallPlan, Ready
from gateway.settings import MediaSettings

SETTINGS = MediaSettings(workers=1)
PLAN = CallPlan("call_1", "inbound", "http://127.0.0.1:1", "key", "agent_1")

OPENING = """
import json, os, socket, sys, time
link = socket.socket(fileno=int(sys.argv[1]))
link.recv(1 << 20)
def tell(kind, **body):
    link.send(json.dumps({"kind": kind, "body": body}).encode())
"""
READY = OPENING + "tell('Ready', worker_id='w', pid=os.getpid())\n"
DEAF = READY + "time.sleep(600)\n"
LISTENING = READY + "while link.recv(1 << 20): pass\n"
OBEDIENT = (
    READY + "while b'Drain' not in link.recv(1 << 20): pass\ntell('Drained', worker_id='w')\n"
)
UNREPORTED = (
    READY
    + "while b'Prepare' not in link.recv(1 << 20): pass\n"
    + "tell('Drained', worker_id='w'); time.sleep(600)\n"
)
TELLING = (
    READY
    + """
import select
while select.select([link], [], [], 0.02)[0] == [] or b"Drain" not in link.recv(1 << 20):
    load, late = open(sys.argv[2]).read().split()
    counters = dict(load_percent=float(load), tick_lateness_p95_ms=float(late))
    tell("Heartbeat", worker_id="w", calls=0, counters=counters)
"""
)
"""Tells, again and again, the load and the lateness that a test has written into a file."""
TALKATIVE = (
    READY
    + "for n in range(20): tell('CallEvent', call_id='c', name=str(n), at_ms=n)\n"
    + "while link.recv(1 << 20): pass\n"
)

LAST_WORDS = (
    READY
    + "while b'Prepare' not in link.recv(1 << 20): pass\n"
    + "for n in range(20): tell('CallEvent', call_id='call_1', name=str(n), at_ms=n)\n"
)
"""Says a lot about its call, and dies."""


@pytest.fixture
def logged():
    return []


@pytest.fixture
def play(monkeypatch, logged):
    """Returns a pool whose workers run the given scripts in turn, the last one for ever."""

    def make(*scripts: str, settings: MediaSettings = SETTINGS) -> WorkerPool:
        left = list(scripts)

        def command(link_fd: int) -> list[str]:
            script = left.pop(0) if len(left) > 1 else left[0]
            return [sys.executable, "-S", "-c", script, str(link_fd)]

        monkeypatch.setattr(worker_process, "worker_command", command)
        monkeypatch.setattr(workers, "RESTART_MIN_S", 0.01)
        return WorkerPool(settings, log=lambda event, **fields: logged.append((event, fields)))

    return make


@contextlib.asynccontextmanager
async def running(pool: WorkerPool):
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            try:
                yield pool
            finally:
                nursery.cancel_scope.cancel()


async def until(pool: WorkerPool, kind: type):
    while True:
        event = await pool.events.receive()
        if isinstance(event, kind):
            return event


def is_closed_by_peer(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


async def test_worker_that_dies_leaves_no_stream_open_in_its_queue(play, monkeypatch):
    """Twilio goes on only when its stream is closed: a descriptor that was never sent must not linger."""
    monkeypatch.setattr(workers.link, "PACKET_MAX_BYTES", 1 << 20)
    async with running(play(DEAF)) as pool:
        pool.prepare(PLAN)
        for _ in range(300):  # nobody reads: the socket's buffer fills, the rest waits in the queue
            pool.say("call_1", "contextual_update", "x" * 50_000)
        ours, theirs = socket.socketpair()
        with ours:
            await pool.attach("call_1", theirs, b"GET / HTTP/1.1\r\n\r\n")
            assert not is_closed_by_peer(ours)
            os.kill(pool.stats()[0].pid, 9)
            await until(pool, WorkerLost)
            assert is_closed_by_peer(ours)


async def test_stream_for_which_there_is_no_room_is_closed(play, monkeypatch):
    """The wait for room is bounded, and then Twilio is let go."""
    monkeypatch.setattr(worker_process, "SEND_QUEUE_MAX", 2)
    monkeypatch.setattr(workers, "ATTACH_TIMEOUT_S", 0.05)
    async with running(play(DEAF)) as pool:
        await trio.testing.wait_all_tasks_blocked()
        pool.prepare(PLAN)
        while True:
            pool.say("call_1", "contextual_update", "x" * 50_000)
            await trio.testing.wait_all_tasks_blocked()
            worker = pool._homes["call_1"]
            if worker.send.statistics().current_buffer_used == 2:
                break
        ours, theirs = socket.socketpair()
        with ours:
            with pytest.raises(WorkerGone):
                await pool.attach("call_1", theirs, b"")
            assert is_closed_by_peer(ours)


async def test_plan_that_does_not_fit_the_link_is_refused_and_the_pool_lives(play, logged):
    """One call with huge variables must not take the daemon down."""
    async with running(play(LISTENING)) as pool:
        huge = dataclasses.replace(PLAN, dynamic_variables={"note": "x" * 500_000})
        with pytest.raises(PoolFull):
            pool.prepare(huge)
        assert not pool.holds("call_1")
        assert [event for event, _ in logged][-1] == "worker_message_refused"
        assert pool.prepare(PLAN) == "w1"
        pool.say("call_1", "user_message", "x" * 500_000)
        assert pool.holds("call_1")


async def test_switchboard_that_is_slow_does_not_kill_a_worker(play, monkeypatch):
    """Only what a worker does not say counts as its silence."""
    monkeypatch.setattr(workers, "EVENTS_MAX", 2)
    monkeypatch.setattr(workers, "HEARTBEAT_TIMEOUT_S", 5.0)
    pool = play(TALKATIVE)
    async with running(pool):
        monkeypatch.setattr(workers, "HEARTBEAT_TIMEOUT_S", 0.05)
        await trio.sleep(0.5)  # the channel is full, its reader waits for us
        await until(pool, Ready)
        names = [(await until(pool, CallEvent)).name for _ in range(20)]
    assert names == [str(n) for n in range(20)]


async def test_calls_without_a_report_are_lost_calls_even_after_drained(play):
    """What a worker did not report on is told, never forgotten."""
    async with running(play(UNREPORTED, LISTENING)) as pool:
        pool.prepare(PLAN)
        assert (await until(pool, WorkerLost)).call_ids == ("call_1",)
        assert not pool.holds("call_1")


async def test_loss_of_a_worker_is_told_when_the_switchboard_is_behind_with_what_it_said(
    play, monkeypatch
):
    """Behind its last words, though there was no room for it: nobody else would ever speak of its calls again."""
    monkeypatch.setattr(workers, "EVENTS_MAX", 2)
    async with running(play(LAST_WORDS, LISTENING)) as pool:
        pool.prepare(PLAN)
        said = []
        with trio.fail_after(20):
            while not said or not isinstance(said[-1], WorkerLost):
                # Read only what makes room for a message that waits already: at the worker's end there is none.
                while pool.holds("call_1") and not pool.events.statistics().tasks_waiting_send:
                    await trio.sleep(0)
                said.append(await pool.events.receive())
        assert said[-1].call_ids == ("call_1",)
        told = [event.name for event in said if isinstance(event, CallEvent)]
        assert told == [str(n) for n in range(20)]


async def test_drain_while_a_seat_waits_for_its_next_worker_ends(play, monkeypatch):
    """No worker is started any more, and nobody waits for one."""
    pool = play(READY, OBEDIENT)
    monkeypatch.setattr(workers, "RESTART_MIN_S", 0.2)
    async with running(pool):
        while pool.stats():
            await trio.sleep(0.01)
        await pool.drain(1.0)
        await trio.sleep(0.6)
        assert pool.stats() == []
        assert pool.restarts == 0


async def test_drain_reaches_a_worker_that_is_starting(play):
    """A worker that becomes ready after the drain began goes again, and the drain returns."""
    slow = "import time; time.sleep(0.5)\n" + OBEDIENT
    pool = play(OBEDIENT, "raise SystemExit", slow, settings=MediaSettings(workers=2))
    async with running(pool):
        while pool._started < 3:
            await trio.sleep(0.01)
        await pool.drain(1.0)
        assert pool.stats() == []


async def test_pool_with_one_seat_that_fails_at_first_starts_with_the_others(play):
    """The seat is tried again; it does not hold up the daemon."""
    pool = play(LISTENING, "raise SystemExit", LISTENING, settings=MediaSettings(workers=2))
    async with running(pool):
        while not pool.is_ready:
            await trio.sleep(0.01)
        assert pool.restarts == 1


async def test_pool_whose_first_worker_cannot_start_says_so(play):
    """There is nothing to run with."""
    error: BaseException | None = None
    try:
        async with running(play("raise SystemExit")):
            pass
    except* LinkError as group:
        error = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    assert "could not be started" in str(error)


async def test_worker_that_is_told_as_ready_takes_a_call(play):
    """No instant lies between the word and the deed."""
    for _ in range(10):
        async with running(play(READY, LISTENING)) as pool:
            await until(pool, Ready)
            await until(pool, Ready)
            assert pool.prepare(PLAN) == "w2"


async def test_attach_between_death_and_notice_closes_the_stream(play):
    """The link has ended, the pool has not cleaned up yet: no socket may vanish in a dead queue."""
    async with running(play(DEAF)) as pool:
        pool.prepare(PLAN)
        worker = pool._homes["call_1"]
        os.kill(worker.process.pid, 9)
        await until(pool, WorkerLost)
        pool._homes["call_1"] = worker  # as it was an instant before
        ours, theirs = socket.socketpair()
        with ours:
            with pytest.raises(WorkerGone):
                await pool.attach("call_1", theirs, b"")
            assert is_closed_by_peer(ours)
        pool.say("call_1", "user_message", "hello")


@pytest.fixture
def telling(play, tmp_path, monkeypatch):
    """A pool of two workers, and a function that has one of them tell other figures and waits until it is known."""
    pool = play(TELLING, settings=MediaSettings(workers=2, max_calls_per_worker=10))
    files = [tmp_path / "w1", tmp_path / "w2"]
    left = list(files)

    def command(link_fd: int) -> list[str]:
        return [sys.executable, "-S", "-c", TELLING, str(link_fd), str(left.pop(0))]

    monkeypatch.setattr(worker_process, "worker_command", command)
    for file in files:
        file.write_text("0 0")

    async def tell(number: int, load: float, late: float) -> None:
        fresh = files[number].with_suffix(".new")
        fresh.write_text(f"{load} {late}")
        fresh.rename(files[number])
        while True:
            stats = {one.worker_id: one.counters for one in pool.stats()}
            told = stats.get(f"w{number + 1}", {})
            if (told.get("load_percent"), told.get("tick_lateness_p95_ms")) == (load, late):
                return
            await trio.sleep(0.005)

    return pool, tell


def plans(prefix: str, count: int) -> list[CallPlan]:
    return [dataclasses.replace(PLAN, call_id=f"{prefix}{n}") for n in range(count)]


async def test_calls_go_where_the_load_is_lowest_not_where_the_fewest_are(telling):
    """Two calls with a burnt core are more than nine without."""
    pool, tell = telling
    async with running(pool):
        await tell(0, 30.0, 0.0)
        await tell(1, 5.0, 0.0)
        assert {pool.prepare(plan) for plan in plans("a", 9)} == {"w2"}
        await tell(1, 31.0, 0.0)
        assert pool.prepare(plans("b", 1)[0]) == "w1"


async def test_worker_over_its_limits_takes_no_new_calls_but_those_in_progress(telling, logged):
    """New calls are refused when nobody has headroom; a call that goes on is placed all the same."""
    pool, tell = telling
    async with running(pool):
        await tell(0, 1.0, 0.0)
        await tell(1, 1.0, 0.0)
        assert pool.room() == 20
        await tell(0, 95.0, 1.0)
        assert (pool.room(), [one.admits for one in pool.stats()]) == (10, [False, True])
        assert {pool.prepare(plan) for plan in plans("a", 3)} == {"w2"}
        await tell(1, 20.0, 50.0)
        assert pool.room() == 0
        with pytest.raises(PoolBusy, match="busy to their limit"):
            pool.prepare(PLAN)
        assert pool.prepare(PLAN, goes_on=True) == "w2"
        await tell(0, 85.0, 1.0)
        with pytest.raises(PoolBusy):
            pool.prepare(plans("b", 1)[0])
        await tell(0, 80.0, 1.0)
        assert pool.prepare(plans("b", 1)[0]) == "w1"
    told = [event for event, _ in logged if event.startswith("worker_takes")]
    assert told == ["worker_takes_no_calls"] * 2 + ["worker_takes_calls"]


async def test_full_by_count_is_full_whatever_is_measured(telling):
    """`max_calls_per_worker` is the hard end, also for calls in progress."""
    pool, _ = telling
    async with running(pool):
        placed = [pool.prepare(plan) for plan in plans("a", 20)]
        assert (placed.count("w1"), placed.count("w2"), pool.held) == (10, 10, 20)
        with pytest.raises(PoolFull, match="full"):
            pool.prepare(PLAN, goes_on=True)


async def test_turns_until_a_seat_was_silent_for_too_long(play, autojump_clock):
    """For the watchdog: a worker that is being replaced is no reason, one that never comes back is."""
    pool = play(DEAF, settings=dataclasses.replace(SETTINGS, workers=2))

    class Seat:
        heard_s = 0.0

    one, other = Seat(), Seat()
    pool._workers = {"w1": one, "w2": other}
    one.heard_s = other.heard_s = trio.current_time()
    assert pool.turns()
    other_died_s = trio.current_time()
    while trio.current_time() < other_died_s + workers.SEAT_EMPTY_MAX_S + 5:
        await trio.sleep(5)
        one.heard_s = trio.current_time()
        silent_s = trio.current_time() - other_died_s
        assert pool.turns() is (silent_s < workers.SEAT_EMPTY_MAX_S + 5)
    other.heard_s = trio.current_time()
    assert pool.turns()
    pool._workers.clear()
    await trio.sleep(workers.SEAT_EMPTY_MAX_S)
    assert not pool.turns()
    pool._is_draining = True
    assert pool.turns()


async def test_pinned_workers_have_a_core_each_and_their_successors_too(play, logged):
    """As many as there are cores; one more may use all of them."""
    cores = os.sched_getaffinity(0)
    settings = dataclasses.replace(SETTINGS, workers=len(cores) + 1, pin_workers=True)

    def bound() -> list[set[int]]:
        pids = [fields["pid"] for event, fields in logged if event == "worker_ready"]
        return [os.sched_getaffinity(pid) for pid in pids]

    async with running(play(LISTENING, settings=settings)) as pool:
        for _ in range(settings.workers):
            await until(pool, Ready)
        assert sorted(map(sorted, bound())) == sorted([[core] for core in cores] + [sorted(cores)])
        first = next(
            fields["pid"]
            for event, fields in logged
            if event == "worker_ready" and len(os.sched_getaffinity(fields["pid"])) == 1
        )
        core = os.sched_getaffinity(first)
        os.kill(first, 9)
        await until(pool, Ready)
        assert os.sched_getaffinity(logged[-1][1]["pid"]) == core
