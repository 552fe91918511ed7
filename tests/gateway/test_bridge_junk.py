"""What the peers of the bridge may do wrong: counted and survived, or the end of that leg."""

import pytest

from gateway.settings import MediaSettings
from tests.peers import FRAME, SPEECH, STREAM_SID, Table


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("not json", "caller_malformed_message"),
        ('{"event":"media","streamSid":"x"}', "caller_malformed_message"),
        ('{"event":"new_thing","streamSid":"x"}', "caller_unknown_event"),
    ],
)
def test_malformed_caller_message_is_counted_and_the_call_goes_on(talk, message, kind):
    """One bad message costs nothing but itself."""
    talk.from_caller(talk.caller.text(message))
    talk.say(FRAME)
    assert talk.bridge.report()["problems"][kind] == 1
    assert talk.caller_audio() == FRAME
    assert talk.end is None


def test_media_with_a_wrong_stream_sid_is_not_forwarded(talk):
    """Audio of another stream is not this caller's."""
    talk.from_caller(talk.media(FRAME, stream_sid="MZ" + "f" * 32))
    assert talk.caller_audio() == b""
    assert talk.bridge.report()["problems"]["caller_wrong_stream_sid"] == 1


def test_media_before_start_is_counted():
    """Out of the documented order."""
    table = Table()
    table.connect_agent()
    table.bridge.caller_opened(table.now_s)
    table.say(FRAME)
    assert table.bridge.report()["problems"]["caller_media_before_start"] == 1
    assert table.caller_audio() == b""


def test_second_start_is_counted_and_ignored(talk):
    """The first one counts."""
    talk.start()
    assert talk.bridge.stream_sid == STREAM_SID
    assert talk.bridge.report()["problems"]["caller_second_start"] == 1


def test_start_of_another_call_is_refused():
    """A ticket admits one call."""
    table = Table()
    table.connect_agent()
    table.start(callSid="CA" + "f" * 32)
    assert table.end.result == "carrier_fault"
    assert "another call" in table.end.reason


def test_start_with_a_foreign_audio_format_is_refused():
    """Anything but μ-law at 8 kHz would be noise."""
    table = Table()
    table.connect_agent()
    table.start(mediaFormat={"encoding": "audio/l16", "sampleRate": 16000, "channels": 1})
    assert "audio/l16" in table.end.reason


def test_bad_base64_from_the_caller_is_not_forwarded(talk):
    """Neither forwarded nor fatal."""
    for payload in ("****", "abc", "ab=c"):
        talk.from_caller(
            talk.caller.json(
                event="media",
                sequenceNumber="3",
                streamSid=STREAM_SID,
                media={"track": "inbound", "chunk": "1", "timestamp": "0", "payload": payload},
            )
        )
    assert talk.caller_audio() == b""
    assert sum(v for k, v in talk.bridge.report()["problems"].items() if "caller" in k) == 3


def test_too_many_malformed_messages_end_the_leg(talk):
    """Tolerance has a bound."""
    for _ in range(51):
        talk.from_caller(talk.caller.text("nonsense"))
    assert talk.end.result == "carrier_fault"
    assert "malformed" in talk.end.reason


def test_message_over_64_kib_from_twilio_is_refused(talk):
    """1009, as RFC 6455 has it."""
    talk.from_caller(talk.caller.text("x" * 70_000))
    assert talk.caller.closed[0] == 1009
    assert talk.end.blame == "twilio"


def test_garbage_as_first_agent_message_fails_the_leg():
    """Whatever that is, it is no conversation."""
    table = Table()
    table.bridge.agent_opened(table.now_s)
    table.settle()
    table.from_agent(table.agent.text("<html>"))
    assert table.end.result == "agent_fault"


def test_unknown_audio_format_fails_the_leg():
    """Loudly, never as noise."""
    table = Table()
    table.connect_agent(speaks="mp3_44100")
    assert table.end.blame == "agent"
    assert "mp3_44100" in table.end.reason


def test_bad_base64_and_garbage_in_mid_conversation_are_survived(talk):
    """Counted, and the next chunk is played."""
    talk.tell("audio", "audio_event", audio_base_64="%%%", event_id=1)
    talk.from_agent(talk.agent.text("nope"))
    talk.from_agent(talk.agent.text('{"type":"something_new","x":{}}'))
    talk.speak(SPEECH[:800])
    talk.run(0.3)
    assert talk.agent_audio() == SPEECH[:800]
    assert talk.end is None


def test_broken_framing_of_the_agent_fails_the_leg(unmended):
    """A masked frame from a server is against RFC 6455, 5.1."""
    unmended.from_agent(b"\x81\x85\x00\x00\x00\x00hello")
    assert unmended.end.blame == "agent"


def test_agent_audio_beyond_the_bound_is_dropped_and_counted():
    """Sixty seconds of audio in one second meet a bound of ten."""
    table = Table(settings=MediaSettings(playout_max_ms=10_000))
    table.connect_agent()
    table.start()
    for _ in range(60):
        table.speak(SPEECH)
    report = table.bridge.downlink.report()
    assert report["overrun_ms"] == pytest.approx(50_000, abs=200)
