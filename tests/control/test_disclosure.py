"""The lines that duties become: in which agents they can be put first, what they say, and that they were heard."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control.compliance.hearing import was_abandoned
from control.compliance.profile import Profile
from control.compliance.script import lines_for, opening, script_of, takes_lines, with_lines
from control.elevenlabs import profile
from control.refusals import PolicyRefused
from control.store import calls as table
from tests.control.switchboard_rig import AGENT, name_of, open_rig

RULES = ("system", "opt_out", "disc_script", "rec_notice")
GREETING = "Your boiler is due for its service."
DUTIES = (
    {"kind": "offer_opt_out", "within_ms": 2000},
    {"kind": "identify", "within_ms": 2000, "seller": "Acme Roofing LLC"},
    {"kind": "disclose_ai", "position": 1},
    {"kind": "voicemail", "leave_message": False},
)
CALLBACK = {"script": {"callback_number": True}}


def agent_with(kept, **settings):
    return replace(AGENT, elevenlabs=kept, settings={"purpose": "informational"} | settings)


MADE = agent_with({"created": True, "managed": True, "first_message": GREETING}, **CALLBACK)
ADOPTED = agent_with({"created": False, "managed": False, "first_message": GREETING}, **CALLBACK)


@pytest.mark.parametrize(
    ("kept", "can"),
    [
        ({"created": True}, True),
        ({"created": False, "managed": True}, True),
        ({"created": False, "managed": False}, False),
        ({}, False),
        (None, False),
        ({"created": False, "takes_first_message": True}, True),
        ({"created": True, "takes_first_message": False}, False),
    ],
)
def test_lines_go_before_the_first_message_only_where_the_agent_takes_another(kept, can):
    """ElevenLabs ends a conversation with 1008 that brings what its agent does not allow."""
    agent = agent_with({**kept, "first_message": GREETING} if kept is not None else None)
    agent = replace(agent, settings=agent.settings | {"first_message": GREETING})
    lines = lines_for(agent, DUTIES, digit="9")
    assert takes_lines(agent) is can
    assert (with_lines(agent, lines) is not None) is can
    script = script_of(agent, Profile())
    said = (script.identification, script.ai_disclosure, script.opt_out_line)
    assert said == (can, can, can)
    assert script.recording_notice is can


def test_agent_that_waits_for_the_caller_has_no_first_message_to_put_lines_before():
    """An empty first message is the caller's turn."""
    assert not takes_lines(agent_with({"created": True, "first_message": ""}))


def test_script_of_an_adopted_agent_is_what_its_operator_declares():
    """Its own words are not known to say what the law wants."""
    declared = agent_with({"first_message": GREETING}, script={"identification": True, "x": 1})
    script = script_of(declared, Profile(callback_number="+18005550100", toll_free_opt_out=True))
    assert script.identification
    assert not script.ai_disclosure
    assert script.callback_number
    assert script.toll_free_opt_out


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        (
            "en-US",
            "Hello, this is a call from Acme Roofing LLC. I am an automated AI assistant. "
            "To stop these calls, press 9 or say stop calling.",
        ),
        (
            "de",
            "Guten Tag, hier ist Acme Roofing LLC. Ich bin ein automatischer KI-Assistent. "
            "Um keine Anrufe mehr zu erhalten, drücken Sie die 9 oder sagen Sie: keine Anrufe mehr.",
        ),
        (
            "pt",  # no lines in it: English
            "Hello, this is a call from Acme Roofing LLC. I am an automated AI assistant. "
            "To stop these calls, press 9 or say stop calling.",
        ),
    ],
)
def test_lines_are_said_in_the_order_of_the_law_and_in_the_agents_language(language, sentences):
    """Who calls, that it is a machine, and how to stop it; then the agent's own words."""
    agent = replace(MADE, settings=MADE.settings | {"language": language})
    lines = lines_for(agent, DUTIES, digit="9")
    assert [kind for kind, _ in lines] == ["identify", "disclose_ai", "offer_opt_out"]
    assert with_lines(agent, lines) == f"{sentences} {GREETING}"


def test_line_that_the_first_message_says_already_is_not_said_twice():
    """An operator may have written it out."""
    agent = agent_with(
        {"created": True, "first_message": f"I am an automated AI assistant. {GREETING}"}
    )
    lines = lines_for(agent, DUTIES[2:3], digit="9")
    assert with_lines(agent, lines) is None


