"""One reader for each event type of the ElevenLabs conversation socket: JSON object in, value out.

Envelope names are irregular; they are the server's. Fields are read as optional unless the event would be
worthless without them; null is the same as absent; a field that is there with the wrong type is an error
(FieldError). For `gateway.convai` only.

Source: ElevenLabs Agents documentation, "Client events", and its AsyncAPI contract (types 0.21.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from gateway import convai_events as events
from gateway.wire_json import (
    FieldError,
    as_count,
    count_in,
    flag_in,
    number_in,
    object_in,
    optional_count_in,
    optional_object_in,
    optional_text_in,
    text_in,
)

Body: TypeAlias = dict[str, Any]

DEFAULT_FORMAT: Final = "pcm_16000"
"""Both audio formats, where an old server does not name them."""


def _event_id(event: Body) -> int:
    return optional_count_in(event, "event_id") or 0


def _metadata(body: Body) -> events.Metadata:
    event = object_in(body, "conversation_initiation_metadata_event")
    return events.Metadata(
        text_in(event, "conversation_id"),
        optional_text_in(event, "agent_output_audio_format") or DEFAULT_FORMAT,
        optional_text_in(event, "user_input_audio_format") or DEFAULT_FORMAT,
    )


def _ping(body: Body) -> events.Ping:
    event = object_in(body, "ping_event")
    return events.Ping(count_in(event, "event_id"), optional_count_in(event, "ping_ms"))


def _audio(body: Body) -> events.AgentAudio:
    event = object_in(body, "audio_event")
    payload = text_in(event, "audio_base_64")
    if not payload.isascii():
        raise FieldError("`audio_base_64` is not ASCII")
    given = event.get("alignment")
    alignment = None if given is None else _alignment(given)
    return events.AgentAudio(
        _event_id(event),
        payload.encode("ascii"),
        None if event.get("is_final") is None else flag_in(event, "is_final", False),
        alignment,
        given is not None and alignment is None,
    )


def _alignment(given: object) -> events.Alignment | None:
    if not isinstance(given, dict):
        return None
    chars = given.get("chars")
    start_ms = _times_ms(given.get("char_start_times_ms"))
    duration_ms = _times_ms(given.get("char_durations_ms"))
    if not isinstance(chars, list) or start_ms is None or duration_ms is None:
        return None
    if not len(chars) == len(start_ms) == len(duration_ms) or set(map(type, chars)) - {str}:
        return None
    return events.Alignment(tuple(chars), start_ms, duration_ms)


def _times_ms(given: object) -> tuple[int, ...] | None:
    if not isinstance(given, list):
        return None
    if not set(map(type, given)) - {int}:
        return tuple(given)
    times_ms = [as_count(round(time) if _is_fraction(time) else time) for time in given]
    return None if None in times_ms else tuple(time for time in times_ms if time is not None)


def _is_fraction(time: object) -> bool:
    return isinstance(time, float) and abs(time) < 1e15


def _agent_response(body: Body) -> events.AgentResponse:
    event = object_in(body, "agent_response_event")
    return events.AgentResponse(text_in(event, "agent_response"), _event_id(event))


def _correction(body: Body) -> events.AgentResponseCorrection:
    event = object_in(body, "agent_response_correction_event")
    return events.AgentResponseCorrection(
        text_in(event, "original_agent_response"),
        text_in(event, "corrected_agent_response"),
        _event_id(event),
    )


def _complete(body: Body) -> events.AgentResponseComplete:
    return events.AgentResponseComplete(
        _event_id(optional_object_in(body, "agent_response_complete_event"))
    )


def _text_part(body: Body) -> events.AgentTextPart:
    reasoning = body["type"] == "agent_reasoning_response_part"
    event = object_in(body, "reasoning_response_part" if reasoning else "text_response_part")
    event_id = event.get("event_id")  # a number in one of the events, a string in the other
    return events.AgentTextPart(
        text_in(event, "text"),
        optional_text_in(event, "type") or "delta",
        event_id if isinstance(event_id, str) else str(_event_id(event)),
        reasoning,
    )


def _user_transcript(body: Body) -> events.UserTranscript:
    event = object_in(body, "user_transcription_event")
    return events.UserTranscript(text_in(event, "user_transcript"), _event_id(event))


def _tentative_transcript(body: Body) -> events.UserTranscript:
    event = object_in(body, "tentative_user_transcription_event")
    return events.UserTranscript(
        text_in(event, "user_transcript"), _event_id(event), tentative=True
    )


def _interruption(body: Body) -> events.Interruption:
    return events.Interruption(_event_id(object_in(body, "interruption_event")))


def _vad_score(body: Body) -> events.VadScore:
    return events.VadScore(number_in(object_in(body, "vad_score_event"), "vad_score"))


def _client_tool_call(body: Body) -> events.ClientToolCall:
    event = object_in(body, "client_tool_call")
    return events.ClientToolCall(
        text_in(event, "tool_name"),
        text_in(event, "tool_call_id"),
        optional_object_in(event, "parameters"),
        _event_id(event),
        flag_in(event, "expects_response", True),
    )


def _tool_request(body: Body) -> events.AgentToolRequest:
    event = object_in(body, "agent_tool_request")
    return events.AgentToolRequest(
        text_in(event, "tool_name"),
        optional_text_in(event, "tool_call_id") or "",
        optional_text_in(event, "tool_type") or "",
        _event_id(event),
    )


def _tool_response(body: Body) -> events.AgentToolResponse:
    event = object_in(body, body["type"])  # both forms name the envelope like the type
    return events.AgentToolResponse(
        tool_name=text_in(event, "tool_name"),
        tool_call_id=optional_text_in(event, "tool_call_id") or "",
        tool_type=optional_text_in(event, "tool_type") or "",
        is_error=flag_in(event, "is_error", False),
        is_called=flag_in(event, "is_called", True),
        event_id=_event_id(event),
        is_blocked=flag_in(event, "is_blocked", False),
        full_result=optional_text_in(event, "full_tool_result"),
        truncated=flag_in(event, "truncated", False),
    )


def _mcp_tool_call(body: Body) -> events.McpToolCall:
    event = object_in(body, "mcp_tool_call")
    result = event.get("result")
    if result is not None and not isinstance(result, list):
        raise FieldError("`result` is not a list")
    return events.McpToolCall(
        service_id=optional_text_in(event, "service_id") or "",
        tool_call_id=text_in(event, "tool_call_id"),
        tool_name=text_in(event, "tool_name"),
        tool_description=optional_text_in(event, "tool_description"),
        parameters=optional_object_in(event, "parameters"),
        timestamp=optional_text_in(event, "timestamp") or "",
        state=text_in(event, "state"),
        approval_timeout_s=optional_count_in(event, "approval_timeout_secs"),
        result=None if result is None else tuple(result),
        error_message=optional_text_in(event, "error_message"),
    )


def _mcp_status(body: Body) -> events.McpConnectionStatus:
    rows = object_in(body, "mcp_connection_status").get("integrations")
    if not isinstance(rows, list):
        raise FieldError("`integrations` is not a list")
    return events.McpConnectionStatus(tuple(_mcp_integration(row) for row in rows))


def _mcp_integration(row: object) -> events.McpIntegration:
    if not isinstance(row, dict):
        raise FieldError("`integrations` holds something that is not an object")
    return events.McpIntegration(
        text_in(row, "integration_id"),
        optional_text_in(row, "integration_type") or "",
        flag_in(row, "is_connected", False),
        optional_count_in(row, "tool_count") or 0,
    )


def _context_usage(body: Body) -> events.ContextUsage:
    event = object_in(body, "context_usage_event")
    return events.ContextUsage(
        _event_id(event),
        optional_text_in(event, "model") or "",
        count_in(event, "context_tokens"),
        count_in(event, "context_limit_tokens"),
    )


def _guardrail(body: Body) -> events.GuardrailTriggered:
    event = optional_object_in(body, "guardrail_triggered_event")
    return events.GuardrailTriggered(optional_text_in(event, "guardrail_name"))


def _queue_status(body: Body) -> events.QueueStatus:
    return events.QueueStatus(text_in(object_in(body, "queue_status_event"), "status"))


def _error(body: Body) -> events.AgentError:
    event = optional_object_in(body, "error_event")
    return events.AgentError(
        code=optional_count_in(event, "code"),
        error_type=optional_text_in(event, "error_type") or optional_text_in(event, "error_name"),
        message=optional_text_in(event, "message"),
        reason=optional_text_in(event, "reason"),
        debug_message=optional_text_in(event, "debug_message"),
        details=None if event.get("details") is None else object_in(event, "details"),
    )


def _typing(body: Body) -> events.AgentTyping:
    event = object_in(body, "agent_typing_event")
    return events.AgentTyping(
        flag_in(event, "is_typing", False), optional_count_in(event, "duration_ms")
    )


def _external_agent(body: Body) -> events.ExternalAgent:
    return events.ExternalAgent(body["type"] == "external_agent_connected")


def _rich_content(body: Body) -> events.RichContent:
    event = object_in(body, "rich_content")
    return events.RichContent(
        optional_text_in(event, "rich_content_id") or "",
        text_in(event, "component"),
        optional_object_in(event, "props"),
        _event_id(event),
    )


def _other(body: Body) -> events.Other:
    return events.Other(body["type"], body)


READERS: Final[dict[str, Callable[[Body], events.ServerEvent]]] = {
    "conversation_initiation_metadata": _metadata,
    "ping": _ping,
    "audio": _audio,
    "agent_response": _agent_response,
    "agent_response_correction": _correction,
    "agent_response_complete": _complete,
    "agent_chat_response_part": _text_part,
    "agent_reasoning_response_part": _text_part,
    "user_transcript": _user_transcript,
    "tentative_user_transcript": _tentative_transcript,
    "interruption": _interruption,
    "vad_score": _vad_score,
    "client_tool_call": _client_tool_call,
    "agent_tool_request": _tool_request,
    "agent_tool_response": _tool_response,
    "agent_tool_response_full_payload": _tool_response,
    "mcp_tool_call": _mcp_tool_call,
    "mcp_connection_status": _mcp_status,
    "context_usage": _context_usage,
    "guardrail_triggered": _guardrail,
    "queue_status": _queue_status,
    "error": _error,
    "client_error": _error,
    "agent_typing": _typing,
    "external_agent_connected": _external_agent,
    "external_agent_disconnected": _external_agent,
    "rich_content": _rich_content,
    "asr_initiation_metadata": _other,
    "agent_response_metadata": _other,
    "dtmf_request": _other,
    "internal_turn_probability": _other,
    "internal_tentative_agent_response": _other,
}
"""By `type`: everything in the contract, and what servers were seen to send beyond it."""
