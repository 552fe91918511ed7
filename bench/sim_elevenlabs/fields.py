"""Which fields a request may have, and which values; everything else is the list form of 422.

Field names as in ElevenLabs' Python package 2.78.0 (MIT), enumerations as in its API reference. The service
itself overlooks some unknown fields; a client that sends one has a mistake, so here it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

Tree: TypeAlias = "Mapping[str, Tree | None]"
Problem: TypeAlias = tuple[list[str], str, str]
"""`loc`, `msg`, `type` of a 422."""


def _names(text: str) -> dict[str, None]:
    return dict.fromkeys(text.split())


_PROMPT: Tree = {
    **_names(
        "prompt llm reasoning_effort service_tier thinking_budget enable_reasoning_summary temperature "
        "max_tokens tool_ids tool_ids_strict enable_parallel_tool_calls mcp_server_ids "
        "native_mcp_server_ids knowledge_base custom_llm ignore_default_personality timezone "
        "backup_llm_config cascade_timeout_seconds tools"
    ),
    "built_in_tools": _names(
        "end_call language_detection skip_turn transfer_to_agent transfer_to_number "
        "play_keypad_touch_tone voicemail_detection"
    ),
    "rag": _names(
        "enabled embedding_model max_vector_distance max_documents_length "
        "max_retrieved_rag_chunks_count num_candidates query_rewrite_prompt_override "
        "knowledge_base_tool_info"
    ),
}
CONVERSATION_CONFIG: Tree = {
    "asr": _names("quality provider user_input_audio_format keywords"),
    "turn": _names(
        "turn_timeout initial_wait_time silence_end_call_timeout soft_timeout_config turn_eagerness "
        "spelling_patience speculative_turn retranscribe_on_turn_timeout turn_model "
        "interruption_ignore_terms interruption_ignore_term_languages merge_with_default_ignore_terms "
        "transcribe_on_disabled_interruptions noisy_environment_detection noisy_environment_message"
    ),
    "tts": _names(
        "model_id voice_id supported_voices expressive_mode suggested_audio_tags "
        "agent_output_audio_format optimize_streaming_latency stability speed similarity_boost "
        "text_normalisation_type pronunciation_dictionary_locators audio_effects clone_strength "
        "enable_phoneme_tags"
    ),
    "conversation": _names(
        "text_only max_duration_seconds client_events file_input monitoring_enabled monitoring_events "
        "dtmf_input_settings background_sound source_attribution"
    ),
    "language_presets": None,
    "vad": None,
    "agent": {
        **_names(
            "first_message language hinglish_mode disable_first_message_interruptions "
            "max_conversation_duration_message text_behavior_overrides"
        ),
        "dynamic_variables": _names("dynamic_variable_placeholders"),
        "prompt": _PROMPT,
    },
}
PLATFORM_SETTINGS: Tree = {
    **_names(
        "evaluation widget data_collection data_collection_scopes analysis_items testing archived "
        "guardrails summary_language auto_translate_transcript_to_app_language call_limits "
        "queueing_config trust_context analysis_llm topic_discovery sentiment_analysis alerting"
    ),
    "auth": _names("enable_auth allowlist require_origin_header shareable_token"),
    "overrides": _names(
        "conversation_config_override custom_llm_extra_body "
        "enable_conversation_initiation_client_data_from_webhook "
        "enable_starting_workflow_node_id_from_client enable_procedure_ids_from_client"
    ),
    "workspace_overrides": {
        "conversation_initiation_client_data_webhook": _names("url request_headers"),
        "webhooks": _names(
            "post_call_webhook_id events transcript_format send_audio exclude_transcript"
        ),
    },
    "privacy": _names(
        "record_voice retention_days delete_transcript_and_pii delete_audio "
        "apply_to_existing_conversations zero_retention_mode conversation_history_redaction"
    ),
}
CREATE_AGENT: Tree = {
    **_names("name tags workflow"),
    "conversation_config": CONVERSATION_CONFIG,
    "platform_settings": PLATFORM_SETTINGS,
}
UPDATE_AGENT: Tree = {**CREATE_AGENT, **_names("version_description procedures")}
CREATE_URL_DOCUMENT: Tree = _names(
    "url name parent_folder_id enable_auto_sync auto_remove minimum_frequency_days"
)
CREATE_TOOL: Tree = {
    "response_mocks": None,
    "tool_config": _names(
        "type name description response_timeout_secs disable_interruptions interruption_mode "
        "force_pre_tool_speech pre_tool_speech assignments tool_call_sound tool_call_sound_behavior "
        "tool_error_handling_mode parameters expects_response dynamic_variables execution_mode "
        "api_schema"
    ),
}
AGENTS_QUERY = frozenset(
    [
        "page_size",
        "search",
        "archived",
        "show_only_owned_agents",
        "created_by_user_id",
        "tags",
        "sort_direction",
        "sort_by",
        "cursor",
    ]
)
DOCUMENTS_QUERY = frozenset(
    [
        "page_size",
        "search",
        "show_only_owned_documents",
        "created_by_user_id",
        "types",
        "parent_folder_id",
        "ancestor_folder_id",
        "folders_first",
        "sort_direction",
        "sort_by",
        "cursor",
    ]
)
TOOLS_QUERY = frozenset(
    [
        "search",
        "page_size",
        "show_only_owned_documents",
        "created_by_user_id",
        "types",
        "sort_direction",
        "sort_by",
        "used_by_agent_id",
        "cursor",
    ]
)

CLIENT_EVENTS = frozenset(
    [
        "conversation_initiation_metadata",
        "asr_initiation_metadata",
        "ping",
        "audio",
        "interruption",
        "user_transcript",
        "tentative_user_transcript",
        "agent_response",
        "agent_response_correction",
        "client_tool_call",
        "mcp_tool_call",
        "mcp_connection_status",
        "agent_tool_request",
        "agent_tool_response",
        "agent_tool_response_full_payload",
        "agent_response_metadata",
        "vad_score",
        "agent_chat_response_part",
        "client_error",
        "guardrail_triggered",
        "dtmf_request",
        "agent_response_complete",
        "context_usage",
        "internal_turn_probability",
        "internal_tentative_agent_response",
    ]
)
COLLECTED_TYPES = ("boolean", "string", "integer", "number")
COLLECTED = frozenset(
    [
        "type",
        "description",
        "enum",
        "is_system_provided",
        "dynamic_variable",
        "constant_value",
        "is_omitted",
        "name",
        "llm",
    ]
)
COLLECTED_MAX = 25


def unknown(body: Any, tree: Tree, path: Iterable[str] = ("body",)) -> Iterator[Problem]:
    """Fields that are not documented, and objects that are none."""
    place = list(path)
    if not isinstance(body, dict):
        yield place, "Input should be a valid dictionary", "dict_type"
        return
    for name, value in body.items():
        if name not in tree:
            yield [*place, str(name)], "Extra inputs are not permitted", "extra_forbidden"
        elif (inner := tree[name]) is not None and value is not None:
            yield from unknown(value, inner, [*place, name])


def wrong_values(body: Mapping[str, Any]) -> Iterator[Problem]:
    """Values of an agent that no agent can have."""
    config = _table(body, "conversation_config")
    place = ["body", "conversation_config", "conversation", "client_events"]
    for event in _table(config, "conversation").get("client_events") or ():
        if event not in CLIENT_EVENTS:
            yield place, f"{event!r} is no client event", "enum"
    tools = _table(_table(_table(config, "agent"), "prompt"), "built_in_tools")
    for name, tool in tools.items():
        kind = _table(tool, "params").get("system_tool_type") if isinstance(tool, dict) else None
        if tool is not None and kind != name:
            where = ["body", "conversation_config", "agent", "prompt", "built_in_tools", name]
            yield (
                [*where, "params", "system_tool_type"],
                f"Input should be {name!r}",
                "literal_error",
            )
    collected = _table(_table(body, "platform_settings"), "data_collection")
    where = ["body", "platform_settings", "data_collection"]
    if len(collected) > COLLECTED_MAX:
        yield where, f"at most {COLLECTED_MAX} items", "too_long"
    for name, item in collected.items():
        kind = item.get("type") if isinstance(item, dict) else None
        if kind not in COLLECTED_TYPES:
            yield (
                [*where, name, "type"],
                f"Input should be one of {COLLECTED_TYPES}",
                "literal_error",
            )
        for key in set(item if isinstance(item, dict) else ()) - COLLECTED:
            yield [*where, name, key], "Extra inputs are not permitted", "extra_forbidden"


def _table(outer: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = outer.get(key)
    return inner if isinstance(inner, dict) else {}
