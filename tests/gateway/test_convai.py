"""Conversation codec: samples, round trips, junk, broken fields, and the short cut against `decode`."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import convai
from gateway.convai import AgentAudio, ConversationError, decode, split_audio

SAMPLES = json.loads((Path(__file__).parents[1] / "data" / "convai_events.json").read_text("utf-8"))
FROM_AGENT = SAMPLES["from_agent"]
TO_AGENT = SAMPLES["to_agent"]

# The server's events and the fields inside their envelopes, written down by hand from the provider's
# contract. `!`: the event is refused without it. `~`: not read. Everything else may be missing.
DOCUMENTED = {
    "conversation_initiation_metadata": (
        "conversation_initiation_metadata_event",
        "!conversation_id agent_output_audio_format user_input_audio_format",
    ),
    "asr_initiation_metadata": ("~asr_initiation_metadata_event", ""),
    "ping": ("ping_event", "!event_id ping_ms"),
    "audio": ("audio_event", "!audio_base_64 event_id alignment is_final"),
    "agent_response": ("agent_response_event", "!agent_response event_id ~attachments"),
    "agent_response_correction": (
        "agent_response_correction_event",
        "!original_agent_response !corrected_agent_response event_id",
    ),
    "agent_response_complete": ("?agent_response_complete_event", "event_id"),
    "agent_response_metadata": ("~agent_response_metadata_event", "~metadata ~event_id"),
    "agent_chat_response_part": ("text_response_part", "!text type event_id"),
    "agent_reasoning_response_part": ("reasoning_response_part", "!text type event_id"),
    "user_transcript": ("user_transcription_event", "!user_transcript event_id"),
    "tentative_user_transcript": (
        "tentative_user_transcription_event",
        "!user_transcript event_id",
    ),
    "interruption": ("interruption_event", "event_id ~reason"),
    "vad_score": ("vad_score_event", "!vad_score"),
    "client_tool_call": (
        "client_tool_call",
        "!tool_name !tool_call_id parameters event_id expects_response",
    ),
    "agent_tool_request": ("agent_tool_request", "!tool_name tool_call_id tool_type event_id"),
    "agent_tool_response": (
        "agent_tool_response",
        "!tool_name tool_call_id tool_type is_error is_called event_id",
    ),
    "agent_tool_response_full_payload": (
        "agent_tool_response_full_payload",
        "!tool_name tool_call_id tool_type is_error is_blocked is_called event_id full_tool_result"
        " truncated",
    ),
    "mcp_tool_call": (
        "mcp_tool_call",
        "service_id !tool_call_id !tool_name tool_description parameters timestamp !state"
        " approval_timeout_secs result error_message",
    ),
    "mcp_connection_status": ("mcp_connection_status", "!integrations"),
    "context_usage": (
        "context_usage_event",
        "event_id model !context_tokens !context_limit_tokens",
    ),
    "guardrail_triggered": ("?guardrail_triggered_event", "guardrail_name"),
    "queue_status": ("queue_status_event", "!status"),
    "error": ("?error_event", "code message error_type reason debug_message details"),
    "client_error": ("?error_event", "error_name message"),
    "dtmf_request": ("~digits", ""),
    "agent_typing": ("agent_typing_event", "is_typing duration_ms"),
    "external_agent_connected": ("~external_agent_connected_event", ""),
    "external_agent_disconnected": ("~external_agent_disconnected_event", ""),
    "rich_content": ("rich_content", "rich_content_id !component props event_id"),
    "internal_turn_probability": ("~turn_probability_internal_event", "~turn_probability"),
    "internal_tentative_agent_response": (
        "~tentative_agent_response_internal_event",
        "~tentative_agent_response",
    ),
}
CONTRACT_TYPES = {
    "audio",
    "agent_response",
    "agent_response_correction",
    "agent_chat_response_part",
    "agent_reasoning_response_part",
    "interruption",
    "user_transcript",
    "tentative_user_transcript",
    "conversation_initiation_metadata",
    "client_tool_call",
    "rich_content",
    "agent_tool_request",
    "agent_tool_response",
    "agent_tool_response_full_payload",
    "mcp_tool_call",
    "mcp_connection_status",
    "vad_score",
    "ping",
    "context_usage",
    "asr_initiation_metadata",
    "guardrail_triggered",
    "internal_turn_probability",
    "internal_tentative_agent_response",
    "agent_typing",
    "external_agent_connected",
    "external_agent_disconnected",
}
BEYOND_CONTRACT = {
    "error",
    "client_error",
    "queue_status",
    "agent_response_complete",
    "agent_response_metadata",
    "dtmf_request",
}
# What we say: all fields, and those that are always there.
COMMANDS = {
    "conversation_initiation_client_data": (
        "conversation_config_override custom_llm_extra_body dynamic_variables user_id source_info"
        " branch_id environment starting_workflow_node_id procedure_ids start_procedure_ids"
        " tool_mock_config",
        "",
    ),
    "pong": ("event_id", "event_id"),
    "client_tool_result": ("tool_call_id result is_error", "tool_call_id result is_error"),
    "contextual_update": ("text context_id", "text"),
    "user_message": ("text rich_content_id", ""),
    "user_activity": ("", ""),
    "feedback": ("event_id score", "event_id score"),
    "mcp_tool_approval_result": ("tool_call_id is_approved", "tool_call_id is_approved"),
    "multimodal_message": ("text file files", ""),
}
COUNTERS = {
    "event_id",
    "ping_ms",
    "code",
    "context_tokens",
    "context_limit_tokens",
    "duration_ms",
    "approval_timeout_secs",
}

any_text = st.text(st.characters(exclude_categories=["Cs"]))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def compact(message):
    return json.dumps(message, separators=(",", ":")).encode()


def said(event):
    """An event as the samples write it."""
    fields = dataclasses.asdict(event)
    if isinstance(fields.get("payload"), bytes):
        fields["payload"] = fields["payload"].decode()
    return json.loads(json.dumps({"kind": type(event).__name__, **fields}))


def envelope_of(kind):
    return DOCUMENTED[kind][0].lstrip("?~")


def fields_of(kind, mark=""):
    names = DOCUMENTED[kind][1].split()
    return {name.lstrip("!~") for name in names if name.startswith(mark)}


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


# ---- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", FROM_AGENT, ids=[row["about"] for row in FROM_AGENT])
@pytest.mark.parametrize("indent", [None, 1], ids=["one_line", "indented"])
def test_decode_documented_event_gives_hand_written_value(row, indent):
    """Each sample decodes to what is written beside it, however it is laid out."""
    assert said(decode(compact(row["message"]))) == row["decoded"]
    assert said(decode(json.dumps(row["message"], indent=indent).encode())) == row["decoded"]


def test_samples_cover_every_event_and_field():
    """No event and no field of the provider's pages is without a sample, and no sample invents one."""
    assert len(CONTRACT_TYPES) == 26
    assert set(DOCUMENTED) == CONTRACT_TYPES | BEYOND_CONTRACT
    seen: dict[str, set[str]] = {}
    for row in FROM_AGENT:
        message = row["message"]
        kind = message["type"]
        assert set(message) <= {"type", envelope_of(kind)}
        inner = message.get(envelope_of(kind), {})
        seen.setdefault(kind, set()).update(inner if isinstance(inner, dict) else ())
    free_bodies = {"asr_initiation_metadata", "dtmf_request"}
    for kind in set(DOCUMENTED) - free_bodies:
        assert seen[kind] == fields_of(kind), kind


