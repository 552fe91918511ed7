"""The bridge from its first message on: audio, pings, keys and tools between two second implementations of WebSocket."""

import base64
import dataclasses
import itertools
import json

import pytest

from tests.peers import ACCOUNT_SID, CALL_SID, FRAME, PLAN, SPEECH, STREAM_SID, Table, b64

# ---- setting up ----------------------------------------------------------------------------------


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


# ---- audio ---------------------------------------------------------------------------------------


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


# ---- small messages ------------------------------------------------------------------------------


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


# ---- forms of messages ---------------------------------------------------------------------------


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
