"""What a daemon that leaves does with its calls when another instance stays, and what that one makes of them."""

from __future__ import annotations

import trio

from control import leaving
from control.store import calls as table
from control.store import nodes
from tests.control.switchboard_rig import NOW, SID, name_of, open_rig, ticket_of, verbs

HEIR = "host|127.0.0.1:8081"


async def heir():
    return HEIR


async def talking(rig, sid=SID):
    call_id = name_of(await rig.switchboard.answer(rig.form(sid)))
    rig.pool.event(call_id, "stream_started")
    await rig.until(lambda: rig.switchboard._office.book.get(call_id).attached)
    await rig.switchboard._write_down()
    return call_id


async def told(rig, node=HEIR):
    return [(m.call_id, m.what) for m in await rig.store.write(nodes.listen, node)]


async def test_hand_over_writes_down_then_closes_the_stream_then_gives_the_call_away(tmp_path):
    """In this order: Twilio asks the successor as soon as the stream is closed. Nothing is ended by REST."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.switchboard.drain, heir)
            await rig.until(lambda: ("drain_handing_over", call_id) in rig.pool.commands)
            rig.pool.turn(call_id, 0, "agent", "One moment", heard="One moment")
            rig.pool.ending(call_id, "handed_over", hang_up=True)
            await rig.until(lambda: ("close", call_id) in rig.pool.commands)
            (turn,) = await rig.store.read(table.turns, call_id)
            assert turn.heard == "One moment"
            record = await rig.record(call_id)
            assert record.node != HEIR
            assert record.legs["handed_over"]["times"] == 1
            rig.pool.report(call_id, "handed_over", "handed over to another daemon")
        record = await rig.record(call_id)
        assert (record.node, record.ended_at, record.status) == (HEIR, None, "in-progress")
        assert record.media == {"frames": 7}
        assert rig.twilio.ended == []


async def test_hand_over_tells_the_successor(tmp_path):
    """So that it opens an agent leg while Twilio says the apology."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.switchboard.drain, heir)
            await rig.until(lambda: ("drain_handing_over", call_id) in rig.pool.commands)
            rig.pool.ending(call_id, "handed_over", hang_up=True)
            await rig.until(lambda: ("close", call_id) in rig.pool.commands)
            rig.pool.report(call_id, "handed_over")
        assert await told(rig) == [(call_id, "take_over")]
        assert len(rig.switchboard._office.book) == 0


async def test_calls_end_by_themselves_before_anything_is_handed_over(tmp_path):
    """Until the drain is over the daemon is all there for its calls."""
    async with open_rig(tmp_path, media={"drain_timeout_s": 60.0}) as rig:
        call_id = await talking(rig)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.switchboard.drain, heir)
            await rig.until(lambda: rig.switchboard.draining)
            rig.pool.report(call_id)
        record = await rig.record(call_id)
        assert record.result == "completed"
        assert await told(rig) == []
        assert not [command for command in rig.pool.commands if "handing_over" in command[0]]


async def test_ringing_call_is_given_away_and_rings_on(tmp_path):
    """A telephone that rings is not hung up for a deploy; its warm agent leg is let go."""
    async with open_rig(tmp_path) as rig:
        record = await rig.dial()
        await rig.status(record.id, "ringing")
        await rig.until(lambda: rig.pool.holds(record.id))
        await rig.switchboard.drain(heir)
        assert rig.twilio.ended == []
        assert ("cancel", record.id) in rig.pool.commands
        after = await rig.record(record.id)
        assert (after.node, after.status, after.ended_at) == (HEIR, "ringing", None)
        assert await told(rig) == [(record.id, "take_over")]


async def test_twilio_quicker_than_the_last_report_changes_nothing_of_the_successors(tmp_path):
    """The successor has claimed the call already: only what was said is added."""
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.switchboard.drain, heir)
            await rig.until(lambda: ("drain_handing_over", call_id) in rig.pool.commands)
            rig.pool.ending(call_id, "handed_over", hang_up=True)
            await rig.until(lambda: ("close", call_id) in rig.pool.commands)
            record = await rig.record(call_id)
            assert await rig.store.write(nodes.claim, record, HEIR)
            await rig.store.write(_set_media, call_id)
            rig.pool.report(call_id, "handed_over")
        after = await rig.record(call_id)
        assert (after.node, after.media) == (HEIR, {"mine": 1})
        assert await told(rig) == []


def _set_media(conn, call_id):
    table.update(conn, call_id, media={"mine": 1})


async def test_sentence_that_does_not_end_is_cut(tmp_path, monkeypatch):
    """An agent that talks on for ever does not keep the daemon from leaving."""
    monkeypatch.setattr(leaving, "SENTENCE_S", 0.05)
    monkeypatch.setattr(leaving, "REPORT_S", 0.05)
    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        await rig.switchboard.drain(heir)
        assert ("hang_up_handing_over", call_id) in rig.pool.commands
        assert (await rig.record(call_id)).node == HEIR


