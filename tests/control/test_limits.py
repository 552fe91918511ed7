"""Limits of new calls: headroom of workers, what a tenant may have, what ElevenLabs allows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import trio
import trio.testing

from control.calls import Book
from control.conversations import WAIT_S, Conversations
from control.store import Store, StoreUnavailable, admission, calls, nodes, tenants
from control.store.admission import Limit
from tests.control.switchboard_rig import NOW, SETTINGS, SID, FakeClock, name_of, open_rig, verbs

TENANT = "tnt_default"


def sid(number):
    return f"CA{number:032}"


def is_busy(document):
    return 'reason="busy"' in document


async def refusal_of(rig, number):
    """The newest record, of a caller that was turned away."""
    document = await rig.switchboard.answer(rig.form(sid(number)))
    assert is_busy(document)
    found = await rig.store.read(_by_sid, sid(number))
    assert (found.status, found.result) == ("busy", "busy")
    assert found.ended_at is not None
    return found


def _by_sid(conn, of):
    return calls.by_sid(conn, of)


# ---- headroom ------------------------------------------------------------------------------------


async def test_workers_without_headroom_turn_callers_away_and_let_the_queue_wait(tmp_path):
    """New callers hear busy, new calls of ours wait; what was dialled already is served all the same."""
    async with open_rig(tmp_path) as rig:
        rig.twilio.answers = [sid(1), sid(2)]
        ringing = (await rig.dial()).id
        rig.pool.busy = True
        record = await refusal_of(rig, 3)
        assert (record.blame, record.reason) == (
            "gateway",
            "all media workers are busy to their limit",
        )
        assert rig.count("calls_turned_away", "workers_busy") == 1
        with trio.move_on_after(1.0):
            await rig.dial("+14155550101")
        assert [entry.state for entry in await rig.waiting()] == ["waiting"]
        assert len(rig.twilio.created) == 1
        await rig.status(ringing, "ringing", sid(1))
        await rig.until(lambda: rig.pool.holds(ringing))
        rig.pool.busy = False
        await rig.until(lambda: len(rig.twilio.created) == 2)
        assert verbs(await rig.switchboard.answer(rig.form(sid(4))))[0] == "Connect"


async def test_call_in_progress_is_resumed_on_workers_without_headroom(tmp_path):
    """Its caller is on the line: the limit is for those who are not."""
    async with open_rig(tmp_path) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        rig.pool.event(call_id, "stream_started")
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).attached)
        rig.pool.busy = True
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
        document = await rig.switchboard.continue_call({"CallSid": SID}, call_id)
        assert name_of(document) == call_id
        assert rig.pool.holds(call_id)


# ---- a tenant ------------------------------------------------------------------------------------


async def test_calls_at_once_of_a_tenant_count_both_ways(tmp_path):
    """Two callers talk: the third hears busy, and a call of ours waits until one of them has gone."""
    async with open_rig(tmp_path, control={"tenant_calls_max": 2}) as rig:
        first = name_of(await rig.switchboard.answer(rig.form(sid(1))))
        await rig.switchboard.answer(rig.form(sid(2)))
        record = await refusal_of(rig, 3)
        assert (record.blame, record.reason) == (
            None,
            "the tenant has as many calls as it may have at once",
        )
        assert rig.count("calls_turned_away", "tenant_calls") == 1
        assert len(rig.pool.plans) == 2  # no conversation was opened for it
        with trio.move_on_after(0.6):
            await rig.dial()
        assert rig.twilio.created == []
        rig.pool.report(first)
        await rig.status(first, "completed", sid(1))
        await rig.until(lambda: rig.twilio.created)


async def test_callers_at_the_same_moment_are_no_more_than_the_tenant_may_have(tmp_path):
    """None of them has a record when the others are counted."""
    async with open_rig(tmp_path, control={"tenant_calls_max": 2}, media={"workers": 9}) as rig:
        answers = []

        async def call_in(number):
            answers.append(await rig.switchboard.answer(rig.form(sid(number))))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(call_in, number)
        assert sum(map(is_busy, answers)) == 6


async def test_calls_of_a_minute_count_both_ways_and_the_minute_passes(tmp_path, monkeypatch):
    """Also calls that are over count; those that were turned away do not."""
    late = timedelta(0)
    plain = FakeClock.now
    monkeypatch.setattr(FakeClock, "now", lambda self: plain(self) + late)
    async with open_rig(tmp_path, control={"tenant_calls_per_minute": 2}) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form(sid(1))))
        rig.pool.report(call_id)
        await rig.status(call_id, "completed", sid(1))
        await rig.dial()
        for number in (3, 4):
            record = await refusal_of(rig, number)
            assert "in a minute" in record.reason
        with trio.move_on_after(0.6):
            await rig.dial("+14155550101")
        assert len(rig.twilio.created) == 1
        rig.twilio.answers = [sid(9)]
        late = timedelta(seconds=61)
        await rig.until(lambda: len(rig.twilio.created) == 2)
        assert not is_busy(await rig.switchboard.answer(rig.form(sid(5))))
        assert is_busy(await rig.switchboard.answer(rig.form(sid(6))))


async def test_caller_who_was_turned_away_for_want_of_workers_is_none_of_the_minute(tmp_path):
    """Nobody has talked with him."""
    async with open_rig(tmp_path, control={"tenant_calls_per_minute": 1}) as rig:
        rig.pool.full = True
        await refusal_of(rig, 1)
        rig.pool.full = False
        assert not is_busy(await rig.switchboard.answer(rig.form(sid(2))))


async def test_limits_of_a_tenant_are_its_own(tmp_path):
    """They go before the configuration's, and another tenant has none of it."""

    def own(conn):
        tenants.change(conn, TENANT, limits={"calls_max": 1}, updated_at=NOW)

    async with open_rig(tmp_path, before=own, control={"tenant_calls_max": 100}) as rig:
        assert not is_busy(await rig.switchboard.answer(rig.form(sid(1))))
        await refusal_of(rig, 2)


