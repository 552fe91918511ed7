"""Conversation codec: junk, and each field of each event absent, of a wrong type or huge."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import convai
from gateway.convai import AgentAudio, ConversationError, decode, split_audio
from tests.gateway.convai_rig import DOCUMENTED, FROM_AGENT, compact, envelope_of, fields_of

COUNTERS = {
    "event_id",
    "ping_ms",
    "code",
    "context_tokens",
    "context_limit_tokens",
    "duration_ms",
    "approval_timeout_secs",
}

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def is_read(kind, name):
    return name not in fields_of(kind, "~") and not DOCUMENTED[kind][0].startswith("~")


EVERY_FIELD = [
    pytest.param(row["message"], name, id=f"{number}-{row['message']['type']}-{name}")
    for number, row in enumerate(FROM_AGENT)
    for name in row["message"].get(envelope_of(row["message"]["type"]), {})
    if row["message"]["type"] != "dtmf_request"
]
EVERY_ENVELOPE = [
    pytest.param(row["message"], id=f"{number}-{row['message']['type']}")
    for number, row in enumerate(FROM_AGENT)
    if envelope_of(row["message"]["type"]) in row["message"]
]


def with_field(message, name, value=None, *, remove=False):
    message = copy.deepcopy(message)
    inner = message[envelope_of(message["type"])]
    if remove:
        del inner[name]
    else:
        inner[name] = value
    return compact(message)


# ---- junk ----------------------------------------------------------------------------------------

types_known = st.sampled_from(sorted(DOCUMENTED))
inner_names = sorted(set().union(*map(fields_of, DOCUMENTED)))


@st.composite
def near_events(draw):
    """The right type and envelope with anything at all inside."""
    kind = draw(types_known)
    inner = draw(any_json | st.dictionaries(st.sampled_from(inner_names), any_json, max_size=6))
    return {"type": kind, envelope_of(kind): inner}


@settings(deadline=None, max_examples=400)
@given(
    st.binary(max_size=300)
    | (near_events() | any_json).map(lambda value: json.dumps(value).encode())
)
def test_codec_any_bytes_and_any_json_raise_only_its_own_error(message):
    """Nothing that a server sends makes anything but a ConversationError; the short cut never raises."""
    split_audio(message)
    try:
        decode(message)
    except ConversationError as error:
        assert len(str(error)) < 300  # noqa: PT017  (either outcome is fine)


@pytest.mark.parametrize(
    "message",
    [b"", b"{", b"[]", b'"audio"', b"null", b"\xff\xfe", b"{}", b'{"type":7}', b'{"type":null}',
     b'{"type":"\xc3"}', b"[" * 100_000, b'{"a":' * 100_000, b'{"type":"ping","ping_event":"\\ud800"}'],
    ids=lambda message: repr(message[:24]),
)  # fmt: skip
def test_decode_what_is_no_event_is_refused(message):
    """Broken JSON, JSON of another kind and bottomless nesting are all the same to us."""
    with pytest.raises(ConversationError):
        decode(message)


# ---- each field ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["missing", "null"])
@pytest.mark.parametrize(("message", "name"), EVERY_FIELD)
def test_decode_field_absent_is_refused_only_when_required(message, name, how):
    """An event without one of its fields, or with null for it, is an error only if worthless."""
    kind = message["type"]
    broken = with_field(message, name, None, remove=how == "missing")
    if name in fields_of(kind, "!"):
        with pytest.raises(ConversationError, match=name):
            decode(broken)
    else:
        assert decode(broken) is not None


@pytest.mark.parametrize("wrong", [[[1]], {"a": [1]}], ids=["list", "object"])
@pytest.mark.parametrize(("message", "name"), EVERY_FIELD)
def test_decode_field_of_wrong_type_is_refused(message, name, wrong):
    """A field of the wrong type is an error that names a field, unless nobody reads it."""
    kind = message["type"]
    broken = with_field(message, name, wrong)
    takes_object = name in {"parameters", "props", "details"} and isinstance(wrong, dict)
    takes_list = name == "result" and isinstance(wrong, list)
    if not is_read(kind, name) or takes_object or takes_list:
        assert decode(broken) is not None
    elif name == "alignment":
        event = decode(broken)
        assert isinstance(event, AgentAudio)
        assert event.bad_alignment
    else:
        with pytest.raises(ConversationError, match="`"):
            decode(broken)


@pytest.mark.parametrize(
    "given_as", [True, 1.5, "1.5", "", "x", "٣", 10**30, "9" * 5000, -(10**18)]
)
@pytest.mark.parametrize(
    ("message", "name"), [field for field in EVERY_FIELD if field.values[1] in COUNTERS]
)
def test_decode_counter_that_is_no_count_is_refused(message, name, given_as):
    """Ids and counts are whole numbers of up to 18 digits, as numbers or as strings."""
    kind = message["type"]
    broken = with_field(message, name, given_as)
    is_free_id = "response_part" in kind and isinstance(given_as, str)
    if not is_read(kind, name) or is_free_id:
        assert decode(broken) is not None
    else:
        with pytest.raises(ConversationError, match="18 digits"):
            decode(broken)


@pytest.mark.parametrize(("message", "name"), EVERY_FIELD)
def test_decode_huge_text_is_refused_or_kept(message, name):
    """Three megabytes of text where a field belongs are an error or a value, never a crash."""
    try:
        decode(with_field(message, name, "x" * 3_000_000))
    except ConversationError as error:
        assert len(str(error)) < 300  # noqa: PT017


@pytest.mark.parametrize("how", ["missing", "list", "text"])
@pytest.mark.parametrize("message", EVERY_ENVELOPE)
def test_decode_envelope_broken_is_refused_unless_optional(message, how):
    """The envelope is the one thing that has to be there, but for the events that may be bare."""
    kind = message["type"]
    mark = DOCUMENTED[kind][0][0]
    broken = dict(message)
    if how == "missing":
        del broken[envelope_of(kind)]
    else:
        broken[envelope_of(kind)] = [1] if how == "list" else "x"
    if mark == "~" or (mark == "?" and how == "missing"):
        assert decode(compact(broken)) is not None
    else:
        with pytest.raises(ConversationError, match=envelope_of(kind)):
            decode(compact(broken))


@pytest.mark.parametrize(
    ("alignment", "expected"),
    [
        ({"chars": [], "char_start_times_ms": [], "char_durations_ms": []}, ((), (), ())),
        ({"chars": ["a"], "char_start_times_ms": [1.6], "char_durations_ms": ["7"]}, (("a",), (2,), (7,))),
        ({"chars": ["a"], "char_start_times_ms": [True], "char_durations_ms": [1]}, None),
        ({"chars": ["a"], "char_start_times_ms": [1e300], "char_durations_ms": [1]}, None),
        ({"chars": ["a"], "char_start_times_ms": [None], "char_durations_ms": [1]}, None),
        ({"chars": [1], "char_start_times_ms": [1], "char_durations_ms": [1]}, None),
        ({"chars": "a", "char_start_times_ms": [1], "char_durations_ms": [1]}, None),
        ({"chars": ["a"], "char_start_times_ms": [1]}, None),
        ([], None),
        ("x", None),
    ],
)  # fmt: skip
def test_decode_alignment_of_any_form_never_costs_the_audio(alignment, expected):
    """Audio is played even if its character times are nonsense, and the nonsense is told."""
    event = decode(
        compact({"type": "audio", "audio_event": {"audio_base_64": "/w==", "event_id": 1, "alignment": alignment}})
    )  # fmt: skip
    assert isinstance(event, AgentAudio)
    assert event.payload == b"/w=="
    assert event.bad_alignment == (expected is None)
    assert event.alignment == (None if expected is None else convai.Alignment(*expected))


def test_error_text_shows_keys_but_no_values():
    """A sample in a log betrays neither what was said nor numbers nor ids."""
    with pytest.raises(ConversationError) as caught:
        decode(
            b'{"type":"client_tool_call","client_tool_call":{"tool_name":"pay","parameters":'
            b'{"card":"4111111111111111","pin":4711,"+14155550123":"Ana"},"event_id":9}}'
        )
    text = str(caught.value)
    assert "`tool_call_id` is missing" in text
    assert '"client_tool_call":{"tool_name":"' in text
    assert not any(secret in text for secret in ("4111", "4711", "4155", "Ana", "pay"))