async def test_successor_that_has_gone_meanwhile_is_none(tmp_path, monkeypatch):
    """Asked again when the drain is over; calls are ended in order then."""
    monkeypatch.setattr(leaving, "DRAIN_MARGIN_S", 0.1)
    answers = [HEIR, None]

    async def dies():
        return answers.pop(0)

    async with open_rig(tmp_path) as rig:
        call_id = await talking(rig)
        await rig.switchboard.drain(dies)
        assert rig.twilio.ended == [SID]
        assert (await rig.record(call_id)).result == "drained"


async def test_daemon_that_has_left_is_not_alive_any_more(tmp_path):
    """What it may have left open is anybody's at once, not after its lease."""
    async with open_rig(tmp_path) as rig:
        node = rig.switchboard._office.node
        assert await rig.store.read(nodes.is_alive, node, NOW)
        await rig.switchboard.drain()
        assert not await rig.store.read(nodes.is_alive, node, NOW)


# ---- the successor -------------------------------------------------------------------------------


async def given(rig, *, times=1, resumes=0):
    """A call in progress that a daemon which has left gave to this one."""
    call_id = name_of(await rig.switchboard.answer(rig.form()))
    call = rig.switchboard._office.book.get(call_id)
    rig.pool.event(call_id, "stream_started")
    await rig.until(lambda: call.attached)
    rig.pool.turn(call_id, 0, "agent", "Hello, Acme here", heard="Hello, Acme here")
    await rig.until(lambda: call.spoken)
    call.leg("handed_over", {"times": times, "at_ms": 1})
    call.change(media={"frames": 7}, resumes=resumes, node="host|elsewhere")
    await rig.switchboard._write_down()
    rig.switchboard._office.book.remove(call)
    rig.pool.homes.clear()
    rig.pool.plans.clear()
    await rig.store.write(
        nodes.give,
        call_id=call_id,
        node="host|elsewhere",
        heir=rig.switchboard._office.node,
        now=NOW,
    )
    return call_id


async def test_given_call_is_warm_before_twilio_asks_and_is_warmed_once(tmp_path):
    """One agent leg, told what was said; Twilio's question finds it."""
    async with open_rig(tmp_path) as rig:
        call_id = await given(rig)
        await rig.until(lambda: rig.pool.plans)
        document = await rig.switchboard.continue_call(rig.form(), call_id)
        assert verbs(document) == ["Connect", "Say", "Redirect"]
        assert rig.switchboard.admit_stream(ticket_of(document)) == call_id
        (plan,) = rig.pool.plans
        assert plan.dynamic_variables["gw_resume_context"] == "Agent: Hello, Acme here"
        assert plan.turn_offset == 1
        rig.pool.event(call_id, "stream_started")
        rig.pool.report(call_id, media={"frames": 9})
        record = await rig.ended(call_id)
        assert (record.result, record.resumes) == ("completed", 1)
        assert record.media == {"frames": 9, "before_resume": [{"frames": 7}]}


async def test_call_may_be_handed_over_more_often_than_repaired(tmp_path):
    """Each deploy costs a resume; what is limited is failures."""
    async with open_rig(tmp_path) as rig:
        await given(rig, times=3, resumes=2)
        await rig.until(lambda: rig.pool.plans)


async def test_caller_who_hangs_up_in_the_apology_is_our_fault(tmp_path):
    """Not `cancelled before the stream`: they were talking."""
    async with open_rig(tmp_path) as rig:
        call_id = await given(rig)
        await rig.until(lambda: rig.pool.plans)
        await rig.status(call_id, "completed")
        rig.pool.report(call_id, "cancelled", "Twilio: completed", attached=False)
        record = await rig.ended(call_id)
        assert (record.result, record.blame) == ("gateway_fault", "gateway")
        assert "handed over" in record.reason


async def test_call_that_comes_in_the_last_moment_is_sent_to_the_successor(tmp_path):
    """Its question was accepted before this instance stopped accepting; without a successor the line is busy."""
    async with open_rig(tmp_path) as rig:
        await rig.switchboard.drain(heir)
        document = await rig.switchboard.answer(rig.form())
        assert verbs(document) == ["Redirect"]
        assert "https://gw.example.com/twilio/voice<" in document
        assert rig.pool.plans == []


async def test_connections_are_ours_by_ticket_and_by_call(tmp_path):
    """While it drains, how a call goes on is for the other instance to say; everything else is still its own."""
    async with open_rig(tmp_path, media={"drain_timeout_s": 60.0}) as rig:
        document = await rig.switchboard.answer(rig.form())
        about = rig.switchboard.is_about_ours
        call_id = name_of(document)
        assert about(ticket=ticket_of(document))
        assert about(call_id=call_id, path="/twilio/continue")
        assert not about(ticket="guess")
        assert not about(call_id="call_none", path="/twilio/status")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.switchboard.drain, heir)
            await rig.until(lambda: rig.switchboard.draining)
            assert not about(call_id=call_id, path="/twilio/continue")
            assert about(call_id=call_id, path="/twilio/status")
            assert about(ticket=ticket_of(document))
            nursery.cancel_scope.cancel()
