"""How the bridge ends a call, whoever ends it, and what comes after the end."""

import pytest

from gateway.bridge import CALLER_IDLE_TIMEOUT_S, REASON_MAX_CHARS
from gateway.events import Finished, Termination
from tests.peers import CALL_SID, FRAME, SPEECH, STREAM_SID, Table, b64

# ---- endings -------------------------------------------------------------------------------------


def test_agent_ends_the_call_after_its_last_words_were_heard(talk):
    """`end_call`, four seconds of audio, close 1000: all is played, the mark awaited, then the end."""
    talk.speak(SPEECH * 4)
    talk.tell(
        "agent_tool_response",
        "agent_tool_response",
        tool_name="end_call",
        tool_call_id="c",
        tool_type="system",
        is_error=False,
        is_called=True,
        event_id=2,
    )
    talk.from_agent(talk.agent.close(1000))
    talk.run(3.9)
    assert talk.end is None
    talk.run(0.3)
    assert talk.agent_audio() == SPEECH * 4
    assert talk.end == Termination("completed", None, "agent ended the call", True)


def test_agent_that_closes_normally_is_drained_too(talk):
    """Close 1000 without `end_call` (maximum duration, silence) ends the same way."""
    talk.speak(SPEECH)
    talk.from_agent(talk.agent.close(1000))
    talk.run(1.3)
    assert talk.agent_audio() == SPEECH
    assert talk.end.result == "completed"
    assert talk.end.hang_up


def test_lost_end_mark_does_not_hold_the_call_open(talk):
    """A deadline stands behind the mark: remaining audio and a margin."""
    talk.speak(SPEECH)
    talk.from_agent(talk.agent.close(1000))
    talk.run(2.9, echo_marks=False)
    assert talk.end is None
    talk.run(0.4, echo_marks=False)
    assert talk.end.result == "completed"
    assert "drain_timeout" in talk.names()


def test_end_call_without_a_closing_agent_ends_after_a_grace(talk):
    """Some agents leave the socket open."""
    talk.tell(
        "agent_tool_response",
        "agent_tool_response",
        tool_name="end_call",
        tool_call_id="c",
        tool_type="system",
        is_error=False,
        is_called=True,
        event_id=2,
    )
    talk.run(1.9)
    assert talk.end is None
    talk.run(0.5)
    assert talk.end.result == "completed"


def test_caller_hangs_up_and_the_agent_is_closed_at_once(talk):
    """Billing stops with the caller."""
    talk.speak(SPEECH)
    talk.run(0.2)
    talk.stop()
    assert talk.agent.closed == (1000, "call ended")
    assert talk.end == Termination("completed", None, "caller hung up", False)


def test_last_words_leave_before_the_goodbye(talk):
    """A frame and `stop` in one read: the frame is sent, then the close."""
    stop = talk.caller.json(
        event="stop", sequenceNumber="9", streamSid=STREAM_SID, stop={"callSid": CALL_SID}
    )
    talk.from_caller(talk.media(FRAME) + stop)
    assert talk.caller_audio() == FRAME
    assert talk.agent.closed == (1000, "call ended")


def test_caller_socket_lost_without_stop_is_told_as_such(talk):
    """The call may be alive at Twilio, so nobody is hung up on."""
    talk.bridge.caller_closed(talk.now_s, "connection reset")
    talk.settle()
    assert talk.end.result == "carrier_fault"
    assert talk.end.blame == "twilio"
    assert not talk.end.hang_up


@pytest.mark.parametrize("code", [1002, 1008, 1011, 3000, 3008, 4300])
def test_agent_that_closes_abnormally_is_blamed(unmended, code):
    """Twilio goes on with the verbs behind the stream; the record names the code."""
    unmended.from_agent(unmended.agent.close(code, "because"))
    assert unmended.end.result == "agent_fault"
    assert unmended.end.blame == "agent"
    assert str(code) in unmended.end.reason
    assert not unmended.end.hang_up


def test_error_event_before_the_close_names_the_cause(unmended):
    """The close alone says 1008; the event before it says why."""
    unmended.tell(
        "error",
        "error_event",
        code=1008,
        error_type="missing_dynamic_variable",
        message="Missing required dynamic variables",
    )
    unmended.from_agent(unmended.agent.close(1008))
    assert "missing_dynamic_variable" in unmended.end.reason


def test_agent_socket_lost_is_1006(unmended):
    """No closing handshake at all."""
    unmended.bridge.agent_closed(unmended.now_s, "connection reset")
    unmended.settle()
    assert "1006" in unmended.end.reason
    assert unmended.end.blame == "agent"


def test_agent_that_ends_before_the_caller_is_there_is_at_fault():
    """Nobody heard anything."""
    table = Table()
    table.connect_agent()
    table.from_agent(table.agent.close(1000))
    assert table.end.result == "agent_fault"


def test_silent_agent_is_given_up_after_its_idle_limit(unmended):
    """45 s without a single frame, pings included."""
    unmended.run(44.9, frames=True)
    assert unmended.end is None
    unmended.run(0.3)
    assert "silent" in unmended.end.reason


