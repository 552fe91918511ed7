"""Conversation codec: the short cut for audio says what `decode` would say, or nothing."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import convai
from gateway.convai import AgentAudio, decode, split_audio

LONG = base64.b64encode(bytes(range(256)) * 32).decode()


def audio_text(form, colon, comma, payload, event_id):
    """An `audio` message written without any JSON library, as the server might."""
    inner = f'{{"audio_base_64"{colon}"{payload}"{comma}"event_id"{colon}{event_id}}}'
    pair = [f'"type"{colon}"audio"', f'"audio_event"{colon}{inner}']
    return ("{" + comma.join(pair if form == "type_first" else reversed(pair)) + "}").encode()


FORMS = ["type_first", "type_last"]


def one(form="type_first", payload=LONG, event_id=7):
    return audio_text(form, ":", ",", payload, event_id)


usual = st.builds(
    audio_text,
    st.sampled_from(FORMS),
    st.sampled_from([":", ": "]),
    st.sampled_from([",", ", "]),
    st.tuples(st.binary(min_size=1, max_size=40), st.integers(6200, 9000)).map(
        lambda pair: base64.b64encode((pair[0] * pair[1])[: pair[1]]).decode()
    ),
    st.integers(0, 10**18 - 1),
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
    b"\x1f",
    b" ",
    b"\x7f",
    b"\xc3\xa9",
    b"\xff",
    b"=",
    b"0",
    b"-",
    b".5",
    b"e3",
    b"\\/",
    b"\\u0022",
    b'"event_id":1,',
    b',"event_id":1',
    b'"type":"ping",',
    b',"type":"audio"',
    b',"alignment":null',
    b"null",
    b"[]",
]


def assert_split_agrees(message):
    answer = split_audio(message)
    if answer is None:
        return
    event = decode(message)
    assert event == AgentAudio(event_id=answer[0], payload=answer[1])
    parsed = json.loads(message)
    assert set(parsed) == {"type", "audio_event"}
    assert parsed["audio_event"] == {"event_id": answer[0], "audio_base_64": answer[1].decode()}


@settings(deadline=None, max_examples=50)
@given(usual)
def test_split_audio_usual_big_message_is_answered_as_decode_would(message):
    """A big plain audio message takes the short cut, with the answer that the long way gives."""
    assert split_audio(message) is not None
    assert_split_agrees(message)


@pytest.mark.parametrize("form", FORMS)
def test_split_audio_every_single_change_never_disagrees_with_decode(form):
    """Around the payload and at its ends, each byte replaced, filled before or left out."""
    message = one(form)
    payload_at = message.index(LONG.encode())
    after = payload_at + len(LONG)
    places = [
        *range(payload_at + 3),
        (payload_at + after) // 2,
        *range(after - 3, len(message) + 1),
    ]
    answered = 0
    for at in places:
        for piece in (*NASTY_PIECES, b""):
            for behind in (at, at + 1):
                variant = message[:at] + piece + message[behind:]
                answered += split_audio(variant) is not None
                assert_split_agrees(variant)
    assert answered > 50


@settings(deadline=None, max_examples=200)
@given(usual, st.data())
def test_split_audio_mutated_message_never_disagrees_with_decode(message, data):
    """However a message is damaged, the short cut says nothing or the same as the long way."""
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, 60) | st.integers(len(message) - 60, len(message)))
        end = min(len(message), start + data.draw(st.integers(0, 8)))
        piece = data.draw(st.sampled_from(NASTY_PIECES) | st.binary(max_size=3))
        message = message[:start] + piece + message[end:]
    assert_split_agrees(message)


UNUSUAL = {
    "small": one(payload="/w=="),
    "no audio": one(payload=""),
    "alignment": one()[:-2] + b',"alignment":{"chars":[],"char_start_times_ms":[],"char_durations_ms":[]}}}',
    "alignment null": one()[:-2] + b',"alignment":null}}',
    "is_final": one()[:-2] + b',"is_final":true}}',
    "id as a string": one(event_id='"7"'),
    "id with a fraction": one(event_id="7.0"),
    "negative id": one(event_id=-7),
    "id with a leading zero": one(event_id="07"),
    "id of 19 digits": one(event_id=10**18),
    "id first": one().replace(b'{"audio_base_64"', b'{"event_id":7,"audio_base_64"').replace(b',"event_id":7}', b"}"),
    "no id": one().replace(b',"event_id":7', b""),
    "no type": one().replace(b'"type":"audio",', b""),
    "type twice": one()[:-1] + b',"type":"audio"}',
    "other type": one().replace(b'"type":"audio"', b'"type":"ping"'),
    "escaped slash": one(payload=LONG + "\\/"),
    "escaped quote": one(payload=LONG + '\\"'),
    "control character": one(payload=LONG + "\x1f"),
    "not ascii": one(payload=LONG + "é"),
    "two payloads": one(payload=LONG + '","audio_base_64":"AA=='),
    "text behind": one() + b" ",
    "cut short": one()[:-1],
    "nested": b'{"x":' + one() + b"}",
    "endless payload": b'{"type":"audio","audio_event":{"audio_base_64":"' + b"A" * 9000,
}  # fmt: skip


@pytest.mark.parametrize("message", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_split_audio_unusual_message_is_left_to_decode(message):
    """Anything but a big plain audio message, however near, is not answered by the short cut."""
    assert split_audio(message) is None


@pytest.mark.parametrize("form", FORMS)
def test_split_audio_in_both_forms_gives_id_and_payload(form):
    """The type may stand before or behind the envelope."""
    assert split_audio(one(form)) == (7, LONG.encode())


@pytest.mark.parametrize("missing_bytes", [0, 1])
def test_split_audio_begins_at_its_least_size(missing_bytes):
    """Just below the size the long way is taken, at the size the short one."""
    overhead = len(one(payload=""))
    size = convai.SPLIT_MIN_BYTES - overhead - missing_bytes
    assert (split_audio(one(payload="A" * size)) is None) == bool(missing_bytes)
