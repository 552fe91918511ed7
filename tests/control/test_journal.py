"""Ended calls that the store could not take are on the disk, and in the store after the next start."""

from __future__ import annotations

from datetime import timedelta

import pytest

from control import journal as module
from control.journal import NAME, Journal
from control.store import StoreUnavailable, calls, outbox
from control.store.records import CallRecord
from gateway.link import TranscriptTurn
from tests.control.test_durability import NOW, live

ENDED = NOW + timedelta(seconds=9)


def ended(number=1):
    """A call as it waits for the store after its end."""
    call = live(number)
    call.tenant_id, call.is_recorded, call.closing = "tnt_default", True, True
    call.change(status="completed", result="completed", ended_at=ENDED, answered_at=None)
    call.change(media={"frames": 5}, legs={"caller": {"codec": "ulaw"}})
    call.line("answered", 1, {"a": 1})
    call.line("ended", 2, {"result": "completed"})
    call.said(TranscriptTurn(call.id, 1, "user", "Hello", 3))
    return call


async def opened(store, *made):
    for call in made:
        record = CallRecord(id=call.id, direction="inbound", created_at=NOW)
        await store.write(calls.insert, record)


async def test_ended_call_is_in_the_store_after_a_restart(store, tmp_path):
    """Columns, timeline, transcript, and what is to be done after a call; the file is gone then."""
    call = ended()
    await opened(store, call)
    await Journal(tmp_path).keep([call])
    assert (tmp_path / NAME).stat().st_mode & 0o077 == 0
    assert call.is_dirty  # it waits in memory as well
    await Journal(tmp_path).replay(store)
    record = await store.read(calls.get, call.id)
    assert (record.status, record.result, record.ended_at) == ("completed", "completed", ENDED)
    assert (record.media, record.legs) == ({"frames": 5}, {"caller": {"codec": "ulaw"}})
    told = await store.read(calls.events, call.id)
    assert [(one.name, one.at_ms) for one in told] == [("answered", 1), ("ended", 2)]
    assert [one.text for one in await store.read(calls.turns, call.id)] == ["Hello"]
    assert await store.read(outbox.get, "after_call", call.id) is not None
    assert not (tmp_path / NAME).exists()


async def test_what_comes_later_of_a_call_stands_for_what_was_there(store, tmp_path):
    """The cost came behind; the same again is not written again."""
    call, journal = ended(), Journal(tmp_path)
    await opened(store, call)
    await journal.keep([call])
    size = (tmp_path / NAME).stat().st_size
    await journal.keep([call])
    assert (tmp_path / NAME).stat().st_size == size
    call.change(cost={"duration_s": 9})
    await journal.keep([call])
    await Journal(tmp_path).replay(store)
    assert (await store.read(calls.get, call.id)).cost == {"duration_s": 9}
    assert len(await store.read(calls.events, call.id)) == 2


async def test_call_that_the_store_has_is_left_alone(store, tmp_path):
    """The store came back a moment before the process died; lines of before are not doubled either."""
    done, half = ended(1), ended(2)
    await opened(store, done, half)
    await Journal(tmp_path).keep([done, half])
    await store.write(calls.update, done.id, result="busy", ended_at=NOW)
    await store.write(calls.append_events, half.id, [("answered", 1, {"a": 1})])
    await Journal(tmp_path).replay(store)
    assert (await store.read(calls.get, done.id)).result == "busy"
    assert await store.read(calls.events, done.id) == []
    assert [one.name for one in await store.read(calls.events, half.id)] == ["answered", "ended"]


async def test_live_calls_are_not_kept_and_the_file_goes_when_nothing_waits(store, tmp_path):
    """They have workers that tell it again."""
    talking, over = live(1), ended(2)
    talking.is_recorded = True
    talking.line("answered", 1)
    journal = Journal(tmp_path)
    await journal.keep([talking])
    assert not (tmp_path / NAME).exists()
    await journal.keep([talking, over])
    assert (tmp_path / NAME).exists()
    over.take()
    await journal.keep([talking, over])
    assert not (tmp_path / NAME).exists()


async def test_above_its_bounds_timelines_are_left_out_and_then_calls(store, tmp_path, monkeypatch):
    """How a call ended is never left out for the sake of space; the newest beyond the number stay in memory."""
    first, second, third = (ended(number) for number in (1, 2, 3))
    await opened(store, first, second, third)
    monkeypatch.setattr(module, "WHOLE_MAX_BYTES", 500)
    monkeypatch.setattr(module, "CALLS_MAX", 2)
    await Journal(tmp_path).keep([first, second, third])
    await Journal(tmp_path).replay(store)
    found = [await store.read(calls.get, one.id) for one in (first, second, third)]
    assert [one.result for one in found] == ["completed", "completed", None]
    assert len(await store.read(calls.events, first.id)) == 2
    assert await store.read(calls.events, second.id) == []


async def test_line_that_a_full_disk_cut_off_costs_that_line_alone(store, tmp_path):
    """And what is appended behind it is read."""
    first, second = ended(1), ended(2)
    await opened(store, first, second)
    await Journal(tmp_path).keep([first])
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-20])
    await Journal(tmp_path).keep([second])
    await Journal(tmp_path).replay(store)
    assert (await store.read(calls.get, first.id)).result is None
    assert (await store.read(calls.get, second.id)).result == "completed"


@pytest.mark.parametrize(
    "junk",
    [b"\xff\xfe", b"{}", b"[1]", b"null", b'{"call_id":1,"tenant_id":1,"columns":3,"lines":1,"turns":1}',
     b'{"call_id":"c","tenant_id":"t","columns":{"ended_at":"x"},"lines":[],"turns":{}}',
     b'{"call_id":"c","tenant_id":"t","columns":{},"lines":[[1]],"turns":{"a":{}}}'],
)  # fmt: skip
async def test_junk_in_the_file_stops_nothing(store, tmp_path, junk):
    """The daemon starts; the call behind the junk is written."""
    call = ended()
    await opened(store, call)
    (tmp_path / NAME).write_bytes(junk + b"\n")
    await Journal(tmp_path).keep([call])
    await Journal(tmp_path).replay(store)
    assert (await store.read(calls.get, call.id)).result == "completed"


async def test_file_stays_while_the_store_does_not_take_it(store, tmp_path, monkeypatch):
    """Also when later calls have come and gone."""
    call, other = ended(1), ended(2)
    await opened(store, call)
    await Journal(tmp_path).keep([call])

    async def away(*_):
        raise StoreUnavailable("away")

    journal = Journal(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(store, "write", away)
        await journal.replay(store)
    await journal.keep([other])
    other.take()
    await journal.keep([other])
    await Journal(tmp_path).replay(store)
    assert (await store.read(calls.get, call.id)).result == "completed"


async def test_folder_that_cannot_be_used_stops_nothing(tmp_path):
    """Then what waits is in memory alone, as it always was."""
    call = ended()
    await Journal(None).keep([call])
    await Journal(tmp_path / "missing").keep([call])
    assert call.is_dirty


async def test_instances_that_share_a_folder_do_not_read_each_others(tmp_path):
    """Blue's records are not green's to remove."""
    await Journal(tmp_path, "blue").keep([ended()])
    (kept,) = tmp_path.iterdir()
    await Journal(tmp_path, "green").keep([])
    assert list(tmp_path.iterdir()) == [kept]
