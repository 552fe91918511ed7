"""The samples of the conversation's events, and their fields as documented."""

from __future__ import annotations

import json
from pathlib import Path

SAMPLES = json.loads((Path(__file__).parents[1] / "data" / "convai_events.json").read_text("utf-8"))
FROM_AGENT = SAMPLES["from_agent"]

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


def compact(message):
    return json.dumps(message, separators=(",", ":")).encode()


def envelope_of(kind):
    return DOCUMENTED[kind][0].lstrip("?~")


def fields_of(kind, mark=""):
    names = DOCUMENTED[kind][1].split()
    return {name.lstrip("!~") for name in names if name.startswith(mark)}