@pytest.mark.parametrize(
    ("platform", "allowed"),
    [
        ({"overrides": {"conversation_config_override": {"agent": {"first_message": True}}}}, True),
        (
            {"overrides": {"conversation_config_override": {"agent": {"first_message": False}}}},
            False,
        ),
        ({"overrides": {"conversation_config_override": {"agent": {"language": True}}}}, False),
        ({"overrides": None}, False),
        ({}, False),
    ],
)
def test_whether_an_agent_takes_another_first_message_is_read_from_its_configuration(
    platform, allowed
):
    """The leaf has to be switched on; anything else is no."""
    found = {"conversation_config": {}, "platform_settings": platform}
    assert profile.takes_first_message(found) is allowed


async def test_call_of_an_adopted_agent_without_declared_lines_is_refused(tmp_path):
    """Nothing is dialled that could not say what it has to."""
    async with open_rig(tmp_path, agent=ADOPTED, rules=RULES) as rig:
        with pytest.raises(PolicyRefused) as refused:
            await rig.dial()
        denied = {
            one["id"]: one for one in refused.value.decision["rules"] if one["outcome"] == "deny"
        }
        assert set(denied) == {"DISC-SCRIPT", "REC-NOTICE"}
        assert "ai_disclosure" in denied["DISC-SCRIPT"]["inputs"]["lacking"]


async def test_call_of_an_adopted_agent_with_declared_lines_sends_no_override(tmp_path):
    """It says them itself; an override would end the conversation."""
    declared = {"identification": True, "ai_disclosure": True, "opt_out_line": True}
    declared |= {"recording_notice": True, "callback_number": True}
    agent = replace(ADOPTED, settings=ADOPTED.settings | {"script": declared})
    async with open_rig(tmp_path, agent=agent, rules=RULES) as rig:
        record = await rig.dial()
        await rig.status(record.id, "in-progress")
        await rig.switchboard.answer(
            {"CallSid": record.twilio_call_sid, "CallStatus": "in-progress"}, record.id
        )
        assert rig.pool.plans[-1].conversation_config_override == {}


async def test_lines_that_the_caller_has_heard_are_noted_and_those_cut_off_are_not(tmp_path):
    """What counts is what was played, not what was generated."""
    async with open_rig(tmp_path, agent=MADE, rules=RULES) as rig:
        record = await rig.dial()
        await rig.status(record.id, "in-progress")
        await rig.switchboard.answer(
            {"CallSid": record.twilio_call_sid, "CallStatus": "in-progress"}, record.id
        )
        said = rig.pool.plans[-1].conversation_config_override["agent"]["first_message"]
        assert said.startswith("Hello, this is a call from")
        assert said.endswith(GREETING)
        rig.pool.event(record.id, "stream_started")
        heard = said[: said.index("This call is recorded")]
        rig.pool.turn(record.id, 0, "agent", said, heard=heard, interrupted=True)
        rig.pool.report(record.id)
        await rig.ended(record.id)
        names = await rig.names(record.id)
        assert names.count("disclosure_heard") == 2


def by_words(text, ms_a_word=100):
    """As a worker tells it: the beginning of each word, and the end of the audio."""
    return [n * ms_a_word for n in range(len(text.split()) + 1)]


async def answered(rig):
    """A call of the made agent, picked up: the record, the moment, and the first message."""
    record = await rig.dial()
    await rig.status(record.id, "in-progress")
    await rig.switchboard.answer(
        {"CallSid": record.twilio_call_sid, "CallStatus": "in-progress"}, record.id
    )
    call = rig.switchboard._office.book.get(record.id)
    picked_up_ms = round(call.answered_at.timestamp() * 1000)
    override = rig.pool.plans[-1].conversation_config_override
    return record, picked_up_ms, override["agent"]["first_message"] if override else ""


async def test_record_says_when_each_line_was_heard_by_the_marks(tmp_path):
    """100 ms a word, from 700 ms after the pick-up; the offer counts from its beginning, the others to their end."""
    marketing = replace(MADE, settings=MADE.settings | {"purpose": "marketing"})
    async with open_rig(tmp_path, agent=marketing, rules=RULES) as rig:
        record, picked_up_ms, said = await answered(rig)
        rig.pool.event(record.id, "stream_started", picked_up_ms + 300)
        rig.pool.event(record.id, "first_word_heard", picked_up_ms + 700)
        rig.pool.turn(
            record.id, 0, "agent", said, heard=said, heard_from_ms=picked_up_ms + 700, word_ms=by_words(said),
        )  # fmt: skip
        rig.pool.report(record.id)
        ended = await rig.ended(record.id)
        found = ended.legs["disclosure"]
        until = {
            name: 700 + 100 * len(said[: said.index(following)].split())
            for name, following in (
                ("disclosed_identity_ms", "I am an automated"),
                ("disclosed_ai_ms", "To stop these calls"),
            )
        }
        offer = 700 + 100 * len(said[: said.index("To stop these calls")].split())
        assert found["first_word_ms"] == 700
        assert {name: found[name] for name in until} == until
        assert found["offered_optout_ms"] == offer
        assert offer - found["disclosed_identity_ms"] <= 2000
        assert ended.abandoned is False
        lines = [line.data for line in await rig.store.read(table.events, record.id)
                 if line.name == "disclosure_heard"]  # fmt: skip
        assert {line["kind"] for line in lines} >= {"identify", "disclose_ai", "offer_opt_out"}
        assert all(700 <= line["from_ms"] < line["until_ms"] for line in lines)