@pytest.mark.parametrize("row", TO_AGENT, ids=lambda row: row["call"])
def test_encoder_writes_hand_written_message(row):
    """Each encoder writes exactly the message beside its arguments."""
    message = getattr(convai, row["call"])(*row["args"], **row["kwargs"])
    assert json.loads(message) == row["message"]


def test_encoders_cover_every_command_and_only_documented_fields():
    """All client events exist, with the documented fields and never without the required ones."""
    assert {row["message"]["type"] for row in TO_AGENT} == set(COMMANDS)
    for kind, (every, required) in COMMANDS.items():
        written = [
            set(row["message"]) - {"type"} for row in TO_AGENT if row["message"]["type"] == kind
        ]
        assert set().union(*written) == set(every.split()), kind
        assert all(set(required.split()) <= fields for fields in written), kind


def test_encode_audio_is_the_one_message_without_type():
    """Caller audio goes out under its own key, untouched."""
    assert convai.encode_audio(b"/////w==") == b'{"user_audio_chunk":"/////w=="}'


def test_decode_unknown_type_gives_none():
    """The list of types is open: a new one is not an error."""
    assert decode(b'{"type":"mood_ring","mood_ring_event":{"event_id":1}}') is None


# ---- round trips ---------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_encode_audio_any_audio_survives_json(audio):
    """The audio the agent would decode is the audio that went in."""
    message = json.loads(convai.encode_audio(base64.b64encode(audio)))
    assert list(message) == ["user_audio_chunk"]
    assert base64.b64decode(message["user_audio_chunk"], validate=True) == audio


