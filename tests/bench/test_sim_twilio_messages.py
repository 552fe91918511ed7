"""Media stream messages, as written and as read."""

from __future__ import annotations

import json

import pytest

from bench.sim_twilio import messages

SID = "MZ0000000000000000000000000000000a"


def test_start_has_string_counters_and_numeric_format():
    """`start` carries the documented members and types."""
    found = json.loads(messages.start(SID, 1, "AC1", "CA1", {"route": "acme"}))
    assert found == {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": SID,
        "start": {
            "streamSid": SID,
            "accountSid": "AC1",
            "callSid": "CA1",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"route": "acme"},
        },
    }


@pytest.mark.parametrize("sid_first", [True, False])
def test_media_has_string_counters_in_either_order(sid_first):
    """`media` is the documented object whichever member comes first."""
    text = messages.media(SID, 4, 2, 20, b"\xff" * 160, sid_first=sid_first)
    found = json.loads(text)
    assert list(found)[2] == ("streamSid" if sid_first else "media")
    payload = found["media"].pop("payload")
    assert len(payload) == 216
    assert found == {
        "event": "media",
        "sequenceNumber": "4",
        "streamSid": SID,
        "media": {"track": "inbound", "chunk": "2", "timestamp": "20"},
    }


def test_dtmf_mark_and_stop_are_as_documented():
    """The track of a key is `inbound_track`."""
    assert json.loads(messages.dtmf(SID, 57, "5")) == {
        "event": "dtmf",
        "streamSid": SID,
        "sequenceNumber": "57",
        "dtmf": {"track": "inbound_track", "digit": "5"},
    }
    assert json.loads(messages.mark(SID, 61, "t:1"))["mark"] == {"name": "t:1"}
    assert json.loads(messages.stop(SID, 9, "AC1", "CA1"))["stop"] == {
        "accountSid": "AC1",
        "callSid": "CA1",
    }


def test_parse_accepts_the_three_documented_shapes():
    """Media is decoded, marks keep their name, clear is clear."""
    media = {"event": "media", "streamSid": SID, "media": {"payload": "//8="}}
    assert messages.parse(json.dumps(media), SID) == messages.ServerMedia(b"\xff\xff")
    mark = {"event": "mark", "streamSid": SID, "mark": {"name": "a"}}
    assert messages.parse(json.dumps(mark), SID) == messages.ServerMark("a")
    clear = {"event": "clear", "streamSid": SID}
    assert messages.parse(json.dumps(clear), SID) == messages.ServerClear()


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        '{"event":"clear"}',
        '{"event":"clear","stream_sid":"STREAM"}',
        '{"event":"clear","streamSid":"MZother"}',
        '{"event":"clear","streamSid":"STREAM","extra":1}',
        '{"event":"hello","streamSid":"STREAM"}',
        '{"event":"media","streamSid":"STREAM","media":{}}',
        '{"event":"media","streamSid":"STREAM","media":{"payload":"***"}}',
        '{"event":"media","streamSid":"STREAM","media":{"payload":"//8=","track":"outbound"}}',
        '{"event":"mark","streamSid":"STREAM"}',
        '{"event":"mark","streamSid":"STREAM","mark":{"name":7}}',
        '{"event":"media","streamSid":"STREAM","media":"//8="}',
    ],
)
def test_parse_of_anything_else_is_invalid(message):
    """Extra, missing or wrong fields are what warning 31951 is about."""
    with pytest.raises(messages.InvalidMessage):
        messages.parse(message.replace("STREAM", SID), SID)
