"""The opt-out inside a call: committed, told, ended, and in force for the next request."""

from dataclasses import replace

import pytest

from control.calls import advance
from control.compliance.in_call import KEY_EVENT
from control.refusals import PolicyRefused
from control.store import consents, opt_outs
from tests.control.switchboard_rig import AGENT, THEIRS, open_rig, verbs

assert advance  # the rig's module needs control.calls


async def live(rig):
    """An outbound call that was answered and is being talked in."""
    record = await rig.dial()
    await rig.status(record.id, "in-progress")
    await rig.switchboard.answer(
        {"CallSid": record.twilio_call_sid, "CallStatus": "in-progress"}, record.id
    )
    rig.pool.event(record.id, "stream_started")
    return record


def told(rig):
    """What the agent was told."""
    return [command for command in rig.pool.commands if command[0] == "say"]


async def on_the_list(rig):
    return await rig.store.read(opt_outs.get, "tnt_default", THEIRS)


async def test_spoken_request_is_committed_confirmed_and_refuses_the_next_call(tmp_path):
    """An unknown purpose is marketing: Twilio says the confirmation, and the call ends."""
    async with open_rig(tmp_path) as rig:
        record = await live(rig)
        rig.pool.turn(record.id, 0, "agent", "Hello, this is Acme.")
        rig.pool.turn(record.id, 1, "user", "Oh no. Please stop calling me!")
        entry = await rig.until(lambda: on_the_list(rig))
        assert (entry.source, entry.call_id) == ("spoken", record.id)
        assert entry.evidence["words"] == "Oh no. Please stop calling me!"
        assert entry.evidence["turn"] == 1
        await rig.until(lambda: rig.twilio.instructed)
        ((sid, document),) = rig.twilio.instructed
        assert sid == record.twilio_call_sid
        assert verbs(document) == ["Say", "Hangup"]
        assert [what[1] for what in told(rig)] == [record.id]
        names = await rig.names(record.id)
        assert names.index("opt_out_requested") < names.index("opt_out_recorded")
        rig.pool.report(record.id)
        ended = await rig.ended(record.id)
        assert (ended.result, ended.reason) == ("completed", "the caller opted out")
        with pytest.raises(PolicyRefused) as refused:
            await rig.dial()
        rule = next(r for r in refused.value.decision["rules"] if r["outcome"] == "deny")
        assert rule["id"] == "DNC-INT"
        assert rule["inputs"]["opt_out_source"] == "spoken"


async def test_pressed_key_is_committed_and_ends_the_call(tmp_path):
    """The worker's own line for the key; other keys are none of it."""
    async with open_rig(tmp_path) as rig:
        record = await live(rig)
        assert rig.pool.plans[-1].opt_out_digit == "9"
        rig.pool.event(record.id, "dtmf")
        rig.pool.event(record.id, KEY_EVENT, at_ms=1_795_000_000_000)
        entry = await rig.until(lambda: on_the_list(rig))
        assert entry.source == "dtmf"
        assert entry.evidence["key"] == "9"
        await rig.until(lambda: rig.twilio.instructed)


async def test_request_cut_in_two_by_the_transcription_is_found(tmp_path):
    """The turn before belongs to it."""
    async with open_rig(tmp_path) as rig:
        record = await live(rig)
        rig.pool.turn(record.id, 1, "user", "Would you please stop")
        rig.pool.turn(record.id, 3, "user", "calling me?")
        entry = await rig.until(lambda: on_the_list(rig))
        assert entry.evidence["words"] == "Would you please stop calling me?"


async def test_informational_call_goes_on_after_the_opt_out(tmp_path):
    """The agent is told, says goodbye itself, and the suppression is in force."""
    agent = replace(AGENT, settings={"purpose": "informational"})
    async with open_rig(tmp_path, agent=agent) as rig:
        record = await live(rig)
        rig.pool.turn(record.id, 1, "user", "Remove me from your list")
        await rig.until(lambda: on_the_list(rig))
        await rig.until(lambda: told(rig))
        assert rig.twilio.instructed == []


async def test_call_that_owed_the_offer_of_an_opt_out_ends_whatever_it_calls_itself(tmp_path):
    """An emergency that nobody vouched for was judged as marketing, and ends like it."""
    agent = replace(
        AGENT,
        settings={"purpose": "emergency", "script": {"callback_number": True}},
        elevenlabs={"created": True, "first_message": "Hello."},
    )
    async with open_rig(tmp_path, agent=agent, rules=("system", "opt_out", "disc_script")) as rig:
        record = await live(rig)
        rig.pool.turn(record.id, 1, "user", "Please stop calling me!")
        await rig.until(lambda: rig.twilio.instructed)
        ((_, document),) = rig.twilio.instructed
        assert verbs(document) == ["Say", "Hangup"]


async def test_doubtful_words_suppress_and_the_call_goes_on(tmp_path):
    """Somebody has to look at it; a plain request afterwards still ends the call."""
    async with open_rig(tmp_path) as rig:
        record = await live(rig)
        rig.pool.turn(record.id, 1, "user", "I am not interested.")
        entry = await rig.until(lambda: on_the_list(rig))
        assert (entry.source, entry.reason) == ("spoken_review", "has to be looked at")
        assert rig.twilio.instructed == []
        rig.pool.turn(record.id, 3, "user", "So stop calling me.")
        await rig.until(lambda: rig.twilio.instructed)
        found = await rig.store.read(consents.revocations_of, "tnt_default", THEIRS)
        assert [one.source for one in found] == ["spoken_review", "spoken"]


async def test_inbound_caller_who_asks_is_suppressed_and_stays_on_the_line(tmp_path):
    """They called us: nothing is ended, but nobody calls them again."""
    async with open_rig(tmp_path) as rig:
        await rig.switchboard.answer(rig.form())
        record = await rig.only_record()
        assert rig.pool.plans[-1].opt_out_digit is None
        rig.pool.event(record.id, "stream_started")
        rig.pool.turn(record.id, 1, "user", "And stop calling my mobile.")
        entry = await rig.until(lambda: on_the_list(rig))
        assert entry.e164 == THEIRS
        await rig.until(lambda: told(rig))
        assert rig.twilio.instructed == []


@pytest.mark.parametrize("said", ["anonymous", "+266696687"])
async def test_caller_without_a_number_leaves_no_entry(tmp_path, said):
    """Nobody could call `anonymous`, however Twilio spells it."""
    async with open_rig(tmp_path) as rig:
        await rig.switchboard.answer(rig.form(From=said))
        record = await rig.only_record()
        rig.pool.event(record.id, "stream_started")
        rig.pool.turn(record.id, 1, "user", "Stop calling.")
        await rig.until(lambda: told(rig))
        items, _ = await rig.store.read(opt_outs.list_opt_outs, tenant_id="tnt_default")
        assert items == []


async def test_agent_that_says_stop_calling_opts_nobody_out(tmp_path):
    """Our own offer must not be taken for the caller's wish."""
    async with open_rig(tmp_path) as rig:
        record = await live(rig)
        rig.pool.turn(record.id, 0, "agent", "To stop these calls, say stop calling.")
        rig.pool.turn(record.id, 1, "user", "Fine, go on.")
        await rig.until(lambda: "user" in str(rig.switchboard._office.book.get(record.id).spoken))
        assert await on_the_list(rig) is None
