"""Who picked up an outbound call: a machine, a person, or nobody can say."""

from __future__ import annotations

import pytest

from tests.control.switchboard_rig import SID, answered, open_rig, ticket_of, verbs

DETECTED = {"CallSid": SID, "MachineDetectionDuration": "3900"}


async def _picked_up(rig, **wanted):
    """A call that asked for detection, answered, its stream running."""
    call_id = (await rig.dial(machine_detection=wanted)).id
    document = await rig.switchboard.answer(answered(), call_id)
    assert rig.switchboard.admit_stream(ticket_of(document)) == call_id
    rig.pool.event(call_id, "stream_started")
    await rig.until(lambda: rig.switchboard._office.book.get(call_id).attached)
    return call_id


async def test_machine_detection_is_asked_for_with_twilios_names(tmp_path):
    """Asynchronous, with our id in its callback; without a wish nothing is asked."""
    async with open_rig(tmp_path) as rig:
        wanted = {"on_machine": "hang_up", "mode": "fast", "timeout_s": 20}
        call_id = (await rig.dial(machine_detection=wanted)).id
        assert rig.twilio.created[0]["machine_detection"] == {
            "machine_detection": "Enable",
            "async_amd": "true",
            "async_amd_status_callback": rig.switchboard._office.urls.machine(call_id),
            "async_amd_status_callback_method": "POST",
            "machine_detection_timeout": 20,
        }
        assert (await rig.record(call_id)).machine_detection == wanted
        rig.twilio.answers = ["CA" + "2" * 32]
        await rig.dial("+14155550111")
        assert rig.twilio.created[1]["machine_detection"] == {}


async def test_machine_hangs_up_when_it_is_told_to(tmp_path):
    """The worker ends the talk; the record says that it was a machine, and which."""
    async with open_rig(tmp_path) as rig:
        call_id = await _picked_up(rig, on_machine="hang_up")
        form = DETECTED | {"AnsweredBy": "machine_end_beep"}
        await rig.switchboard.machine_detected(form, call_id)
        await rig.until(lambda: ("hang_up", call_id) in rig.pool.commands)
        rig.pool.ending(call_id, "completed", hang_up=True)
        await rig.until(lambda: rig.twilio.ended)
        rig.pool.report(call_id)
        record = await rig.ended(call_id)
        assert (record.result, record.blame, record.answered_by) == (
            "machine", None, "machine_end_beep",
        )  # fmt: skip
        assert "answered_by" in await rig.names(call_id)


async def test_machine_gets_the_message(tmp_path):
    """Twilio is given the words at the end of the greeting; the agent leg's end is not the call's."""
    async with open_rig(tmp_path) as rig:
        call_id = await _picked_up(rig, on_machine="leave_message", message="Call <us> back.")
        form = DETECTED | {"AnsweredBy": "machine_end_silence"}
        await rig.switchboard.machine_detected(form, call_id)
        await rig.switchboard.machine_detected(form, call_id)
        await rig.until(lambda: rig.twilio.instructed)
        rig.pool.report(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).report)
        assert (await rig.record(call_id)).ended_at is None
        await rig.status(call_id, "completed")
        record = await rig.ended(call_id)
        ((sid, document),) = rig.twilio.instructed
        assert sid == SID
        assert verbs(document) == ["Say", "Hangup"]
        assert "Call &lt;us&gt; back." in document
        assert (record.result, record.reason) == (
            "machine", "left a message on an answering machine",
        )  # fmt: skip


async def test_machine_without_words_for_it_is_told_to_the_agent(tmp_path):
    """The agent leaves the message itself."""
    async with open_rig(tmp_path) as rig:
        call_id = await _picked_up(rig, on_machine="leave_message")
        form = DETECTED | {"AnsweredBy": "machine_end_other"}
        await rig.switchboard.machine_detected(form, call_id)
        names = await rig.until(lambda: _named(rig, call_id, "agent_told_of_machine"))
        assert "answered_by" in names
        assert not rig.twilio.instructed


@pytest.mark.parametrize("answered_by", ["human", "unknown"])
async def test_person_or_doubt_goes_on(tmp_path, answered_by):
    """Only what is surely a machine is treated as one."""
    async with open_rig(tmp_path) as rig:
        call_id = await _picked_up(rig, on_machine="hang_up")
        await rig.switchboard.machine_detected(DETECTED | {"AnsweredBy": answered_by}, call_id)
        await _named(rig, call_id, "answered_by")
        assert (await rig.record(call_id)).answered_by == answered_by
        assert not [command for command in rig.pool.commands if command[0] == "hang_up"]


async def _named(rig, call_id, name):
    names = await rig.names(call_id)
    return names if name in names else None
