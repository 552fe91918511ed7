"""The body that an agent of ours is made and changed with. Pure.

Every value that the gateway relies on is sent, because the service's defaults drift: both audio formats, the
client events, the models. Prompt and first words come from the vertical's template unless the agent has its
own.

Source: ElevenLabs API reference, "Create agent" (`conversation_config`, `platform_settings`); "System tools"
(an agent made by the API has none unless they are given); "Overrides"; "Dynamic variables" (one without value
and without placeholder ends the conversation).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control import extractions, verticals
from control.elevenlabs.profile import CLIENT_EVENTS, TELEPHONE_FORMAT
from control.elevenlabs.workspace import RAG_MODEL
from control.routing import callers
from control.store.records import AgentRecord
from control.verticals import Vertical

TAG = "tandem"
MAX_DURATION_S = 3600
"""For an agent without a limit of its own; the service's default would be ten minutes."""
VARIABLES = (
    "business_name",
    "location",
    "timezone",
    "caller_number",
    *callers.NAMES,
    "called_number",
    "call_direction",
    "twilio_call_sid",
    "gw_call_id",
    "gw_resume_context",
)
"""What the gateway gives every conversation, or may give."""
LANGUAGES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian",
    "pt": "Portuguese", "nl": "Dutch", "pl": "Polish", "sv": "Swedish", "da": "Danish",
    "no": "Norwegian", "fi": "Finnish", "cs": "Czech", "tr": "Turkish", "ja": "Japanese",
    "ko": "Korean", "zh": "Chinese", "hi": "Hindi", "ar": "Arabic", "uk": "Ukrainian",
}  # fmt: skip
_VARIABLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_DAYS = {
    "mon": "Monday", "tue": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "fri": "Friday",
    "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Defaults:
    """What an agent gets that says nothing else. `voice_id` empty = the service's own."""

    llm: str
    tts_model: str
    voice_id: str = ""


@dataclass(frozen=True, slots=True)
class Attached:
    """What was made before, for this agent to use: ids of tools, a document's id and name."""

    tool_ids: Sequence[str] = ()
    document: tuple[str, str] | None = None


def whole(
    agent: AgentRecord, vertical: Vertical, defaults: Defaults, attached: Attached
) -> dict[str, Any]:
    """For an agent that we make, and for changing one that we have made."""
    language = language_of(agent, vertical)
    prompt, first_message = texts(agent, vertical)
    return {
        "name": f"{agent.name} ({agent.id})"[:200],
        "tags": [TAG, agent.id],
        "conversation_config": {
            "asr": {"quality": "high", "user_input_audio_format": TELEPHONE_FORMAT},
            "turn": {"turn_timeout": 7},
            "tts": _tts(agent, vertical, defaults),
            "conversation": {
                "text_only": False,
                "max_duration_seconds": int(agent.settings.get("max_call_s") or MAX_DURATION_S),
                "client_events": list(CLIENT_EVENTS),
            },
            "agent": {
                "first_message": first_message,
                "language": language,
                "dynamic_variables": {
                    "dynamic_variable_placeholders": placeholders(agent, prompt, first_message)
                },
                "prompt": _prompt(agent, vertical, defaults, attached, prompt),
            },
        },
        "platform_settings": {
            # Without it anybody who knows the agent's id may talk to it at our cost.
            "auth": {"enable_auth": True},
            "overrides": {"conversation_config_override": OVERRIDES},
            "data_collection": extractions.data_collection(
                extractions.parse(fields_of(agent, vertical))
            ),
        },
    }


OVERRIDES: dict[str, Any] = {
    "agent": {"first_message": True, "language": True, "prompt": {"prompt": True}},
    "tts": {"voice_id": True},
}
"""What a conversation may set for itself."""


def adopted(agent: AgentRecord) -> dict[str, Any]:
    """The changes to an agent that somebody else has made: what the request has given, and no more."""
    own = agent.settings
    parts: dict[str, Any] = {}
    language = own.get("language") or "en"
    if own.get("first_message") is not None:
        parts["first_message"] = fill(own["first_message"], agent, language)
    if own.get("language"):
        parts["language"] = own["language"]
    if own.get("prompt"):
        parts["prompt"] = {"prompt": fill(own["prompt"], agent, language)}
    config: dict[str, Any] = {}
    if parts:
        written = " ".join((str(own.get("prompt") or ""), str(own.get("first_message") or "")))
        parts["dynamic_variables"] = {
            "dynamic_variable_placeholders": placeholders(agent, written, "")
        }
        config["agent"] = parts
    if own.get("voice_id"):
        config["tts"] = {"voice_id": own["voice_id"]}
    body: dict[str, Any] = {"conversation_config": config} if config else {}
    if agent.extractions:
        collected = extractions.data_collection(extractions.parse(agent.extractions))
        body["platform_settings"] = {"data_collection": collected}
    return body


def texts(agent: AgentRecord, vertical: Vertical) -> tuple[str, str]:
    """Prompt and first message, filled in."""
    own = agent.settings
    language = language_of(agent, vertical)
    first = own.get("first_message")
    return (
        fill(own.get("prompt") or vertical.prompt, agent, language).strip(),
        fill(vertical.first_message if first is None else first, agent, language).strip(),
    )


def fill(template: str, agent: AgentRecord, language: str) -> str:
    """A template's own placeholders; dynamic variables stay for the conversation."""
    values = {
        "business": agent.name,
        "hours": hours_text(agent.hours) or "not known",
        "language": LANGUAGES.get(language.split("-")[0], language),
    }
    return verticals.fill(template, values)


def language_of(agent: AgentRecord, vertical: Vertical) -> str:
    return str(agent.settings.get("language") or vertical.language)


def fields_of(agent: AgentRecord, vertical: Vertical) -> Any:
    """The agent's extractions, else the vertical's; an empty list means none."""
    return vertical.extractions if agent.extractions is None else agent.extractions


def placeholders(agent: AgentRecord, prompt: str, first_message: str) -> dict[str, Any]:
    """A value for each dynamic variable, so that none can be missing."""
    known: dict[str, Any] = dict.fromkeys(VARIABLES, "") | callers.UNKNOWN
    known |= dict.fromkeys(_VARIABLE.findall(prompt) + _VARIABLE.findall(first_message), "")
    known |= own_variables(agent) | agent.variables
    return {name: value for name, value in known.items() if not name.startswith("system__")}


def own_variables(agent: AgentRecord) -> dict[str, Any]:
    """What the agent's record says of the place: goes into every conversation."""
    return {
        "business_name": agent.name,
        "location": location_text(agent.location),
        "timezone": agent.timezone or "",
    }


def location_text(location: Any) -> str:
    """An address in one line, from a text or an object of parts in their order."""
    if isinstance(location, Mapping):
        return ", ".join(str(part) for part in location.values() if part not in (None, "", [], {}))
    return str(location) if location else ""


def hours_text(hours: Any) -> str:
    """Opening hours in words, from a text or an object by day."""
    if not isinstance(hours, Mapping):
        return str(hours) if hours else ""
    lines = []
    for day, times in hours.items():
        name = _DAYS.get(str(day).lower()[:3], str(day).capitalize())
        lines.append(f"{name} {_times(times)}")
    return "; ".join(lines)


def _times(times: Any) -> str:
    if not times:
        return "closed"
    if isinstance(times, Mapping):
        return "-".join(str(part) for part in times.values())
    if isinstance(times, list | tuple):
        return ", ".join(
            "-".join(map(str, one)) if isinstance(one, list | tuple) else str(one) for one in times
        )
    return str(times)


def _tts(agent: AgentRecord, vertical: Vertical, defaults: Defaults) -> dict[str, Any]:
    voice = vertical.voice
    hints = {
        "voice_id": agent.settings.get("voice_id") or voice.voice_id or defaults.voice_id or None,
        "stability": voice.stability,
        "similarity_boost": voice.similarity_boost,
        "speed": voice.speed,
    }
    return {
        "model_id": defaults.tts_model,
        "agent_output_audio_format": TELEPHONE_FORMAT,
    } | {name: value for name, value in hints.items() if value is not None}


def _prompt(
    agent: AgentRecord, vertical: Vertical, defaults: Defaults, attached: Attached, text: str
) -> dict[str, Any]:
    prompt: dict[str, Any] = {
        "prompt": text,
        "llm": vertical.llm or defaults.llm,
        "temperature": 0.2,
        "tool_ids": list(attached.tool_ids),
        "built_in_tools": {
            "end_call": {
                "type": "system",
                "name": "end_call",
                "description": "",
                "params": {"system_tool_type": "end_call"},
            }
        },
        "knowledge_base": [],
    }
    if agent.timezone:
        prompt["timezone"] = agent.timezone
    if attached.document is not None:
        document_id, name = attached.document
        prompt["knowledge_base"] = [
            {"type": "url", "id": document_id, "name": name, "usage_mode": "auto"}
        ]
        prompt["rag"] = {"enabled": True, "embedding_model": RAG_MODEL}
    return prompt
