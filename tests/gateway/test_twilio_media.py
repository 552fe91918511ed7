"""Media Streams codec: samples, and round trips."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import twilio_media
from gateway.twilio_media import Dtmf, MediaStreamError, Stopped, decode
from tests.gateway.twilio_media_rig import (
    BY_ABOUT,
    FROM_TWILIO,
    SAMPLES,
    SID,
    changed,
    compact,
    paths,
)

TO_TWILIO = {row["message"]["event"]: row["message"] for row in SAMPLES["to_twilio"]}

# The fields Twilio documents, written down by hand from its page "WebSocket messages".
DOCUMENTED = {
    "connected": {"event", "protocol", "version"},
    "start": {
        "event",
        "sequenceNumber",
        "streamSid",
        "start.streamSid",
        "start.accountSid",
        "start.callSid",
        "start.tracks",
        "start.mediaFormat.encoding",
        "start.mediaFormat.sampleRate",
        "start.mediaFormat.channels",
        "start.customParameters",
    },
    "media": {
        "event",
        "sequenceNumber",
        "streamSid",
        "media.track",
        "media.chunk",
        "media.timestamp",
        "media.payload",
    },
    "dtmf": {"event", "sequenceNumber", "streamSid", "dtmf.track", "dtmf.digit"},
    "mark": {"event", "sequenceNumber", "streamSid", "mark.name"},
    "stop": {"event", "sequenceNumber", "streamSid", "stop.accountSid", "stop.callSid"},
}


def leaves(message):
    every = set(paths(message))
    return {path for path in every if not any(other.startswith(path + ".") for other in every)}


def said(event):
    """An event as the samples write it."""
    fields = dataclasses.asdict(event)
    if isinstance(fields.get("payload"), bytes):
        fields["payload"] = fields["payload"].decode()
    return json.loads(json.dumps({"kind": type(event).__name__, **fields}))


# ---- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", FROM_TWILIO, ids=[row["about"] for row in FROM_TWILIO])
@pytest.mark.parametrize("indent", [None, 1], ids=["one_line", "indented"])
def test_decode_documented_message_gives_hand_written_value(row, indent):
    """Each sample decodes to what is written beside it, however it is laid out."""
    assert said(decode(compact(row["message"]))) == row["decoded"]
    assert said(decode(json.dumps(row["message"], indent=indent).encode())) == row["decoded"]


def test_samples_cover_every_documented_event_and_field():
    """No event and no field of the documentation is without a sample, and no sample invents one."""
    seen: dict[str, set[str]] = {}
    for row in FROM_TWILIO:
        seen.setdefault(row["message"]["event"], set()).update(leaves(row["message"]))
    assert seen == DOCUMENTED


def test_encoders_write_exactly_the_documented_messages():
    """The three messages Twilio understands come out field by field as documented, nothing beside."""
    assert set(TO_TWILIO) == {"media", "mark", "clear"}
    sid = SID.encode()
    assert json.loads(twilio_media.encode_media(sid, b"f39/f////w==")) == TO_TWILIO["media"]
    assert json.loads(twilio_media.encode_mark(sid, "7:end")) == TO_TWILIO["mark"]
    assert json.loads(twilio_media.encode_clear(sid)) == TO_TWILIO["clear"]


def test_decode_unknown_event_gives_none():
    """An event that Twilio adds one day is not an error."""
    assert decode(b'{"event":"weather","streamSid":"MZ1"}') is None


def test_decode_stop_without_body_is_still_a_stop():
    """The end of a stream is believed with whatever came along."""
    assert decode(b'{"event":"stop"}') == Stopped("", "", "")


@pytest.mark.parametrize("digit", list("0123456789*#ABCD"))
def test_decode_dtmf_every_key_is_known(digit):
    """All sixteen tones of a telephone are keys."""
    assert decode(compact({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": digit}})) == Dtmf(
        "MZ1", digit
    )


@pytest.mark.parametrize("digit", ["", "12", "x", "é", "5\n", 12, -1, True, None, 5.0])
def test_decode_dtmf_of_no_key_is_refused(digit):
    """What is no key never becomes text for the agent."""
    with pytest.raises(MediaStreamError, match="digit"):
        decode(compact({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": digit}}))


def test_decode_start_with_two_different_stream_sids_is_refused():
    """A `start` must agree with itself about the stream it starts."""
    start = BY_ABOUT["the stream begins, with parameters from the TwiML"]["message"]
    with pytest.raises(MediaStreamError, match="differs"):
        decode(compact(changed(start, "streamSid", "MZ0")))


@pytest.mark.parametrize("sid", ['MZ"', "MZ\\", "MZ\n", "MZ é", "", "M" * 65, "MZ,"])
def test_decode_stream_sid_that_could_break_our_messages_is_refused(sid):
    """The SID is written back unescaped, so only harmless ones are believed."""
    with pytest.raises(MediaStreamError, match="SID"):
        decode(compact({"event": "mark", "streamSid": sid, "mark": {"name": "m"}}))


@pytest.mark.parametrize("payload", ["a b=", 'a"b=', "ä", "YQ==\n", "a-_=", "\x00"])
def test_decode_media_with_text_that_is_not_base64_is_refused(payload):
    """The payload is written into the agent's envelope unescaped, so its alphabet is checked."""
    message = {
        "event": "media",
        "streamSid": "MZ1",
        "media": {"timestamp": "0", "payload": payload},
    }
    with pytest.raises(MediaStreamError, match="base64"):
        decode(compact(message))


# ---- round trips ---------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_encode_mark_any_name_survives_json(name):
    """Whatever a mark is called, Twilio reads that name, and its echo gives it back."""
    message = twilio_media.encode_mark(SID.encode(), name)
    assert json.loads(message) == {"event": "mark", "streamSid": SID, "mark": {"name": name}}
    assert decode(message) == twilio_media.MarkEcho(SID, name)


@settings(deadline=None)
@given(st.binary(max_size=1000))
def test_encode_media_any_audio_survives_json(audio):
    """The audio that Twilio would decode is the audio that went in."""
    message = json.loads(twilio_media.encode_media(SID.encode(), base64.b64encode(audio)))
    assert message == {
        "event": "media",
        "streamSid": SID,
        "media": {"payload": base64.b64encode(audio).decode()},
    }
    assert base64.b64decode(message["media"]["payload"], validate=True) == audio
