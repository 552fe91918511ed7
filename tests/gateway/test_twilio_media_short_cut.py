"""Media Streams codec: the short cut for audio says what `decode` would say, or nothing."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.twilio_media import CallerMedia, decode, split_media
from tests.gateway.twilio_media_rig import FROM_TWILIO, SID, any_json, compact, near_messages


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
