"""The documented shape of every client message; what does not fit is a violation.

Source: ElevenLabs Agents WebSocket contract (AsyncAPI, `@elevenlabs/types`), client events.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any

_NUMBER = (int, float)

#: type -> {field: (accepted types, required)}
_FIELDS: dict[str, dict[str, tuple[tuple[type, ...], bool]]] = {
    "conversation_initiation_client_data": {
        "conversation_config_override": ((dict,), False),
        "custom_llm_extra_body": ((dict,), False),
        "dynamic_variables": ((dict,), False),
        "user_id": ((str,), False),
        "source_info": ((dict,), False),
        "branch_id": ((str,), False),
        "environment": ((str,), False),
        "starting_workflow_node_id": ((str,), False),
        "procedure_ids": ((list,), False),
        "start_procedure_ids": ((list,), False),
        "tool_mock_config": ((dict,), False),
    },
    "pong": {"event_id": ((int,), True)},
    "client_tool_result": {
        "tool_call_id": ((str,), True),
        "result": ((str,), True),
        "is_error": ((bool,), True),
    },
    "contextual_update": {"text": ((str,), True), "context_id": ((str,), False)},
    "user_message": {
        "text": ((str, type(None)), False),
        "rich_content_id": ((str,), False),
    },
    "user_activity": {},
    "feedback": {"event_id": ((int,), True), "score": ((str, type(None)), True)},
    "mcp_tool_approval_result": {
        "tool_call_id": ((str,), True),
        "is_approved": ((bool,), True),
    },
    "multimodal_message": {"text": ((dict, type(None)), False), "file": ((dict,), False)},
}


class BadMessage(ValueError):
    """No message of the protocol at all: the real service closes with 1008 `invalid_message`."""


def read(message: str | bytes) -> tuple[str, dict[str, Any]]:
    """The message's type ("user_audio_chunk" for audio) and its object; `BadMessage` when hopeless."""
    if isinstance(message, bytes):
        raise BadMessage("a binary frame")
    try:
        body = json.loads(message)
    except ValueError as error:
        raise BadMessage("not JSON") from error
    if not isinstance(body, dict):
        raise BadMessage("not a JSON object")
    if "user_audio_chunk" in body:
        return "user_audio_chunk", body
    kind = body.get("type")
    if not isinstance(kind, str):
        raise BadMessage("neither `type` nor `user_audio_chunk`")
    return kind, body


def problems(kind: str, body: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a message other than audio."""
    fields = _FIELDS.get(kind)
    if fields is None:
        yield f"unknown message type {kind!r}"
        return
    for name, (types, required) in fields.items():
        if name not in body:
            if required:
                yield f"{kind} without {name}"
        elif not isinstance(body[name], types) or (bool not in types and body[name] is True):
            yield f"{kind}.{name} is {type(body[name]).__name__}"
    unknown = sorted(set(body) - set(fields) - {"type"})
    if unknown:
        yield f"{kind} with unknown fields {', '.join(unknown)}"
    if kind == "conversation_initiation_client_data":
        yield from _initiation_problems(body)
    if kind == "feedback" and body.get("score") not in ("like", "dislike", None):
        yield f"feedback.score {body.get('score')!r}"


def _initiation_problems(body: dict[str, Any]) -> Iterator[str]:
    variables = body.get("dynamic_variables")
    for name, value in (variables if isinstance(variables, dict) else {}).items():
        if name.startswith("system__"):
            yield f"dynamic variable {name} is reserved"
        if not isinstance(value, (str, bool, *_NUMBER)):
            yield f"dynamic variable {name} is {type(value).__name__}"
    yield from _override_problems(body.get("conversation_config_override") or {}, "override")
    source = body.get("source_info")
    if isinstance(source, dict) and not set(source) <= {"source", "version"}:
        yield "source_info with unknown fields"


def _override_problems(node: Any, path: str) -> Iterator[str]:
    """Nulls are to be left out, and audio formats belong to the agent alone."""
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        if value is None:
            yield f"{path}.{name} is null"
        if name in ("agent_output_audio_format", "user_input_audio_format"):
            yield f"{path}.{name}: audio formats cannot be overridden"
        yield from _override_problems(value, f"{path}.{name}")


def read_audio(body: dict[str, Any], sample_bytes: int) -> tuple[bytes, list[str]]:
    """The caller audio of a `user_audio_chunk` message and what is wrong with it."""
    text = body["user_audio_chunk"]
    wrong = ["user_audio_chunk with other fields"] if len(body) > 1 else []
    if not isinstance(text, str):
        return b"", [*wrong, f"user_audio_chunk is {type(text).__name__}"]
    try:
        audio = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b"", [*wrong, "user_audio_chunk is not base64"]
    if not audio:
        wrong.append("user_audio_chunk is empty")
    if len(audio) % sample_bytes:
        wrong.append("user_audio_chunk with half a sample")
    return audio, wrong
