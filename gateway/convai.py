"""The ElevenLabs conversation codec: pure functions between text messages and values.

`decode` reads what the agent says (values in `gateway.convai_events`, one reader each in `gateway.convai_readers`), `encode_*` write what it is told
(`gateway.convai_commands`); both are offered here, so that users need this module alone. `split_audio`
takes big audio messages apart without parsing JSON.

Source: ElevenLabs Agents documentation, "Client events", and its AsyncAPI contract (types 0.21.1).
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from gateway.convai_commands import (
    ConversationError,
    encode_audio,
    encode_contextual_update,
    encode_feedback,
    encode_initiation,
    encode_mcp_tool_approval,
    encode_multimodal_message,
    encode_pong,
    encode_tool_result,
    encode_user_activity,
    encode_user_message,
)
from gateway.convai_events import (
    AgentAudio,
    AgentError,
    AgentResponse,
    AgentResponseComplete,
    AgentResponseCorrection,
    AgentTextPart,
    AgentToolRequest,
    AgentToolResponse,
    AgentTyping,
    Alignment,
    ClientToolCall,
    ContextUsage,
    ExternalAgent,
    GuardrailTriggered,
    Interruption,
    McpConnectionStatus,
    McpIntegration,
    McpToolCall,
    Metadata,
    Other,
    Ping,
    QueueStatus,
    RichContent,
    ServerEvent,
    UserTranscript,
    VadScore,
)
from gateway.convai_readers import READERS
from gateway.wire_json import FieldError, load_object, redacted, text_in

__all__ = [
    "AgentAudio",
    "AgentError",
    "AgentResponse",
    "AgentResponseComplete",
    "AgentResponseCorrection",
    "AgentTextPart",
    "AgentToolRequest",
    "AgentToolResponse",
    "AgentTyping",
    "Alignment",
    "ClientToolCall",
    "ContextUsage",
    "ConversationError",
    "ExternalAgent",
    "GuardrailTriggered",
    "Interruption",
    "McpConnectionStatus",
    "McpIntegration",
    "McpToolCall",
    "Metadata",
    "Other",
    "Ping",
    "QueueStatus",
    "RichContent",
    "ServerEvent",
    "UserTranscript",
    "VadScore",
    "decode",
    "encode_audio",
    "encode_contextual_update",
    "encode_feedback",
    "encode_initiation",
    "encode_mcp_tool_approval",
    "encode_multimodal_message",
    "encode_pong",
    "encode_tool_result",
    "encode_user_activity",
    "encode_user_message",
    "split_audio",
]

SPLIT_MIN_BYTES: Final = 8 * 1024
"""Below this size `decode` is as fast: numpy takes about 4 µs whatever the size."""

_audio_head = re.compile(
    rb'\{ ?(?:("type"): ?"audio", ?)?"audio_event": ?\{ ?"audio_base_64": ?"'
).match
_audio_tail = re.compile(
    rb'", ?"event_id": ?(0|[1-9][0-9]{0,17}) ?\} ?(?:(, ?"type"): ?"audio" ?)?\}'
).fullmatch


def split_audio(message: bytes) -> tuple[int, bytes] | None:
    """Event id and base64 payload of a big `audio` message that holds nothing else.

    None for everything else (small, with alignment, escapes, other keys or key orders), which says
    nothing about its worth: `decode` decides. An answer is always the one `decode` gives. Never raises.
    """
    if len(message) < SPLIT_MIN_BYTES or (head := _audio_head(message)) is None:
        return None
    start = head.end()
    end = message.find(b'"', start)
    tail = _audio_tail(message, end) if end > start else None
    if tail is None or (head[1] is None) == (tail[2] is None):
        return None
    # As signed bytes, control characters and everything beyond ASCII are below 32.
    octets: Any = np.frombuffer(message, np.int8, end - start, start)
    if octets.min() < 32 or message.find(b"\\", start, end) >= 0:
        return None
    return int(tail[1]), message[start:end]


def decode(message: bytes) -> ServerEvent | None:
    """The event in a text message from the agent; None when its type is not known (to be counted).

    Raises ConversationError for anything that is not a JSON object with the documented structure.
    """
    try:
        body = load_object(message)
        read = READERS.get(text_in(body, "type"))
        return None if read is None else read(body)
    except FieldError as error:
        raise ConversationError(f"{error} in {redacted(message)}") from None