def test_call_that_did_not_begin_is_taken_back(conn_of_store):
    """A call that policy puts off after its turn was no call."""
    conn, limit = conn_of_store, Limit(1.0, None, 1)
    assert admission.begin(conn, TENANT, "call_1", limit, NOW) is None
    assert admission.begin(conn, TENANT, "call_2", limit, NOW) == "tenant_rate"
    admission.take_back(conn, "call_1")
    assert admission.begin(conn, TENANT, "call_2", limit, NOW) is None
    # A clock that was an hour ahead and was set right does not lock the tenant out for an hour.
    assert admission.begin(conn, TENANT, "call_3", limit, NOW - timedelta(hours=1)) is None


@pytest.fixture
def conn_of_store(store_url):
    store = Store.open(store_url)
    with store._engine.connect() as conn, conn.begin():
        yield conn
    store.close()


# ---- ElevenLabs ----------------------------------------------------------------------------------


async def test_conversations_are_a_budget_for_both_directions(tmp_path):
    """Two allowed, one of them kept for callers."""
    budget = {"concurrency": 2, "inbound_reserve_percent": 50}
    async with open_rig(tmp_path, elevenlabs=budget, media={"workers": 9}) as rig:
        rig.twilio.answers = [sid(1), sid(2)]
        out = (await rig.dial()).id
        with trio.move_on_after(0.6):
            await rig.dial("+14155550101")
        assert len(rig.twilio.created) == 1  # the second waits, though nobody has picked up yet
        inbound = name_of(await rig.switchboard.answer(rig.form(sid(3))))
        record = await refusal_of(rig, 4)
        assert (record.blame, "elevenlabs.concurrency" in record.reason) == ("gateway", True)
        assert rig.count("calls_turned_away", "conversations") == 1
        rig.pool.report(inbound)
        await rig.status(inbound, "completed", sid(3))
        await rig.until(lambda: rig.switchboard._office.conversations.count() == 1)
        assert not is_busy(await rig.switchboard.answer(rig.form(sid(5))))
        await refusal_of(rig, 6)
        await rig.status(out, "busy", sid(1))
        assert len(rig.twilio.created) == 1  # one is open, and the other is kept
        assert not is_busy(await rig.switchboard.answer(rig.form(sid(7))))


