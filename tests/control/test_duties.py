"""What an allow obliges a call to is done: its longest duration, its end on silence, no message where none may be."""

from __future__ import annotations

import pytest
import trio

from control.compliance import silence
from policy import Obligation, RuleResult
from tests.control.switchboard_rig import open_rig
from tests.control.test_in_call_opt_out import live


def obliging(*duties):
    """A rule that allows everything and wants this."""

    class Wants:
        id, version = "TEST-DUTY", 1

        def __call__(self, facts):
            return RuleResult(self.id, self.version, "allow", "with_duties", {}, None, duties)

    return (Wants(),)


@pytest.fixture
def rig_with(tmp_path):
    def made(*duties):
        return open_rig(tmp_path, made_rules=obliging(*duties))

    return made


async def test_time_limit_reaches_twilio_and_the_media_worker(rig_with):
    """The duty is below the gateway's own limit: both know it."""
    async with rig_with(Obligation("time_limit", {"seconds": 90})) as rig:
        await live(rig)
        (asked,) = rig.twilio.created
        assert asked["time_limit_s"] == 90 + 30
        assert rig.pool.plans[0].max_call_s == 90


async def test_silence_has_the_agent_ask_and_then_ends_the_call(rig_with):
    """First a word to the agent, then the end; a voice in between begins anew."""
    duty = Obligation("end_on_silence", {"prompt_after_s": 0.3, "end_after_s": 0.9})
    async with rig_with(duty) as rig:
        record = await live(rig)
        await rig.until(
            lambda: ("say", record.id, "user_message", silence.TELL_AGENT) in rig.pool.commands
        )
        assert ("hang_up", record.id) not in rig.pool.commands
        begun_s = trio.current_time()
        rig.pool.turn(record.id, 1, "user", "Yes, I am here")
        await rig.until(lambda: ("hang_up", record.id) in rig.pool.commands)
        assert trio.current_time() - begun_s >= 0.8
        rig.pool.report(record.id)
        assert (await rig.ended(record.id)).reason == silence.REASON


@pytest.mark.parametrize(("leaves", "forbidden"), [(True, False), (False, True)])
async def test_machine_gets_no_message_where_the_law_wants_none(rig_with, leaves, forbidden):
    """Marketing without a toll-free opt-out: the call is ended, whatever was asked for."""
    async with rig_with(Obligation("voicemail", {"leave_message": leaves})) as rig:
        record = await rig.dial(
            machine_detection={"on_machine": "leave_message", "message": "Please call us."}
        )
        sid = record.twilio_call_sid
        await rig.status(record.id, "in-progress")
        await rig.switchboard.answer({"CallSid": sid, "CallStatus": "in-progress"}, record.id)
        rig.pool.event(record.id, "stream_started")
        await rig.until(lambda: rig.switchboard._office.book.get(record.id).attached)
        form = {"CallSid": sid, "AnsweredBy": "machine_end_beep"}
        await rig.switchboard.machine_detected(form, record.id)
        hung_up = ("hang_up", record.id)
        await rig.until(lambda: hung_up in rig.pool.commands or rig.twilio.instructed)
        assert (hung_up in rig.pool.commands) is forbidden
        assert ("message_forbidden" in await rig.names(record.id)) is forbidden
