"""Media Streams codec: junk, and each field of each message missing, of a wrong type or huge."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.twilio_media import CallerMedia, MediaStreamError, decode, split_media
from tests.gateway.twilio_media_rig import (
    BY_ABOUT,
    FROM_TWILIO,
    SID,
    any_json,
    changed,
    compact,
    near_messages,
    paths,
)

# Without these a message is worthless, and refused.
REQUIRED = {
    "connected": {"event"},
    "start": {
        "event",
        "start",
        "start.accountSid",
        "start.callSid",
        "start.mediaFormat",
        "start.mediaFormat.encoding",
        "start.mediaFormat.sampleRate",
        "start.mediaFormat.channels",
    },
    "media": {"event", "streamSid", "media", "media.timestamp", "media.payload"},
    "dtmf": {"event", "streamSid", "dtmf", "dtmf.digit"},
    "mark": {"event", "streamSid", "mark", "mark.name"},
    "stop": {"event"},
}
NOT_READ = {
    ("start", "sequenceNumber"),
    ("dtmf", "sequenceNumber"),
    ("dtmf", "dtmf.track"),
    ("mark", "sequenceNumber"),
    ("stop", "sequenceNumber"),
}
COUNTERS = {
    "sequenceNumber",
    "media.chunk",
    "media.timestamp",
    "start.mediaFormat.sampleRate",
    "start.mediaFormat.channels",
}

EVERY_FIELD = [
    pytest.param(row["message"], path, id=f"{row['message']['event']}-{number}-{path}")
    for number, row in enumerate(FROM_TWILIO)
    for path in paths(row["message"])
]


# ---- junk ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=300)
    | (any_json | near_messages).map(lambda value: json.dumps(value).encode())
)
def test_codec_any_bytes_and_any_json_raise_only_its_own_error(message):
    """Nothing that a peer sends makes anything but a MediaStreamError; the short cut never raises."""
    split_media(message)
    try:
        decode(message)
    except MediaStreamError as error:
        assert len(str(error)) < 300  # noqa: PT017  (either outcome is fine)


@pytest.mark.parametrize(
    "message",
    [b"", b"{", b"[]", b'"media"', b"null", b"\xff\xfe", b'{"event":"\xc3"}', b"{}", b'{"event":7}',
     b"[" * 100_000, b'{"a":' * 100_000, b'{"event":"mark","streamSid":"\\ud800","mark":{"name":"x"}}',
     b'{"event":"mark","streamSid":"MZ1","mark":{"name":NaN}}'],
    ids=lambda message: repr(message[:24]),
)  # fmt: skip
def test_decode_what_is_no_message_is_refused(message):
    """Broken JSON, JSON of another kind and bottomless nesting are all the same to us."""
    with pytest.raises(MediaStreamError):
        decode(message)


# ---- each field ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("message", "path"), EVERY_FIELD)
def test_decode_field_missing_is_refused_only_when_required(message, path):
    """A message without one of its fields is an error exactly when that field is needed."""
    event = message["event"]
    broken = compact(changed(message, path, remove=True))
    if path in REQUIRED[event]:
        with pytest.raises(MediaStreamError, match=path.rsplit(".")[-1]):
            decode(broken)
    else:
        assert type(decode(broken)).__name__ == BY_EVENT[event]


BY_EVENT = {row["message"]["event"]: row["decoded"]["kind"] for row in FROM_TWILIO}


@pytest.mark.parametrize("wrong", [[1], True, {"a": [None]}], ids=["list", "bool", "object"])
@pytest.mark.parametrize(("message", "path"), EVERY_FIELD)
def test_decode_field_of_wrong_type_is_refused(message, path, wrong):
    """A field of the wrong type is an error that names a field, unless nobody reads it."""
    broken = compact(changed(message, path, wrong))
    is_object = path == "start.customParameters" and isinstance(wrong, dict)
    is_empty_object = path == "stop" and isinstance(wrong, dict)
    if (message["event"], path) in NOT_READ or is_object or is_empty_object:
        assert decode(broken) is not None
    else:
        with pytest.raises(MediaStreamError, match="`"):
            decode(broken)


@pytest.mark.parametrize("huge", ["9" * 5000, 10**30, 10**18, "-" + "9" * 19, 1e300, "x" * 60_000])
@pytest.mark.parametrize(("message", "path"), EVERY_FIELD)
def test_decode_huge_field_is_refused_or_harmless(message, path, huge):
    """Numbers without measure are errors; long text is an error or kept, never a crash."""
    broken = compact(changed(message, path, huge))
    if path in COUNTERS and (message["event"], path) not in NOT_READ:
        with pytest.raises(MediaStreamError, match="18 digits"):
            decode(broken)
        assert split_media(broken) is None
        return
    try:
        decode(broken)
    except MediaStreamError as error:
        assert len(str(error)) < 300  # noqa: PT017


@pytest.mark.parametrize("given_as", [382, "382", 382.0, "0382"], ids=repr)
def test_decode_counter_in_any_form_is_read(given_as):
    """Counters are strings on the wire, but a number means the same."""
    message = BY_ABOUT["caller audio with counters as numbers"]["message"]
    event = decode(compact(changed(message, "media.timestamp", given_as)))
    assert isinstance(event, CallerMedia)
    assert event.timestamp_ms == 382


@pytest.mark.parametrize(
    "bad", [-1, "-1", 1.5, "1.5", "", " 1", "1e3", "٣", "0x10", "1_0"], ids=repr
)
def test_decode_counter_that_is_no_count_is_refused(bad):
    """What Python might read as a number but Twilio would never write is an error."""
    message = BY_ABOUT["caller audio with counters as numbers"]["message"]
    with pytest.raises(MediaStreamError, match="timestamp"):
        decode(compact(changed(message, "media.timestamp", bad)))


def test_error_text_shows_keys_but_no_values():
    """A sample in a log betrays neither numbers, names, parameters nor SIDs."""
    start = BY_ABOUT["the stream begins, with parameters from the TwiML"]["message"]
    start = changed(start, "start.customParameters", {"+14155550123": "hunter2", "pin": 4711})
    with pytest.raises(MediaStreamError) as caught:
        decode(compact(changed(start, "start.mediaFormat", [])))
    text = str(caught.value)
    assert "`mediaFormat` is not an object" in text
    assert '"sequenceNumber":' in text
    assert not any(secret in text for secret in ("4155550123", "hunter2", "4711", SID[2:], "CA17"))
