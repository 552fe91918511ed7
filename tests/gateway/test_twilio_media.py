"""Media Streams codec: samples, round trips, junk, broken fields, and the short cut against `decode`."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import twilio_media
from gateway.twilio_media import CallerMedia, Dtmf, MediaStreamError, Stopped, decode, split_media

SAMPLES = json.loads(
    (Path(__file__).parents[1] / "data" / "twilio_messages.json").read_text("utf-8")
)
FROM_TWILIO = SAMPLES["from_twilio"]
BY_ABOUT = {row["about"]: row for row in FROM_TWILIO}
TO_TWILIO = {row["message"]["event"]: row["message"] for row in SAMPLES["to_twilio"]}
SID = "MZ5f1d0c77aa0b4e6c9d2e81b3f4a69c02"

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

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from(
    ["event", "streamSid", "sequenceNumber", "media", "start", "dtmf", "mark", "stop", "payload",
     "timestamp", "chunk", "track", "name", "digit", "mediaFormat", "customParameters", "tracks"]
)  # fmt: skip
near_messages = st.recursive(
    any_json | st.sampled_from([SID, "media", "inbound", "start", "7", "dtmf"]),
    lambda inner: st.dictionaries(field_names, inner, max_size=6),
    max_leaves=15,
)


def paths(message, prefix=""):
    for key, value in message.items():
        yield prefix + key
        if isinstance(value, dict) and key != "customParameters":
            yield from paths(value, prefix + key + ".")


def leaves(message):
    every = set(paths(message))
    return {path for path in every if not any(other.startswith(path + ".") for other in every)}


def changed(message, path, value=None, *, remove=False):
    message = copy.deepcopy(message)
    *parents, last = path.split(".")
    place = message
    for parent in parents:
        place = place[parent]
    if remove:
        del place[last]
    else:
        place[last] = value
    return message


def said(event):
    """An event as the samples write it."""
    fields = dataclasses.asdict(event)
    if isinstance(fields.get("payload"), bytes):
        fields["payload"] = fields["payload"].decode()
    return json.loads(json.dumps({"kind": type(event).__name__, **fields}))


def compact(message):
    return json.dumps(message, separators=(",", ":")).encode()


EVERY_FIELD = [
    pytest.param(row["message"], path, id=f"{row['message']['event']}-{number}-{path}")
    for number, row in enumerate(FROM_TWILIO)
    for path in paths(row["message"])
]


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


# ---- the short cut -------------------------------------------------------------------------------


def media_text(order, colon, comma, sid, counters, payload, track="inbound"):
    """A `media` message written without any JSON library, as Twilio might."""
    sequence, chunk, timestamp = counters
    media = (
        f'"media"{colon}{{"track"{colon}"{track}"{comma}"chunk"{colon}"{chunk}"{comma}'
        f'"timestamp"{colon}"{timestamp}"{comma}"payload"{colon}"{payload}"}}'
    )
    stream = f'"streamSid"{colon}"{sid}"'
    last = [media, stream] if order == "sid_last" else [stream, media]
    head = [f'"event"{colon}"media"', f'"sequenceNumber"{colon}"{sequence}"']
    return ("{" + comma.join(head + last) + "}").encode()


PAYLOAD = base64.b64encode(bytes(range(160))).decode()
ORDERS = ["sid_last", "sid_first"]
usual = st.builds(
    media_text,
    st.sampled_from(ORDERS),
    st.sampled_from([":", ": "]),
    st.sampled_from([",", ", "]),
    st.just(SID) | st.from_regex(r"[0-9A-Za-z_-]{1,64}", fullmatch=True),
    st.tuples(*[st.integers(0, 10**18 - 1)] * 3),
    st.binary(max_size=200).map(lambda audio: base64.b64encode(audio).decode()),
)
NASTY_PIECES = [
    b'"',
    b"\\",
    b'\\"',
    b"{",
    b"}",
    b'","',
    b'"}',
    b"\x00",
    b"\n",
    b" ",
    b"\xc3\xa9",
    b"\xff",
    b"=",
    b"0",
    b"-",
    b".",
    b"_",
    b"\\u0022",
    b'"streamSid":"MZ2",',
    b',"streamSid":"MZ2"',
    b'"event":"stop",',
    b'"payload":"AA==",',
    b'"timestamp":"9",',
    b"outbound",
    b"null",
    b"[]",
    b"MZ",
]


@st.composite
def mutated(draw, base):
    """A usual message with a few pieces cut out, put in, doubled or overwritten."""
    message = draw(base)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(message)))
        end = min(len(message), start + draw(st.integers(0, 12)))
        piece = draw(
            st.sampled_from(NASTY_PIECES) | st.binary(max_size=3) | st.just(message[start:end] * 2)
        )
        message = message[:start] + piece + message[end:]
    return message


def assert_split_agrees(message):
    answer = split_media(message)
    if answer is None:
        return
    event = decode(message)
    assert isinstance(event, CallerMedia)
    assert event.track == "inbound"
    assert answer == (event.stream_sid.encode(), event.timestamp_ms, event.payload)
    parsed = json.loads(message)
    assert answer == (
        parsed["streamSid"].encode(),
        int(parsed["media"]["timestamp"]),
        parsed["media"]["payload"].encode(),
    )


@settings(deadline=None)
@given(usual)
def test_split_media_usual_message_is_answered_as_decode_would(message):
    """The usual message takes the short cut, with the answer that the long way gives."""
    assert split_media(message) is not None
    assert_split_agrees(message)


@pytest.mark.parametrize("order", ORDERS)
def test_split_media_every_single_change_never_disagrees_with_decode(order):
    """Every byte replaced by, and every gap filled with, each nasty piece, and every byte left out."""
    message = one(order, payload="fn5+fv==")
    answered = 0
    for at in range(len(message) + 1):
        for piece in (*NASTY_PIECES, b""):
            for behind in (at, at + 1):
                variant = message[:at] + piece + message[behind:]
                answered += split_media(variant) is not None
                assert_split_agrees(variant)
    assert answered > 500  # many changes leave a usual message: other digits, SIDs, audio


@settings(deadline=None, max_examples=300)
@given(mutated(usual))
def test_split_media_mutated_message_never_disagrees_with_decode(message):
    """However a message is damaged, the short cut says nothing or the same as the long way."""
    assert_split_agrees(message)


@settings(deadline=None, max_examples=300)
@given(near_messages.map(compact) | any_json.map(lambda value: json.dumps(value).encode()))
def test_split_media_any_json_never_disagrees_with_decode(message):
    """The same for JSON of any kind."""
    assert_split_agrees(message)


def one(order="sid_last", **parts):
    parts = {"sid": SID, "counters": (4, 3, 60), "payload": PAYLOAD, **parts}
    return media_text(order, ":", ",", **parts)


UNUSUAL = {
    "outbound track": one(track="outbound"),
    "escaped slash": one(payload="AB\\/="),
    "escaped quote": one(payload='AB\\"CD'),
    "unicode escape": one(payload="AB\\u0041="),
    "control character": one(payload="AB\x01="),
    "not ascii": one(payload="ABé="),
    "not base64": one(payload="AB CD"),
    "payload ends the object": one(payload='AA=="},"streamSid":"MZ2'),
    "payload adds a key": one(payload='AA==","payload":"BB=='),
    "empty timestamp": one(counters=(1, 2, "")),
    "negative timestamp": one(counters=(1, 2, -5)),
    "timestamp of 19 digits": one(counters=(1, 2, 10**18)),
    "timestamp in other digits": one(counters=(1, 2, "٣")),
    "empty sid": one(sid=""),
    "sid of 65 characters": one(sid="M" * 65),
    "sid with a quote": one(sid='M\\"'),
    "sid twice": one("sid_first")[:-1] + b',"streamSid":"MZ2"}',
    "no sid": one("sid_first").replace(f'"streamSid":"{SID}",'.encode(), b""),
    "extra key at the end": one()[:-1] + b',"x":1}',
    "extra key in media": one().replace(b'"}', b'","x":"y"}', 1),
    "text behind": one() + b" ",
    "line end behind": one() + b"\n",
    "text before": b" " + one(),
    "cut short": one()[:-1],
    "two spaces": one().replace(b'"chunk":', b'"chunk":  '),
    "tab": one().replace(b'"chunk":', b'"chunk":\t'),
    "counter as a number": one().replace(b'"60"', b"60"),
    "other event": one().replace(b'"event":"media"', b'"event":"stop"'),
    "nested": b'{"x":' + one() + b"}",
    "listed": b"[" + one() + b"]",
    "nothing": b"",
}


@pytest.mark.parametrize("message", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_split_media_unusual_message_is_left_to_decode(message):
    """Anything but the usual message, however near, is not answered by the short cut."""
    assert split_media(message) is None


@pytest.mark.parametrize("order", ORDERS)
def test_split_media_in_both_orders_gives_sid_time_and_payload(order):
    """Both orders of keys that Twilio is known to use take the short cut."""
    assert split_media(one(order)) == (SID.encode(), 60, PAYLOAD.encode())


@pytest.mark.parametrize("row", FROM_TWILIO, ids=[row["about"] for row in FROM_TWILIO])
def test_split_media_takes_just_the_samples_of_inbound_audio_with_string_counters(row):
    """Of all samples, the short cut answers the two that are usual caller audio."""
    is_usual = row["about"] in {"caller audio, SID last", "caller audio, SID before media"}
    assert (split_media(compact(row["message"])) is not None) == is_usual
