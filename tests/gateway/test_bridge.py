"""The bridge, played through with a second WebSocket implementation at both ends and time as a number."""

import base64
import dataclasses
import itertools
import json

import pytest

from gateway.bridge import CALLER_IDLE_TIMEOUT_S, REASON_MAX_CHARS
from gateway.events import Finished, Termination
from gateway.settings import MediaSettings
from tests.peers import ACCOUNT_SID, CALL_SID, FRAME, PLAN, STREAM_SID, Table, b64

SPEECH = bytes((n * 31 + n // 160) % 256 for n in range(8_000))


@pytest.fixture
def talk():
    """A call in full swing: both legs up, nothing said yet."""
    table = Table()
    table.connect_agent()
    table.start()
    return table


@pytest.fixture
def unmended():
    """The same, but a lost agent leg is not dialled anew."""
    table = Table(settings=MediaSettings(agent_redials=0))
    table.connect_agent()
    table.start()
    return table


# ---- setting up


def test_initiation_is_the_first_message_to_the_agent():
    """Sent at once, with the call's variables at the root and nothing empty beside them."""
    table = Table()
    table.bridge.agent_opened(1.0)
    table.settle()
    (_, first), *rest = table.agent.received
    assert first["type"] == "conversation_initiation_client_data"
    assert first["dynamic_variables"] == {"gw_call_id": "call_test"}
    assert "conversation_config_override" not in first
    assert rest == []


def test_warm_agent_first_frame_leaves_with_the_start():
    """The first words wait in the buffer and leave in the instant of Twilio's `start`."""
    table = Table()
    table.connect_agent()
    table.speak(SPEECH)
    table.run(0.5)
    assert table.messages("media") == []
    table.start()
    assert table.agent_audio() == SPEECH[:800]
    assert table.bridge.first_audio_ms == 0.0
    assert "first_audio_sent" in table.names()


def test_nothing_is_sent_to_twilio_before_start():
    """Media without a streamSid would be noise to Twilio."""
    table = Table()
    table.connect_agent()
    table.bridge.caller_opened(table.now_s)
    table.speak(SPEECH)
    table.interrupt()
    table.run(1.0)
    assert table.caller.received == []


def test_cold_agent_early_frames_are_kept_and_sent_when_it_is_ready():
    """What the caller says while the agent leg comes up is not lost."""
    table = Table()
    table.start()
    table.run(0.5, frames=True)
    assert table.caller_audio() == b""
    table.connect_agent()
    assert table.caller_audio() == FRAME * 25


def test_early_frames_are_bounded_to_the_newest_second():
    """An agent leg that takes five seconds gets the last one of them."""
    table = Table()
    table.start()
    table.run(5.0, frames=True)
    table.connect_agent()
    assert len(table.caller_audio()) == 8_000
    report = table.bridge.uplink.report()
    assert report["early_dropped_frames"] == 200
    assert report["sent_frames"] == 50


# ---- audio


def test_caller_audio_passes_through_bit_exact_and_in_the_same_instant(talk):
    """The base64 text itself is handed over, untouched."""
    frames = [bytes((n + k) % 256 for k in range(160)) for n in range(60)]
    for frame in frames:
        talk.now_s += 0.02
        talk.say(frame)
        assert talk.agent.received[-1] == (talk.now_s, {"user_audio_chunk": b64(frame)})
    assert talk.caller_audio() == b"".join(frames)


def test_agent_audio_passes_through_bit_exact(talk):
    """However the agent cuts its chunks, the caller gets every byte in order."""
    for begin, end in ((0, 1), (1, 1_500), (1_500, 1_503), (1_503, 8_000)):
        talk.speak(SPEECH[begin:end])
    talk.run(1.5)
    assert talk.agent_audio() == SPEECH
    report = talk.bridge.downlink.report()
    assert report["underruns"] == report["late_underruns"] == 0
    assert report["sent_ms"] == report["heard_ms"] == 1_000.0


def test_playout_is_paced_on_the_grid(talk):
    """After the lead is built, one frame of 20 ms goes out each 20 ms."""
    talk.speak(SPEECH)
    talk.run(0.5)
    times = [at for at, message in talk.caller.received if message["event"] == "media"]
    sizes = [len(m["media"]["payload"]) for m in talk.messages("media")]
    assert sizes[0] == len(b64(bytes(800)))
    assert set(sizes[1:]) == {216}
    gaps = {round(b - a, 3) for a, b in itertools.pairwise(times)}
    assert gaps == {0.02}


def test_gap_in_timestamps_becomes_silence_for_the_agent(talk):
    """The agent's time line stays true."""
    talk.say(FRAME)
    talk.timestamp_ms += 400
    talk.now_s += 0.42
    talk.say(FRAME)
    assert talk.caller_audio() == FRAME + b"\xff" * 3_200 + FRAME
    assert talk.bridge.uplink.report()["gap_ms"] == 400.0


@pytest.mark.parametrize(
    "name", ["pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_44100", "pcm_48000"]
)
def test_pcm_agent_is_transcoded_both_ways(name):
    """A mismatch of formats switches transcoding on; it never plays noise."""
    rate = int(name.split("_")[1])
    table = Table()
    table.connect_agent(listens=name, speaks=name)
    table.start()
    assert "format_mismatch" in table.names()
    for _ in range(50):
        table.now_s += 0.02
        table.say(b"\xff" * 160)
    assert len(table.caller_audio()) == pytest.approx(rate * 2, rel=0.01)
    table.speak(bytes(rate))
    table.run(1.0)
    assert len(table.agent_audio()) == pytest.approx(4_000, abs=40)
    assert set(table.agent_audio()) == {0xFF}


def test_formats_may_differ_between_the_directions():
    """Input and output formats are independent settings of an agent."""
    table = Table()
    table.connect_agent(listens="ulaw_8000", speaks="pcm_16000")
    table.start()
    table.say(FRAME)
    assert table.caller_audio() == FRAME


def test_odd_length_pcm_chunk_keeps_its_odd_byte():
    """A sample cut in two by the agent's chunking is put together again."""
    table = Table()
    table.connect_agent(speaks="pcm_8000")
    table.start()
    samples = bytes(3_201)
    table.speak(samples[:1_601])
    table.speak(samples[:1_599])
    table.run(0.5)
    assert set(table.agent_audio()) == {0xFF}
    assert len(table.agent_audio()) == pytest.approx(1_600, abs=20)


# ---- barge-in


def test_interruption_clears_in_the_same_instant(talk):
    """Queue emptied, Twilio told, both in the step that brought the interruption."""
    talk.speak(SPEECH)
    talk.run(0.3)
    before = len(talk.messages("media"))
    talk.interrupt(1)
    assert talk.caller.received[-1] == (talk.now_s, {"event": "clear", "streamSid": STREAM_SID})
    talk.run(0.5)
    assert len(talk.messages("media")) == before
    assert talk.bridge.barge_ins == 1


def test_late_audio_of_the_old_turn_is_dropped_and_the_new_turn_is_played(talk):
    """Stale is decided by id, never by time: fresh audio may follow at once."""
    talk.speak(SPEECH, event_id=1)
    talk.run(0.1)
    talk.interrupt(1)
    sent = talk.agent_audio()
    talk.speak(SPEECH, event_id=1)
    talk.run(0.2)
    assert talk.agent_audio() == sent
    talk.speak(SPEECH[:1_600], event_id=2)
    talk.run(0.5)
    assert talk.agent_audio() == sent + SPEECH[:1_600]
    assert talk.bridge.downlink.report()["stale_chunks"] == 1


def test_equal_event_id_is_played_when_configured_so():
    """The providers' SDKs disagree about equality, so it is a setting."""
    table = Table(settings=MediaSettings(interruption_drops_equal=False))
    table.connect_agent()
    table.start()
    table.interrupt(1)
    table.speak(SPEECH[:800], event_id=1)
    table.run(0.2)
    assert table.agent_audio() == SPEECH[:800]
    assert table.bridge.downlink.report()["stale_equal_chunks"] == 1


def test_interruption_while_nothing_plays_is_no_barge_in(talk):
    """It still raises the watermark and clears, which is harmless."""
    talk.interrupt(3)
    assert talk.bridge.barge_ins == 0
    assert talk.bridge.downlink.watermark == 3


def test_older_interruption_does_not_lower_the_watermark(talk):
    """Interruptions are idempotent and may come out of order."""
    talk.interrupt(5)
    talk.interrupt(2)
    talk.speak(SPEECH[:800], event_id=4)
    talk.run(0.2)
    assert talk.agent_audio() == b""


def test_first_word_is_heard_when_a_mark_says_so_and_not_when_it_was_sent(talk):
    """Sent audio that no mark confirms was heard by nobody, as far as we know."""
    talk.tell("agent_response", "agent_response_event", agent_response="A long story", event_id=1)
    talk.speak(SPEECH)
    talk.run(0.4, echo_marks=False)
    assert "first_audio_sent" in talk.names()
    assert "first_word_heard" not in talk.names()
    talk.run(2.0)
    assert talk.names().count("first_word_heard") == 1


def test_marks_returned_by_clear_are_not_taken_for_heard(talk):
    """Twilio echoes all pending marks on `clear`; nothing in the echo says "discarded"."""
    talk.tell("agent_response", "agent_response_event", agent_response="A long story", event_id=1)
    talk.speak(SPEECH)
    talk.run(0.4, echo_marks=False)
    talk.interrupt(1)
    for mark in talk.messages("mark"):
        talk.echo(mark["mark"]["name"])
    turn = talk.turns()[1]
    assert turn.interrupted
    assert turn.heard == "A"  # 400 of 1,000 ms, and "lo" is no word


def test_interrupted_turn_tells_what_was_heard_with_alignment(talk):
    """To the character, from the alignment that came with the audio."""
    alignment = {
        "chars": list("0123456789"),
        "char_start_times_ms": list(range(0, 1_000, 100)),
        "char_durations_ms": [100] * 10,
    }
    talk.tell("agent_response", "agent_response_event", agent_response="0123456789", event_id=1)
    talk.speak(SPEECH, alignment=alignment)
    talk.run(0.46)
    talk.interrupt(1)
    assert talk.turns()[1].heard == "01234"


def test_uninterrupted_turn_is_heard_whole(talk):
    """Marks prove it."""
    talk.tell("agent_response", "agent_response_event", agent_response="Good day.", event_id=1)
    talk.speak(SPEECH)
    talk.tell("agent_response_complete", "agent_response_complete_event", event_id=1)
    talk.run(1.5)
    turn = talk.turns()[1]
    assert (turn.text, turn.heard, turn.interrupted) == ("Good day.", "Good day.", False)


def test_transcript_holds_both_sides_in_order(talk):
    """User and agent turns share one numbering."""
    talk.speak(SPEECH[:800], event_id=1)
    talk.tell("agent_response", "agent_response_event", agent_response="Hi.", event_id=1)
    talk.run(0.3)
    talk.tell("user_transcript", "user_transcription_event", user_transcript="Yes?", event_id=2)
    talk.tell("agent_response", "agent_response_event", agent_response="Ok.", event_id=3)
    talk.speak(SPEECH[:800], event_id=3)
    turns = talk.turns()
    assert [(turns[n].role, turns[n].text) for n in sorted(turns)] == [
        ("agent", "Hi."),
        ("user", "Yes?"),
        ("agent", "Ok."),
    ]


def test_tentative_transcripts_are_left_out(talk):
    """They may be revised."""
    talk.tell(
        "tentative_user_transcript",
        "tentative_user_transcription_event",
        user_transcript="Ye",
        event_id=2,
    )
    assert talk.turns() == {}


# ---- small messages


def test_ping_is_answered_at_once(talk):
    """ElevenLabs' own ping, in JSON."""
    talk.tell("ping", "ping_event", event_id=7, ping_ms=None)
    assert talk.agent.received[-1] == (talk.now_s, {"type": "pong", "event_id": 7})


def test_websocket_pings_of_both_peers_are_answered(talk):
    """RFC 6455 pings, too."""
    talk.from_agent(talk.agent.ping())
    talk.from_caller(talk.caller.ping())
    assert (talk.agent.pongs, talk.caller.pongs) == (1, 1)


def test_dtmf_reaches_the_agent_as_context_and_not_the_timeline(talk):
    """The digit may be part of a PIN: told to the agent, kept out of the record."""
    talk.press("5")
    message = talk.agent.received[-1][1]
    assert message["type"] == "contextual_update"
    assert "5" in message["text"]
    assert talk.note("dtmf").data == {}


def test_tool_call_leaves_as_an_event_and_its_result_goes_back(talk):
    """The call's own task answers; the bridge carries."""
    talk.tell(
        "client_tool_call",
        "client_tool_call",
        tool_name="lookup",
        tool_call_id="t1",
        parameters={"a": 1},
        event_id=3,
    )
    talk.bridge.tool_result("t1", "done", is_error=False)
    talk.settle()
    assert talk.agent.received[-1][1] == {
        "type": "client_tool_result",
        "tool_call_id": "t1",
        "result": "done",
        "is_error": False,
    }


# ---- endings


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


# ---- malformed input


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


def test_plan_variables_reach_the_agent():
    """Dynamic variables, override and user id are in the first message."""
    plan = dataclasses.replace(
        PLAN,
        dynamic_variables={"name": "Ana", "visits": 3},
        conversation_config_override={"agent": {"language": "de"}},
        user_id="t:1",
    )
    table = Table(plan)
    table.connect_agent()
    first = table.agent.received[0][1]
    assert first["dynamic_variables"] == {"name": "Ana", "visits": 3}
    assert first["conversation_config_override"] == {"agent": {"language": "de"}}
    assert first["user_id"] == "t:1"


def test_messages_split_over_reads_are_put_together(talk):
    """TCP cuts where it likes."""
    data = talk.media(FRAME) + talk.media(FRAME)
    for n in range(len(data)):
        talk.bridge.caller_bytes(data[n : n + 1], talk.now_s)
    talk.settle()
    assert talk.caller_audio() == FRAME * 2


def test_documented_key_orders_of_media_are_understood(talk):
    """Twilio's pages show `streamSid` before and behind `media`, with spaces and without."""
    payload = base64.b64encode(FRAME).decode()
    body = {"track": "inbound", "chunk": "1", "timestamp": "0", "payload": payload}
    first = {"event": "media", "sequenceNumber": "2", "media": body, "streamSid": STREAM_SID}
    second = {
        "event": "media",
        "streamSid": STREAM_SID,
        "sequenceNumber": 3,
        "media": {"timestamp": 20, "payload": payload, "chunk": 2, "track": "inbound"},
    }
    talk.from_caller(talk.caller.text(json.dumps(first)))
    talk.from_caller(talk.caller.text(json.dumps(second, indent=1)))
    assert talk.caller_audio() == FRAME * 2


def test_account_and_call_are_taken_from_the_start(talk):
    """The record's join keys."""
    assert talk.bridge.call_sid == CALL_SID
    assert talk.bridge.stream_sid == STREAM_SID
    assert ACCOUNT_SID.startswith("AC")


# ---- what comes at the wrong moment ---------------------------------------------------------------


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


def test_mark_with_a_number_that_cannot_be_is_ignored(talk):
    """Python refuses to read five thousand digits; the call goes on."""
    talk.echo("0:" + "9" * 5_000)
    assert talk.end is None


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


def test_stale_audio_of_a_pcm_agent_is_counted_by_its_length():
    """A second is a second in every format."""
    table = Table()
    table.connect_agent(speaks="pcm_16000")
    table.start()
    table.interrupt(5)
    table.speak(bytes(32_000), event_id=5)
    report = table.bridge.report()["agent_audio"]
    assert (report["stale_ms"], report["received_ms"]) == (1_000.0, 1_000.0)