@settings(deadline=None)
@given(any_text, any_text, st.booleans(), st.integers(-(2**63), 2**63 - 1))
def test_encoders_any_text_and_id_survive_json(text, other, flag, number):
    """Whatever the texts hold, quotes and control characters too, the agent reads those texts."""
    written = {
        convai.encode_pong(number): {"type": "pong", "event_id": number},
        convai.encode_tool_result(other, text, flag): {
            "type": "client_tool_result",
            "tool_call_id": other,
            "result": text,
            "is_error": flag,
        },
        convai.encode_contextual_update(text, other): {
            "type": "contextual_update",
            "text": text,
            "context_id": other,
        },
        convai.encode_user_message(text): {"type": "user_message", "text": text},
        convai.encode_mcp_tool_approval(text, flag): {
            "type": "mcp_tool_approval_result",
            "tool_call_id": text,
            "is_approved": flag,
        },
    }
    for message, expected in written.items():
        assert json.loads(message) == expected


scalars = any_text | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)  # fmt: skip
trees = st.recursive(
    st.none() | scalars | st.lists(scalars, max_size=3),
    lambda inner: st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)


def holds_nothing(tree):
    """None, or an object with only nothing in it, at any depth."""
    return tree is None or (isinstance(tree, dict) and all(map(holds_nothing, tree.values())))


def has_no_nothing(tree):
    if isinstance(tree, dict):
        return all(not holds_nothing(v) and has_no_nothing(v) for v in tree.values())
    return tree is not None


def leaves(tree, path=()):
    if isinstance(tree, dict):
        return {leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))}
    return set() if tree is None else {(path, json.dumps(tree))}


@settings(deadline=None)
@given(
    st.dictionaries(any_text, st.none() | scalars, max_size=5),
    st.dictionaries(any_text, trees, max_size=4),
    st.none() | any_text,
    st.none() | any_text,
)
def test_encode_initiation_leaves_out_nothing_but_what_is_empty(variables, override, user, version):
    """No null goes out, and every value that went in comes out at its place."""
    message = json.loads(
        convai.encode_initiation(
            dynamic_variables=variables,
            config_override=override,
            user_id=user,
            source=None,
            version=version,
        )
    )
    assert message.pop("type") == "conversation_initiation_client_data"
    assert all(message.values())
    assert has_no_nothing(message)
    assert leaves(message.get("dynamic_variables", {})) == leaves(variables)
    assert leaves(message.get("conversation_config_override", {})) == leaves(override)
    assert message.get("user_id") == (user or None)
    assert message.get("source_info") == ({"version": version} if version else None)


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], {"x": -float("inf")}, b"bytes", 2**64, "\ud800", {1: 2}, object()],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_encode_initiation_value_without_json_form_is_refused(value):
    """What JSON cannot say is an error here, not a null or a crash at the agent's end."""
    with pytest.raises(ConversationError):
        convai.encode_initiation(dynamic_variables={"name": value})


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


# ---- the short cut -------------------------------------------------------------------------------

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


def test_facade_offers_every_value_and_command():
    """`gateway.convai` is all that its users have to import."""
    from gateway import convai_commands, convai_events

    for module in (convai_events, convai_commands):
        own = {
            name
            for name, thing in vars(module).items()
            if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__
        }
        assert own <= set(convai.__all__)
