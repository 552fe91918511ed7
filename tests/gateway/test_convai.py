"""Conversation codec: samples of every event and command, and round trips."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import convai
from gateway.convai import ConversationError, decode
from tests.gateway.convai_rig import (
    DOCUMENTED,
    FROM_AGENT,
    SAMPLES,
    compact,
    envelope_of,
    fields_of,
)

TO_AGENT = SAMPLES["to_agent"]

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
any_text = st.text(st.characters(exclude_categories=["Cs"]))


def said(event):
    """An event as the samples write it."""
    fields = dataclasses.asdict(event)
    if isinstance(fields.get("payload"), bytes):
        fields["payload"] = fields["payload"].decode()
    return json.loads(json.dumps({"kind": type(event).__name__, **fields}))


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


# ---- the facade ----------------------------------------------------------------------------------


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
