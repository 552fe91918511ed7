"""The agent leg is lost while the caller stays: what both sides hear, and what is counted."""

import dataclasses

import pytest

from gateway.bridge_core import MISSED_MAX
from gateway.comfort import LEVEL_DBOV, NOISE, ComfortNoise
from gateway.events import AgentLost, Termination, Turn
from gateway.g711 import level_dbfs
from gateway.settings import MediaSettings
from gateway.spoken import CONTEXT_MAX_CHARS, TURNS_MAX, Spoken
from tests.peers import FRAME, PLAN, Peer, Table

SPEECH = bytes((n * 31 + n // 160) % 256 for n in range(8_000))


@pytest.fixture
def talk():
    table = Table()
    table.connect_agent()
    table.start()
    return table


def lost(table):
    return [event for event in table.events if isinstance(event, AgentLost)]


def heard_after(table, at_s):
    """Media messages and when they were sent, from `at_s` on."""
    return [at for at, m in table.caller.received if m["event"] == "media" and at >= at_s]


# ---- the noise


def test_comfort_noise_has_its_level_and_no_seam():
    """-60 dBov within a decibel, the same from any place, however it is cut."""
    assert level_dbfs(NOISE) == pytest.approx(LEVEL_DBOV, abs=1.0)
    source = ComfortNoise()
    pieces = b"".join(source.take(size) for size in (320, 1, 31_000, 2_000, 320))
    assert pieces == (NOISE + NOISE)[: len(pieces)]
    assert source.bytes == len(pieces)


def test_noise_begins_at_once_when_nothing_is_queued(talk):
    """In the instant of the loss, and without a hole until the agent is back."""
    talk.run(0.5)
    at_s = talk.now_s
    talk.lose_agent()
    assert heard_after(talk, at_s)[0] == at_s
    talk.run(2.0)
    assert talk.agent_audio() == NOISE[: len(talk.agent_audio())]
    sent_ms = len(talk.agent_audio()) / 8
    assert 2000 < sent_ms <= 2120
    report = talk.bridge.downlink.report()
    assert report["comfort_noise_ms"] == sent_ms
    assert report["underruns"] == report["late_underruns"] == 0


def test_what_is_queued_plays_on_and_noise_follows_without_a_hole(talk):
    """A second of speech is there; the agent goes after its first word: the caller hears all of it."""
    talk.speak(SPEECH)
    talk.lose_agent()
    talk.run(1.5)
    audio = talk.agent_audio()
    assert audio[:8_000] == SPEECH
    assert audio[8_000:] == NOISE[: len(audio) - 8_000]
    assert len(audio) > 8_000 + 3_200
    report = talk.bridge.downlink.report()
    assert report["underruns"] == report["late_underruns"] == 0


def test_noise_stops_when_the_agent_is_back(talk):
    """Then silence is the agent's own."""
    talk.lose_agent()
    talk.run(0.4)
    talk.connect_agent()
    sent = len(talk.agent_audio())
    talk.run(1.0)
    assert len(talk.agent_audio()) - sent <= 40 * 8
    talk.speak(SPEECH)
    talk.run(1.2)
    assert talk.agent_audio().endswith(SPEECH)
    assert talk.note("agent_back").data["gap_ms"] == 400
    assert talk.bridge.report()["agent_gaps_ms"] == [400]


# ---- what is lost, and what ends the call as before


@pytest.mark.parametrize("code", [1001, 1002, 1006, 1011, 1012, 1013, 4300])
def test_leg_that_fails_in_mid_call_may_be_replaced(talk, code):
    """The bridge asks for another leg and does not end."""
    if code == 1006:
        talk.lose_agent()
    else:
        talk.from_agent(talk.agent.close(code, "oops"))
    (event,) = lost(talk)
    assert event.code == code
    assert talk.end is None
    assert talk.names().count("agent_lost") == 1
    assert talk.bridge.express_sid is None


@pytest.mark.parametrize(
    ("how", "result"),
    [
        (lambda t: t.from_agent(t.agent.close(1008, "policy")), "agent_fault"),
        (lambda t: t.from_agent(t.agent.close(3000, "unauthorized")), "agent_fault"),
        (lambda t: (t.from_agent(t.agent.close(1000)), t.run(0.2)), "completed"),
        (lambda t: (end_call(t), t.lose_agent(), t.run(0.2)), "completed"),
    ],
)
def test_what_a_redial_cannot_mend_ends_the_call(talk, how, result):
    """Policy, authorisation, the agent's own goodbye."""
    how(talk)
    assert talk.end.result == result
    assert lost(talk) == []


def end_call(table):
    table.tell(
        "agent_tool_response",
        "agent_tool_response",
        tool_name="end_call",
        tool_call_id="t1",
        tool_type="system",
        is_error=False,
    )


def test_agent_lost_before_the_caller_is_there_ends_as_before():
    """Control warms another one; nobody hears a gap."""
    table = Table()
    table.connect_agent()
    table.lose_agent()
    assert table.end.result == "agent_fault"


def test_agent_that_never_was_ready_ends_as_before():
    """An agent that cannot be reached at all is not dialled three times."""
    table = Table()
    table.start()
    table.bridge.agent_failed("signed URL was refused (500)", table.now_s)
    table.settle()
    assert table.end.result == "agent_fault"


def test_silent_agent_is_replaced(talk):
    """Its socket still stands: it is told goodbye, and what it says afterwards is not heard."""
    talk.run(45.2, frames=True)
    assert lost(talk)[0].reason.startswith("silent")
    assert talk.agent.closed == (1001, "lost")
    before = talk.bridge.downlink.chunks
    talk.bridge.agent_bytes(Peer(is_client=False).json(type="ping"), talk.now_s)
    assert talk.bridge.downlink.chunks == before
    assert talk.end is None


def test_given_up_ends_with_the_first_reason(talk):
    """As today: the stream is closed, so that Twilio asks how to go on."""
    talk.from_agent(talk.agent.close(1011, "oops"))
    talk.run(0.5)
    talk.bridge.agent_given_up(lost(talk)[0].reason, 1011, talk.now_s)
    talk.settle()
    assert talk.end == Termination(
        "agent_fault", "agent", "agent leg closed: oops (1011)", hang_up=False
    )
    talk.bridge.agent_given_up("again", None, talk.now_s)


def test_replacement_that_fails_before_it_is_ready_is_told_again(talk):
    """Both kinds of end of the second leg: 1000 as well is no end of the talk."""
    talk.lose_agent()
    talk.bridge.agent_opened(talk.now_s)
    talk.settle()
    talk.lose_agent()
    assert len(lost(talk)) == 2
    assert talk.names().count("agent_lost") == 1
    talk.run(0.2)
    talk.connect_agent()
    assert talk.note("agent_back").data["gap_ms"] == 200


@pytest.mark.parametrize("end", ["stop", "drain", "hang_up", "caller_lost"])
def test_call_may_end_during_the_gap(talk, end):
    """No noise and no other leg after it; frames that were held are accounted for."""
    talk.lose_agent()
    talk.run(0.3, frames=True)
    over = Termination("drained", "gateway", "bye", hang_up=True)
    match end:
        case "stop":
            talk.stop()
        case "drain":
            talk.bridge.drain(over, talk.now_s)
            talk.settle()
        case "hang_up":
            talk.bridge.hang_up(over, talk.now_s)
            talk.settle()
        case _:
            talk.bridge.caller_closed(talk.now_s)
            talk.settle()
    talk.run(0.5)
    assert talk.end is not None
    assert not talk.bridge.is_without_agent
    noise = talk.bridge.downlink.comfort.bytes
    talk.run(1.0)
    assert talk.bridge.downlink.comfort.bytes == noise


# ---- the next leg


def test_next_leg_is_told_what_was_said(talk):
    """As dynamic variable for the prompt, and as a contextual update for prompts that do not use it."""
    talk.tell("user_transcript", "user_transcription_event", user_transcript="A table for four.")
    talk.tell(
        "agent_response", "agent_response_event", agent_response="Certainly. When?", event_id=1
    )
    talk.speak(SPEECH)
    talk.run(1.5)
    talk.lose_agent()
    talk.connect_agent()
    first = talk.agent.received[0][1]
    assert first["dynamic_variables"]["gw_resume_context"] == (
        "Caller: A table for four.\nAgent: Certainly. When?"
    )
    assert first["dynamic_variables"]["gw_call_id"] == "call_test"
    update = next(m for _, m in talk.agent.received if m["type"] == "contextual_update")
    assert "A table for four." in update["text"]


def test_first_message_is_not_said_twice():
    """The lines that have to be said first are in it; once heard they are not repeated, else they are."""
    override = {"agent": {"first_message": "This call is recorded."}}
    for is_heard in (True, False):
        table = Table(plan=dataclasses.replace(PLAN, conversation_config_override=override))
        table.connect_agent()
        table.start()
        table.tell(
            "agent_response",
            "agent_response_event",
            agent_response="This call is recorded.",
            event_id=1,
        )
        table.speak(SPEECH)
        table.tell("agent_response_complete", "agent_response_complete_event", event_id=1)
        table.run(1.5 if is_heard else 0.2)
        table.lose_agent()
        table.connect_agent()
        assert ("conversation_config_override" in table.agent.received[0][1]) is not is_heard


def test_agent_that_takes_over_does_not_greet_anew():
    """Where it takes another first message: see `control.compliance.script.opening`."""
    override = {"agent": {"first_message": "Sorry, we were interrupted."}}
    table = Table(plan=dataclasses.replace(PLAN, redial_config_override=override))
    table.connect_agent()
    assert "conversation_config_override" not in table.agent.received[0][1]
    table.start()
    table.tell("agent_response", "agent_response_event", agent_response="Hello.", event_id=1)
    table.speak(SPEECH)
    table.tell("agent_response_complete", "agent_response_complete_event", event_id=1)
    table.run(1.5)
    table.lose_agent()
    table.connect_agent()
    assert table.agent.received[0][1]["conversation_config_override"] == override


def test_turns_go_on_counting_and_old_event_ids_do_not_matter(talk):
    """The new conversation counts its events from 1, below the old watermark."""
    talk.speak(SPEECH, event_id=7)
    talk.interrupt(7)
    talk.speak(SPEECH[:800], event_id=8)
    talk.lose_agent()
    talk.run(0.3)
    talk.connect_agent()
    talk.speak(SPEECH, event_id=1)
    talk.run(1.5)
    assert talk.agent_audio().endswith(SPEECH)
    assert sorted(talk.turns()) == [1, 2, 3]
    assert talk.bridge.downlink.report()["stale_ms"] == 0


def test_interruption_after_the_gap_counts_positions_rightly(talk):
    """Noise is nobody's turn: what was heard of the new leg's words is told to the byte."""
    talk.lose_agent()
    talk.run(0.5)
    talk.connect_agent()
    begun_s = talk.bridge.downlink.playout.horizon_s  # behind the rest of the noise
    chars = [chr(97 + n % 26) for n in range(100)]
    talk.speak(
        SPEECH,
        alignment={
            "chars": chars,
            "char_start_times_ms": [10 * n for n in range(100)],
            "char_durations_ms": [10] * 100,
        },
    )
    talk.run(0.5)
    talk.interrupt()
    turn = talk.turns()[1]
    assert turn.interrupted
    assert len(turn.heard) == pytest.approx((talk.now_s - begun_s) * 100, abs=1)


def test_turn_cut_short_by_the_loss_is_told_as_far_as_it_came(talk):
    """With alignment it is known which words ever arrived."""
    talk.tell("agent_response", "agent_response_event", agent_response="hello world", event_id=1)
    talk.speak(
        SPEECH[:4_000],
        alignment={
            "chars": list("hello"),
            "char_start_times_ms": [0, 100, 200, 300, 400],
            "char_durations_ms": [100] * 5,
        },
    )
    talk.lose_agent()
    turn = talk.turns()[1]
    assert (turn.heard, turn.interrupted) == ("hello", True)
    talk.connect_agent()
    variables = talk.agent.received[0][1]["dynamic_variables"]
    assert variables["gw_resume_context"] == "Agent: hello"


def test_caller_audio_of_the_gap_is_held_and_sent(talk):
    """Up to the bound; what is beyond it is counted."""
    talk.lose_agent()
    talk.run(0.5, frames=True)
    talk.connect_agent()
    assert talk.caller_audio() == FRAME * 25
    talk.lose_agent()
    talk.run(1.5, frames=True)
    talk.connect_agent()
    assert talk.caller_audio() == FRAME * 50
    assert talk.bridge.uplink.report()["early_dropped_frames"] == 25


def test_next_leg_may_have_other_formats(talk):
    """Transcoding is switched on and off with the leg."""
    talk.lose_agent()
    talk.connect_agent(listens="pcm_16000", speaks="pcm_16000")
    talk.run(0.2, frames=True)
    assert len(talk.caller_audio()) == pytest.approx(10 * 640, abs=200)
    talk.lose_agent()
    talk.connect_agent()
    talk.say(FRAME)
    assert talk.caller_audio() == FRAME


def test_keys_pressed_in_the_gap_are_told_later_and_bounded(talk):
    """In order; more than the bound is counted."""
    talk.lose_agent()
    for _ in range(MISSED_MAX + 3):
        talk.press("5")
    talk.bridge.say_to_agent("contextual_update", "lost as well")
    talk.connect_agent()
    assert sum("keypad" in text for text in talk.to_agent("text")) == MISSED_MAX
    assert talk.bridge.report()["problems"]["agent_missed"] == 4


def test_answers_of_tools_of_the_old_conversation_are_not_sent(talk):
    """The new one would not know what they answer."""
    talk.lose_agent()
    talk.bridge.tool_result("t1", "42", is_error=False)
    talk.connect_agent()
    assert all(m["type"] != "client_tool_result" for _, m in talk.agent.received if "type" in m)


def test_no_redial_when_switched_off():
    """`media.agent_redials = 0` closes the stream at once."""
    table = Table(settings=MediaSettings(agent_redials=0))
    table.connect_agent()
    table.start()
    table.lose_agent()
    assert table.end.result == "agent_fault"


# ---- what was said


def test_spoken_keeps_the_newest_turns_and_their_last_word():
    """Bounded in turns and characters; nothing of an older turn comes back."""
    spoken = Spoken()
    for number in range(1, TURNS_MAX + 11):
        spoken.tell(Turn(number, "user", f"turn {number}", 0.0))
    spoken.tell(Turn(3, "agent", "too old", 0.0, "too old"))
    spoken.tell(Turn(50, "user", "the last", 0.0))
    lines = spoken.context().splitlines()
    assert len(lines) == TURNS_MAX
    assert (lines[0], lines[-1]) == ("Caller: turn 11", "Caller: the last")
    for number in range(51, 91):
        spoken.tell(Turn(number, "agent", "x" * 5_000, 0.0))
    assert len(spoken.context()) == CONTEXT_MAX_CHARS
