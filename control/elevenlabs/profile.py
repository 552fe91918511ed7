"""What an adopted agent's configuration must hold to be good on the telephone. Pure.

Source: ElevenLabs docs, "Agent configuration" (audio formats, client events) and "Conversation flow"
(interruptions need the `interruption` event).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TELEPHONE_FORMAT = "ulaw_8000"
FORMATS = frozenset(f"pcm_{rate_hz}" for rate_hz in (8000, 16000, 22050, 24000, 44100, 48000)) | {
    TELEPHONE_FORMAT
}
DEFAULT_FORMAT = "pcm_16000"
"""What the service takes when the field is absent."""
CLIENT_EVENTS = (
    "conversation_initiation_metadata",
    "ping",
    "audio",
    "interruption",
    "user_transcript",
    "agent_response",
    "agent_response_correction",
    "agent_response_complete",
    "client_tool_call",
    "agent_tool_request",
    "agent_tool_response",
    "guardrail_triggered",
    "client_error",
)
"""Set on every agent that we make: a list replaces the service's own, and both are short of something."""
DEFAULT_EVENTS = frozenset(("audio", "interruption", "agent_response", "user_transcript"))
"""Of the default list of `client_events`, what we need of it."""

_EVENT_NEEDED_FOR = {
    "audio": "nobody hears the agent",
    "interruption": "callers cannot interrupt the agent",
    "user_transcript": "the transcript lacks the caller",
    "agent_response": "the transcript lacks the agent",
}


@dataclass(frozen=True, slots=True)
class Findings:
    """`unusable`: no call can work. `problems`: calls work, but something is missing from them.
    `hints`: all is well, and could be cheaper."""

    unusable: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def check(agent: Mapping[str, Any]) -> Findings:
    """Look through the object that `GET /v1/convai/agents/{id}` answers. Each finding says what to do.

    An answer without `conversation_config` says nothing about the agent: formats are verified at the start
    of every conversation anyway.
    """
    if not isinstance(agent.get("conversation_config"), Mapping):
        return Findings()
    config = _table(agent, "conversation_config")
    conversation = _table(config, "conversation")
    unusable, problems, hints = [], [], []
    if conversation.get("text_only") is True:
        unusable.append("the agent is text only: switch conversation.text_only off")
    for section, key in (
        ("asr", "user_input_audio_format"),
        ("tts", "agent_output_audio_format"),
    ):
        found = _table(config, section).get(key) or DEFAULT_FORMAT
        if not isinstance(found, str) or found not in FORMATS:
            unusable.append(f"{section}.{key} is {found!r:.60}: set it to {TELEPHONE_FORMAT}")
        elif found != TELEPHONE_FORMAT:
            hints.append(
                f"{section}.{key} is {found}, so audio is transcoded: set it to {TELEPHONE_FORMAT}"
            )
    events = conversation.get("client_events")
    listed = frozenset(map(str, events)) if isinstance(events, list) else DEFAULT_EVENTS
    for event, harm in _EVENT_NEEDED_FOR.items():
        if event not in listed:
            problems.append(f"conversation.client_events lacks {event!r} ({harm}): add it")
    return Findings(tuple(unusable), tuple(problems), tuple(hints))


@dataclass(frozen=True, slots=True)
class Telephone:
    """What of an agent's configuration decides whether it works on the telephone."""

    input_format: str
    output_format: str
    client_events: tuple[str, ...] | None
    """None = the service's own list."""


WANTED = Telephone(TELEPHONE_FORMAT, TELEPHONE_FORMAT, CLIENT_EVENTS)


def telephone(agent: Mapping[str, Any]) -> Telephone | None:
    """Read it out of the agent object; None when the object holds no configuration."""
    if not isinstance(agent.get("conversation_config"), Mapping):
        return None
    config = _table(agent, "conversation_config")
    events = _table(config, "conversation").get("client_events")
    return Telephone(
        str(_table(config, "asr").get("user_input_audio_format") or DEFAULT_FORMAT),
        str(_table(config, "tts").get("agent_output_audio_format") or DEFAULT_FORMAT),
        tuple(map(str, events)) if isinstance(events, list) else None,
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not as it should be. `patch` puts it right."""

    what: str
    was: Any
    now: Any
    patch: dict[str, Any]


def differences(found: Telephone, wanted: Telephone) -> list[Difference]:
    """What has to be changed; events that are there beyond those wanted do no harm."""
    result = []
    for section, key, was, now in (
        ("asr", "user_input_audio_format", found.input_format, wanted.input_format),
        ("tts", "agent_output_audio_format", found.output_format, wanted.output_format),
    ):
        if was != now:
            patch: dict[str, Any] = {"conversation_config": {section: {key: now}}}
            result.append(Difference(f"elevenlabs.{section}.{key}", was, now, patch))
    have = DEFAULT_EVENTS if found.client_events is None else frozenset(found.client_events)
    if wanted.client_events is not None and not have >= set(wanted.client_events):
        kept = [*wanted.client_events]
        kept += [event for event in found.client_events or () if event not in kept]
        patch = {"conversation_config": {"conversation": {"client_events": kept}}}
        lost = sorted(have) if found.client_events is None else list(found.client_events)
        result.append(Difference("elevenlabs.conversation.client_events", lost, kept, patch))
    return result


def first_message(agent: Mapping[str, Any]) -> str | None:
    """What the agent says first: "" = it waits for the caller; None = not known."""
    if not isinstance(agent.get("conversation_config"), Mapping):
        return None
    inner = _table(_table(agent, "conversation_config"), "agent").get("first_message")
    return inner if isinstance(inner, str) else None


def takes_first_message(agent: Mapping[str, Any]) -> bool:
    """Whether a conversation may bring its own first message; one that may not is refused with close 1008.

    Source: "Overrides": each leaf has to be switched on in `platform_settings.overrides`.
    """
    allowed = _table(_table(agent, "platform_settings"), "overrides")
    leaf = _table(_table(allowed, "conversation_config_override"), "agent").get("first_message")
    return leaf is True


def _table(outer: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = outer.get(key)
    return inner if isinstance(inner, Mapping) else {}
