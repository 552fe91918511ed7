"""What we say to an ElevenLabs agent on the conversation socket: one JSON text message per function.

Import these from `gateway.convai`. A part without a value is left out, never sent as null.

Source: ElevenLabs Agents documentation, "Client to server events", and its AsyncAPI contract (types 0.21.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson

from gateway.errors import GatewayError


class ConversationError(GatewayError):
    """What the agent said, or what it was to be told, does not fit the conversation protocol.

    Of a message that was received, the text ends with a redacted sample.
    """


def encode_audio(payload: bytes) -> bytes:
    """Caller audio: base64 text of raw samples in the agent's `user_input_audio_format`."""
    return b'{"user_audio_chunk":"' + payload + b'"}'


def encode_initiation(
    *,
    dynamic_variables: Mapping[str, Any] | None = None,
    config_override: Mapping[str, Any] | None = None,
    user_id: str | None = None,
    source: str | None = None,
    version: str | None = None,
    custom_llm_extra_body: Mapping[str, Any] | None = None,
    branch_id: str | None = None,
    environment: str | None = None,
    starting_workflow_node_id: str | None = None,
    procedure_ids: Sequence[str] = (),
    start_procedure_ids: Sequence[str] = (),
    tool_mock_config: Mapping[str, Any] | None = None,
) -> bytes:
    """The first message of a conversation, to be sent before anything else.

    Inside `config_override` an empty string means something (no first message) and stays; None and empty
    objects are left out at any depth. Dynamic variables that are None are left out.

    Raises ConversationError when a value has no form in JSON (NaN, bytes, integers over 64 bits, …).
    """
    parts: dict[str, Any] = {
        "conversation_config_override": _without_none(config_override or {}),
        "custom_llm_extra_body": dict(custom_llm_extra_body or {}),
        "dynamic_variables": _present(dynamic_variables or {}),
        "user_id": user_id,
        "source_info": {
            key: text for key, text in (("source", source), ("version", version)) if text
        },
        "branch_id": branch_id,
        "environment": environment,
        "starting_workflow_node_id": starting_workflow_node_id,
        "procedure_ids": list(procedure_ids),
        "start_procedure_ids": list(start_procedure_ids),
        "tool_mock_config": _without_none(tool_mock_config or {}),
    }
    return _command(
        "conversation_initiation_client_data", **{key: part for key, part in parts.items() if part}
    )


def encode_pong(event_id: int) -> bytes:
    """The answer to a ping."""
    return _command("pong", event_id=event_id)


def encode_tool_result(tool_call_id: str, result: str, is_error: bool) -> bytes:
    """The answer to a client tool call; `result` is text for the model, also on an error."""
    return _command(
        "client_tool_result", tool_call_id=tool_call_id, result=result, is_error=is_error
    )


def encode_contextual_update(text: str, context_id: str | None = None) -> bytes:
    """Something the agent should know, without a reply. Of one `context_id` only the newest counts."""
    return _command("contextual_update", **_present({"text": text, "context_id": context_id}))


def encode_user_message(text: str | None, rich_content_id: str | None = None) -> bytes:
    """Text that is treated as if the caller had said it."""
    return _command("user_message", **_present({"text": text, "rich_content_id": rich_content_id}))


def encode_user_activity() -> bytes:
    """The caller is busy: the agent keeps quiet for another turn time-out."""
    return _command("user_activity")


def encode_feedback(event_id: int, score: Literal["like", "dislike"] | None) -> bytes:
    """A rating of a turn. None takes it back: the one null that is part of the protocol."""
    return _command("feedback", event_id=event_id, score=score)


def encode_mcp_tool_approval(tool_call_id: str, is_approved: bool) -> bytes:
    """The answer to an MCP tool call that awaits approval."""
    return _command("mcp_tool_approval_result", tool_call_id=tool_call_id, is_approved=is_approved)


def encode_multimodal_message(
    text: str | None = None, file_id: str | None = None, file_ids: Sequence[str] = ()
) -> bytes:
    """Text together with an uploaded file, or with several (`file_ids`, since types 0.23.0)."""
    parts: dict[str, Any] = {}
    if text is not None:
        parts["text"] = {"type": "user_message", "text": text}
    if file_id is not None:
        parts["file"] = {"type": "file_input", "file_id": file_id}
    if file_ids:
        parts["files"] = [{"type": "file_input", "file_id": one} for one in file_ids]
    return _command("multimodal_message", **parts)


def _command(kind: str, **fields: Any) -> bytes:
    _refuse_non_finite(fields)
    try:
        return orjson.dumps({"type": kind, **fields})
    except TypeError as error:  # orjson.JSONEncodeError is one; it names types, not values
        raise ConversationError(f"`{kind}` has no form in JSON: {error}") from None


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _without_none(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` without None and without objects that are, or have become, empty."""
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        pruned = _without_none(value) if isinstance(value, Mapping) else value
        if pruned is not None and pruned != {}:
            kept[key] = pruned
    return kept


def _refuse_non_finite(value: object) -> None:
    """JSON has no NaN and no infinity, and orjson would write null for them."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConversationError("a number to be sent is not finite")
    if isinstance(value, Mapping):
        for item in value.values():
            _refuse_non_finite(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_non_finite(item)
