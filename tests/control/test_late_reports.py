"""Reports that come late, twice or never, and conversations that would be missed for it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from control import ending, switchboard
from control.store import StoreUnavailable, conversations
from control.twilio.rest import CallSeen
from gateway.link import CallReport
from tests.control.left_open_rig import fetch_answering, left_open
from tests.control.switchboard_rig import NOW, SID, FakeTwilio, name_of, open_rig


async def test_report_of_a_closed_call_still_names_its_conversation(tmp_path):
    """It came after the end was written; told twice, it is one line, and a report about nobody is dropped."""
    before = left_open(
        status="completed",
        result="cancelled",
        ended_at=NOW,
        twilio_call_sid=SID,
        dial_state="created",
    )
    async with open_rig(tmp_path, before=before) as rig:
        rig.pool.report("call_nobody", conversation_id="conv_0")

        async def lines():
            return (await rig.names("call_old")).count("reported_late")

        with trio.fail_after(10):
            for count, conversation_ids in enumerate((("conv_1", "conv_1"), ("conv_2",)), 1):
                for conversation_id in conversation_ids:
                    rig.pool.report("call_old", conversation_id=conversation_id)
                while await lines() < count:
                    await trio.sleep(0.01)
        assert (await rig.record("call_old")).conversation_id == "conv_1"
        assert await lines() == 2


async def test_report_of_a_closed_call_waits_for_the_store_and_its_file_with_it(
    tmp_path, monkeypatch
):
    """A worker left it on the disk, and the store goes away when it is read: it is written later, and only then is it removed."""
    before = left_open(
        status="completed",
        result="cancelled",
        ended_at=NOW,
        twilio_call_sid=SID,
        dial_state="created",
    )
    spool, keep, tries = tmp_path / "w1.spool", ending.late.keep, []

    def keep_at_last(conn, report):
        tries.append(spool.exists())
        if len(tries) < 4:
            raise StoreUnavailable("away")
        return keep(conn, report)

    spool.touch()
    monkeypatch.setattr(ending.late, "keep", keep_at_last)
    monkeypatch.setattr(ending, "LATE_REPORT_AGAIN_S", (0.1, 0.1, 0.1))
    monkeypatch.setattr(switchboard, "FLUSH_EVERY_S", 0.01)
    async with open_rig(tmp_path, before=before) as rig:
        rig.pool.report("call_old", conversation_id="conv_1")
        rig.pool.spool_read(spool)
        await rig.until(lambda: not spool.exists())
        assert tries == [True] * 4
        assert (await rig.record("call_old")).conversation_id == "conv_1"


async def test_file_of_a_report_that_could_not_be_written_stays_for_the_next_process(
    tmp_path, monkeypatch
):
    """The store was away for too long. Told again, it costs nothing."""
    spool, tries = tmp_path / "w1.spool", []

    def keep_never(_conn, report):
        tries.append(report.call_id)
        raise StoreUnavailable("away")

    spool.touch()
    monkeypatch.setattr(ending.late, "keep", keep_never)
    monkeypatch.setattr(ending, "LATE_REPORT_AGAIN_S", (0.01,))
    async with open_rig(tmp_path) as rig:
        rig.pool.report("call_old", conversation_id="conv_1")
        rig.pool.spool_read(spool)
        await rig.until(lambda: len(tries) == 2)
        await rig.switchboard._write_down()
        await rig.switchboard._write_down()
        assert spool.exists()


async def test_call_closed_before_its_worker_has_reported_may_miss_a_conversation(tmp_path):
    """Until the worker's last word has come, with a conversation or without one."""
    async with open_rig(tmp_path) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        await rig.status(None, "completed")
        rig.expire(call_id)
        record = await rig.ended(call_id)
        assert record.legs["agent"] == {"unheard": "unreported"}
        rig.pool.report(call_id, "cancelled", attached=False, conversation_id=None)
        await rig.until(lambda: _is_heard(rig, call_id))
        assert (await rig.record(call_id)).conversation_id is None


