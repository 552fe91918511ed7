"""How REST shows agents and conversations (ElevenLabs API, conversational AI models)."""

from __future__ import annotations

import time
from typing import Any

import trio

from bench.sim_elevenlabs.book import Agent
from bench.sim_elevenlabs.record import ConversationRecord, Turn


def agent_full(agent: Agent) -> dict[str, Any]:
    """`GET /v1/convai/agents/{agent_id}`."""
    return {
        "agent_id": agent.agent_id,
        **agent.config,
        "metadata": {"created_at_unix_secs": agent.created_unix_s},
        "phone_numbers": [],
        "whatsapp_accounts": [],
        "workflow": {"nodes": {}, "edges": {}},
        "access_info": {"is_creator": True, "role": "admin"},
        "version_id": f"agtvrsn_{agent.agent_id}",
        "branch_id": f"agtbrch_{agent.agent_id}",
        "main_branch_id": f"agtbrch_{agent.agent_id}",
        "procedures": [],
    }


def agent_item(agent: Agent) -> dict[str, Any]:
    """One entry of `GET /v1/convai/agents`."""
    return {
        "agent_id": agent.agent_id,
        "name": agent.config.get("name"),
        "voice_id": agent.config["conversation_config"]["tts"].get("voice_id"),
        "tags": agent.config.get("tags", []),
        "created_at_unix_secs": agent.created_unix_s,
        "updated_at_unix_secs": agent.created_unix_s,
        "last_call_time_unix_secs": None,
        "archived": False,
        "access_info": {"is_creator": True, "role": "admin"},
    }


def status(record: ConversationRecord, *, polled: bool = False) -> str:
    """in-progress, then processing for as many polls as the script says, then done or failed."""
    if record.ended_at_s is None:
        return "in-progress"
    if record.status_polls < record.script.rest.processing_polls:
        record.status_polls += 1 if polled else 0
        return "processing"
    return "failed" if record.script.rest.analysis_fails else "done"


def duration_s(record: ConversationRecord) -> int:
    end_s = trio.current_time() if record.ended_at_s is None else record.ended_at_s
    return int(end_s - record.started_at_s)


def conversation_full(record: ConversationRecord) -> dict[str, Any]:
    """`GET /v1/convai/conversations/{conversation_id}`; each call counts as one poll."""
    now = status(record, polled=True)
    turns = [_turn(record, turn) for turn in record.turns] if now != "in-progress" else []
    return {
        "agent_id": record.agent_id,
        "agent_name": record.script.name,
        "conversation_id": record.conversation_id,
        "user_id": (record.initiation or {}).get("user_id"),
        "branch_id": None,
        "version_id": f"agtvrsn_{record.agent_id}",
        "environment": "production",
        "status": now,
        "has_audio": False,
        "has_user_audio": False,
        "has_response_audio": False,
        "user_message_count": _spoken(record, "user"),
        "agent_message_count": _spoken(record, "agent"),
        "transcript": turns,
        "metadata": _metadata(record),
        "analysis": _analysis(record) if now == "done" else None,
        "conversation_initiation_client_data": _initiation(record),
        "visited_agents": [],
        "tag_ids": [],
    }


def conversation_item(record: ConversationRecord) -> dict[str, Any]:
    """One entry of `GET /v1/convai/conversations`."""
    now = status(record)
    return {
        "agent_id": record.agent_id,
        "agent_name": record.script.name,
        "conversation_id": record.conversation_id,
        "start_time_unix_secs": int(record.started_unix_s),
        "call_duration_secs": duration_s(record),
        "message_count": len(record.turns),
        "status": now,
        "termination_reason": record.close_reason or "",
        "call_successful": record.script.success if now == "done" else "unknown",
        "transcript_summary": record.script.summary if now == "done" else None,
        "main_language": "en",
        "direction": None,
        "tool_names": sorted({call.name for call in record.script.tool_calls}),
        "tag_ids": [],
    }


def _spoken(record: ConversationRecord, role: str) -> int:
    return sum(turn.role == role and turn.text is not None for turn in record.turns)


def _turn(record: ConversationRecord, turn: Turn) -> dict[str, Any]:
    return {
        "role": turn.role,
        "message": turn.text,
        "original_message": turn.original_text,
        "interrupted": turn.interrupted,
        "time_in_call_secs": int(turn.at_s - record.started_at_s),
        "tool_calls": turn.tool_calls,
        "tool_results": turn.tool_results,
        "source_medium": "audio",
        "source_event_id": turn.event_id,
        "conversation_turn_metrics": {
            "metrics": {"convai_llm_service_ttfb": {"elapsed_time": 0.2}}
        },
    }


def _metadata(record: ConversationRecord) -> dict[str, Any]:
    failed = record.close_code not in (None, 1000)
    error = {"code": record.close_code, "reason": record.close_reason or ""} if failed else None
    return {
        "start_time_unix_secs": int(record.started_unix_s),
        "accepted_time_unix_secs": int(record.started_unix_s),
        "call_duration_secs": duration_s(record),
        "cost": 10 * duration_s(record),
        "termination_reason": record.close_reason or "",
        "error": error,
        "warnings": [],
        "main_language": "en",
        "text_only": False,
        "authorization_method": record.authorization_method,
        "conversation_initiation_source": "unknown",
        "phone_call": None,
        "charging": {"is_burst": False, "tier": "pro", "call_charge": 10 * duration_s(record)},
    }


def _analysis(record: ConversationRecord) -> dict[str, Any]:
    collected = {
        name: _collected(name, value) for name, value in record.script.data_collection.items()
    }
    return {
        "call_successful": record.script.success,
        "transcript_summary": record.script.summary,
        "call_summary_title": "Simulated conversation",
        "evaluation_criteria_results": {},
        "data_collection_results": collected,
        "data_collection_results_list": list(collected.values()),
    }


def _collected(name: str, value: Any) -> dict[str, Any]:
    kinds = {bool: "boolean", int: "integer", float: "number"}
    return {
        "data_collection_id": name,
        "name": name,
        "value": value,
        "json_schema": {"type": kinds.get(type(value), "string"), "description": ""},
        "rationale": "Scripted.",
    }


def _initiation(record: ConversationRecord) -> dict[str, Any]:
    """What the client sent, plus the variables the service itself adds."""
    data = {key: value for key, value in (record.initiation or {}).items() if key != "type"}
    given = data.get("dynamic_variables")
    system = {
        "system__agent_id": record.agent_id,
        "system__conversation_id": record.conversation_id,
        "system__time_utc": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    }
    return data | {"dynamic_variables": (given if isinstance(given, dict) else {}) | system}