async def test_conversations_of_callers_at_the_same_moment_are_within_the_budget(tmp_path):
    """They ask one after another."""
    async with open_rig(tmp_path, elevenlabs={"concurrency": 3}, media={"workers": 9}) as rig:
        answers = []

        async def call_in(number):
            answers.append(await rig.switchboard.answer(rig.form(sid(number))))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(call_in, number)
        assert (sum(map(is_busy, answers)), rig.pool.held) == (5, 3)


async def test_conversation_is_free_again_when_no_worker_took_the_call(tmp_path):
    """What was asked for and not opened does not stay taken."""
    async with open_rig(tmp_path, elevenlabs={"concurrency": 1}) as rig:
        rig.pool.full = True
        await refusal_of(rig, 1)
        assert rig.count("calls_turned_away", "workers_full") == 1
        rig.pool.full = False
        assert not is_busy(await rig.switchboard.answer(rig.form(sid(2))))


async def test_conversations_of_another_daemon_count_while_it_lives(tmp_path):
    """Its number is in the store with its lease."""
    async with open_rig(tmp_path, elevenlabs={"concurrency": 2}) as rig:
        await rig.store.write(nodes.beat, "other", NOW + timedelta(hours=1), 2)
        await refusal_of(rig, 1)
        await rig.store.write(nodes.beat, "other", NOW + timedelta(hours=1), 1)
        assert not is_busy(await rig.switchboard.answer(rig.form(sid(2))))
        await refusal_of(rig, 3)
        await rig.store.write(nodes.beat, "other", NOW - timedelta(hours=1), 1)
        assert not is_busy(await rig.switchboard.answer(rig.form(sid(4))))


async def test_conversations_wait_no_longer_than_the_answer_may_take(autojump_clock):
    """A store that hangs is a store that is away, for everybody who waits."""
    settings = replace(SETTINGS.elevenlabs, concurrency=5)
    held = 0
    conversations = Conversations(settings, "node", Book(), lambda: held)
    refused = []

    async def ask():
        try:
            async with conversations.asking(5):
                pass
        except StoreUnavailable as error:
            refused.append(error)

    async with trio.open_nursery() as nursery, conversations.asking(5) as share:
        assert (share.mine, share.most) == (0, 5)
        for _ in range(20):
            nursery.start_soon(ask)
        began_s = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        while len(refused) < 20:
            await trio.sleep(0.1)
        assert trio.current_time() - began_s < 2 * WAIT_S
    held = 3
    async with conversations.asking(5) as share:
        assert share.mine == 3


async def test_conversations_of_two_daemons_that_ask_at_once_are_within_the_budget(store_url):
    """Whoever asks on PostgreSQL holds the rows of all daemons; SQLite has one writer."""
    settings = replace(SETTINGS.elevenlabs, concurrency=5)
    stores = [Store.open(store_url) for _ in range(2)]
    taken = {"a": 0, "b": 0}

    async def ask(store, one):
        async with one.asking(5) as share:
            if await store.write(nodes.take_conversation, share, NOW):
                taken[one.node] += 1

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for name, store in zip(taken, stores, strict=True):
                await store.write(nodes.beat, name, NOW + timedelta(hours=1))
                one = Conversations(settings, name, Book(), lambda name=name: taken[name])
                for _ in range(8):
                    nursery.start_soon(ask, store, one)
    assert sum(taken.values()) == 5
    for store in stores:
        store.close()