@pytest.mark.parametrize("comes", ["before the end", "behind the end", "behind the record"])
async def test_conversation_that_was_ended_before_it_had_a_name_is_looked_for(tmp_path, comes):
    """The worker's report says that one was begun; until its name is found the record may miss it."""
    async with open_rig(tmp_path) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        said = {"attached": False, "conversation_id": None, "is_unnamed": True}
        if comes == "before the end":
            rig.pool.report(call_id, "cancelled", **said)
            await rig.status(None, "completed")
        else:
            await rig.status(None, "completed")
            rig.expire(call_id)
            if comes == "behind the record":
                await rig.ended(call_id)
            rig.pool.report(call_id, "cancelled", **said)
        record = await rig.ended(call_id)
        await trio.testing.wait_all_tasks_blocked(0.1)
        agent = (await rig.record(call_id)).legs["agent"]
        assert agent["unheard"] in ("unnamed", "unreported")
        assert "is_unnamed" not in agent
        assert conversations.may_miss_one(record)


async def _is_heard(rig, call_id):
    return (await rig.record(call_id)).legs["agent"] == {}


@pytest.mark.parametrize("dies", ["worker", "control"])
async def test_call_of_a_process_that_died_may_miss_a_conversation(tmp_path, dies):
    """Whatever was told since."""
    before = left_open(twilio_call_sid=SID, dial_state="created") if dies == "control" else None
    async with open_rig(tmp_path, before=before) as rig:
        if dies == "worker":
            call_id = name_of(await rig.switchboard.answer(rig.form()))
            rig.pool.lose(call_id)
            await rig.until(lambda: rig.pool.holds(call_id))
            rig.pool.report(call_id, "cancelled", attached=False)
        else:
            call_id = "call_old"
        await rig.status(call_id, "completed")
        record = await rig.ended(call_id)
        assert record.legs["agent"]["unheard"] == "lost"


@pytest.mark.parametrize(
    ("warm", "status", "may_miss"),
    [("answer", "busy", False), ("answer", "completed", True), ("ringing", "busy", True)],
)
async def test_call_that_nobody_answered_misses_no_conversation_where_agents_wait_for_the_answer(
    tmp_path, monkeypatch, warm, status, may_miss
):
    """Else its message would wait until a conversation is found that there never was."""
    seen = CallSeen(SID, status, "", "", NOW, None)
    monkeypatch.setattr(FakeTwilio, "fetch_call", fetch_answering(seen))
    before = left_open(twilio_call_sid=SID, dial_state="created")
    async with open_rig(tmp_path, before=before, media={"warm_outbound": warm}) as rig:
        await rig.status("call_old", status)
        record = await rig.ended("call_old")
        assert ("unheard" in (record.legs.get("agent") or {})) is may_miss


async def test_start_last_word_of_a_worker_that_outlived_goes_before_twilios(tmp_path, monkeypatch):
    """It tells again what the former process may not have written down: the call was a talk, and had two agent legs."""
    monkeypatch.setattr(
        FakeTwilio, "fetch_call", fetch_answering(CallSeen(SID, "completed", "", "", NOW, None))
    )
    before = left_open(status="ringing", twilio_call_sid=SID, dial_state="created")
    async with open_rig(tmp_path, before=before, outlived=True) as rig:
        rig.pool.event("call_old", "stream_started")
        rig.pool.report("call_old", reason="agent ended the call")
        record = await rig.ended("call_old")
        assert (record.result, record.reason) == ("completed", "agent ended the call")
        assert record.legs["agent"]["unheard"] == "lost"


async def test_report_behind_the_end_leaves_other_legs_in_doubt(tmp_path):
    """The call is closed and not written yet: what another leg may have had is not settled by this report."""
    async with open_rig(tmp_path) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.pool.holds(call_id))
        office = rig.switchboard._office
        call = office.book.get(call_id)
        rig.switchboard._ending.close(call)
        rig.switchboard._ending._reported(call, _report(call_id))
        record = await rig.ended(call_id)
        assert record.legs["agent"]["unheard"] == "lost"


def _report(call_id):
    named = {"conversation_id": "conv_2", "stream_sid": None, "twilio_call_sid": SID}
    ended = {"result": "cancelled", "blame": None, "reason": "the call is over", "at_ms": 5000}
    return CallReport(call_id, attached=False, media={}, legs={"agent": {}}, **ended, **named)