def test_pings_alone_keep_the_agent_leg_alive(talk):
    """A long stretch with only pings is healthy."""
    for _ in range(5):
        talk.run(20.0)
        talk.say(FRAME)
        talk.tell("ping", "ping_event", event_id=1)
    assert talk.end is None


def test_hang_up_from_outside_ends_now(talk):
    """The API's hangup does not wait for the sentence to end."""
    talk.speak(SPEECH)
    talk.run(0.1)
    talk.bridge.hang_up(Termination("completed", None, "asked to", True), talk.now_s)
    talk.settle()
    assert talk.end.reason == "asked to"
    talk.bridge.close(talk.now_s)
    talk.settle()
    assert talk.caller.closed == (1000, "call ended")
    assert talk.agent.closed == (1000, "call ended")


def test_nothing_is_played_after_the_end(talk):
    """Frames and ticks after the end change nothing."""
    talk.speak(SPEECH)
    talk.run(0.1)
    talk.stop()
    sent = len(talk.caller.received)
    talk.run(0.5, frames=True)
    assert len(talk.caller.received) == sent


def test_closing_handshake_started_by_twilio_is_answered(talk):
    """RFC 6455, 5.5.1."""
    talk.stop()
    talk.from_caller(talk.caller.close(1000))
    assert talk.caller.closed is not None
    assert talk.bridge.caller_is_done


# ---- what comes at the wrong moment --------------------------------------------------------------


def end_call(talk):
    talk.tell(
        "agent_tool_response",
        "agent_tool_response",
        tool_name="end_call",
        tool_call_id="tool_1",
        tool_type="system",
        is_error=False,
    )


def test_agent_that_talks_on_after_the_end_is_not_heard(talk):
    """Between the hang-up and our close control asks Twilio; until then the caller hears silence."""
    words = [
        talk.agent.json(
            type="audio", audio_event={"audio_base_64": b64(SPEECH[:1600]), "event_id": 7}
        ),
        talk.agent.json(
            type="user_transcript", user_transcription_event={"user_transcript": "hello?"}
        ),
        talk.agent.json(type="interruption", interruption_event={"event_id": 7}),
    ]
    talk.bridge.hang_up(Termination("policy", "policy", "opted out", True), talk.now_s)
    talk.settle()
    received, turns = len(talk.caller.received), talk.turns()
    for data in words:
        talk.from_agent(data)
    talk.run(1.0)
    assert len(talk.caller.received) == received
    assert talk.turns() == turns
    after = talk.events[[isinstance(event, Finished) for event in talk.events].index(True) + 1 :]
    assert [event.name for event in after] == ["agent_closed"]


def test_stream_that_starts_after_the_end_is_sent_nothing():
    """The agent failed while Twilio was on its way."""
    table = Table()
    table.connect_agent()
    table.speak(SPEECH)
    table.bridge.agent_closed(table.now_s)
    assert table.bridge.ended is not None
    table.start()
    table.run(1.0)
    assert table.caller.received == []


def test_agent_lost_while_draining_ends_without_the_grace(talk):
    """Nothing more can come: the last mark goes out at once."""
    talk.speak(SPEECH[:800])
    talk.run(0.06)
    end_call(talk)
    assert not [mark for mark in talk.messages("mark") if mark["mark"]["name"].endswith("end")]
    talk.bridge.agent_closed(talk.now_s)
    talk.settle()
    assert talk.messages("mark")[-1]["mark"]["name"].endswith("end")
    talk.run(0.2)
    assert talk.end.reason == "agent ended the call"


def test_words_behind_the_last_mark_are_heard_before_the_end(talk):
    """An agent that goes on after `end_call` is not cut by the echo of an earlier mark."""
    talk.speak(SPEECH[:800])
    talk.run(0.06)
    end_call(talk)
    talk.run(3.0, echo_marks=False)
    (mark,) = [m for m in talk.messages("mark") if m["mark"]["name"].endswith("end")]
    talk.speak(SPEECH[:8000], event_id=2)
    talk.echo(mark["mark"]["name"])
    assert talk.end is None
    talk.run(8.0)
    assert talk.end.reason == "agent ended the call"
    assert talk.agent_audio() == SPEECH[:800] + SPEECH[:8000]


def test_long_reason_of_the_agent_is_cut(unmended):
    """It travels in every record; a megabyte of it would not fit the link."""
    unmended.tell("error", "error_event", code=1, message="x" * 1_000_000)
    unmended.from_agent(unmended.agent.close(1008, "quota"))
    assert unmended.end.result == "agent_fault"
    assert len(unmended.end.reason) <= REASON_MAX_CHARS


def test_silent_stream_is_given_up_after_its_deadline():
    """Twilio sends all the time: a stream that says nothing is a dead connection, whatever the agent does."""
    table = Table()
    table.connect_agent()
    table.start()
    table.say(FRAME)
    for _ in range(round(CALLER_IDLE_TIMEOUT_S) - 1):
        table.run(1.0)
        table.tell("ping", "ping_event", event_id=1)
    assert table.end is None
    table.run(1.1)
    assert table.end.result == "carrier_fault"
    assert "silent" in table.end.reason
    assert not table.end.hang_up