async def test_line_that_was_sent_but_not_marked_has_no_time_and_one_cut_off_is_not_there(tmp_path):
    """Text that was sent is no proof."""
    async with open_rig(tmp_path, agent=MADE, rules=RULES) as rig:
        record, picked_up_ms, said = await answered(rig)
        rig.pool.event(record.id, "stream_started", picked_up_ms + 300)
        rig.pool.turn(record.id, 0, "agent", said)
        heard = said[: said.index("I am an automated")]
        rig.pool.turn(record.id, 0, "agent", said, heard=heard, interrupted=True)
        rig.pool.report(record.id)
        ended = await rig.ended(record.id)
        assert "disclosure" not in ended.legs


@pytest.mark.parametrize(
    ("first_word_ms", "answered_by", "abandoned"),
    [(2000, None, False), (2001, None, True), (None, None, True), (None, "machine_start", None)],
)
async def test_call_is_abandoned_when_a_person_heard_no_word_in_two_seconds(
    tmp_path, first_word_ms, answered_by, abandoned
):
    """The limit itself is in time; a machine is nobody."""
    async with open_rig(tmp_path, agent=MADE, rules=RULES) as rig:
        record, picked_up_ms, _ = await answered(rig)
        call = rig.switchboard._office.book.get(record.id)
        call.answered_by = answered_by
        rig.pool.event(record.id, "stream_started", picked_up_ms + 300)
        if first_word_ms is not None:
            rig.pool.event(record.id, "first_word_heard", picked_up_ms + first_word_ms)
            await rig.until(lambda: call.legs.get("disclosure"))
        assert was_abandoned(call, call.answered_at + timedelta(seconds=20)) is abandoned
        assert (await rig.record(record.id)).campaign == "agt_1"


async def test_who_hung_up_before_two_seconds_were_over_was_not_abandoned(tmp_path):
    """There was no time to speak."""
    async with open_rig(tmp_path, agent=MADE, rules=RULES) as rig:
        record, _, _ = await answered(rig)
        call = rig.switchboard._office.book.get(record.id)
        assert was_abandoned(call, call.answered_at + timedelta(seconds=1.9)) is None
        assert was_abandoned(call, call.answered_at + timedelta(seconds=2)) is True


@pytest.mark.parametrize(
    ("takes", "heard", "said"),
    [
        (True, "Hello, how can", "Sorry, we were interrupted. Please go on."),
        (True, "", None),
        (False, "Hello, how can", None),
    ],
)
async def test_agent_that_takes_a_call_up_again_does_not_greet_anew(tmp_path, takes, heard, said):
    """Unless the caller has heard nothing of the greeting, or the agent takes no other first message."""
    kept = {"takes_first_message": takes, "first_message": "Hello, how can I help?"}
    agent = replace(AGENT, elevenlabs=kept)
    async with open_rig(tmp_path, agent=agent) as rig:
        call_id = name_of(await rig.switchboard.answer(rig.form()))
        rig.pool.event(call_id, "stream_started")
        rig.pool.turn(call_id, 0, "agent", "Hello, how can I help?", heard=heard)
        rig.pool.lose(call_id)
        await rig.until(lambda: rig.switchboard._office.book.get(call_id).lost)
        await rig.switchboard.continue_call(rig.form(), call_id)
        first, second = rig.pool.plans
        assert first.conversation_config_override == {}
        assert second.conversation_config_override == (
            {"agent": {"first_message": said}} if said else {}
        )
        assert bool(second.redial_config_override) is takes


def test_line_that_was_cut_off_is_said_before_the_talk_goes_on():
    """What the law wants said is said whole."""
    agent = replace(AGENT, elevenlabs={"created": True, "first_message": "Hello."})
    lines = [("disclose_ai", "I am an automated AI assistant.")]
    again = opening(agent, is_back=True)
    assert with_lines(agent, lines, again) == (
        "I am an automated AI assistant. Here I am again. How may I help you?"
    )
