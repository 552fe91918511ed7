"""What an ElevenLabs agent can say on the conversation socket, as values. Decoded by `gateway.convai`.

`event_id` never decreases within a conversation; it is neither unique nor contiguous. It is 0 where the
server left it out.

Source: ElevenLabs Agents documentation, "Client events", and its AsyncAPI contract (types 0.21.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Metadata:
    """First message of every conversation. The formats are authoritative: what is sent must fit them.

    Formats are names such as `ulaw_8000`; `pcm_16000` where an old server names none.
    """

    conversation_id: str
    agent_output_audio_format: str
    user_input_audio_format: str


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered at once with `encode_pong(event_id)`."""

    event_id: int
    ping_ms: int | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """When each character of a chunk is spoken, in ms from the start of that chunk. Equal lengths."""

    chars: tuple[str, ...]
    start_ms: tuple[int, ...]
    duration_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AgentAudio:
    """A chunk of agent audio of any length. `payload` is ASCII and meant to be base64; not decoded here.

    alignment: None when absent; also when malformed (then `bad_alignment`), because the audio is worth
        playing without it.
    """

    event_id: int
    payload: bytes
    is_final: bool | None = None
    alignment: Alignment | None = None
    bad_alignment: bool = False


@dataclass(frozen=True, slots=True)
class AgentResponse:
    """The whole text of a reply, sent around its first audio."""

    text: str
    event_id: int


@dataclass(frozen=True, slots=True)
class AgentResponseCorrection:
    """What the server believes was spoken of a reply that was interrupted."""

    original: str
    corrected: str
    event_id: int


@dataclass(frozen=True, slots=True)
class AgentResponseComplete:
    """The reply has been generated; says nothing about what was heard."""

    event_id: int


@dataclass(frozen=True, slots=True)
class AgentTextPart:
    """Streamed text of a text-only chat, or of the model's reasoning. part: `start`, `delta`, `stop`."""

    text: str
    part: str
    event_id: str
    reasoning: bool


@dataclass(frozen=True, slots=True)
class UserTranscript:
    """What the caller said. A tentative one may still be revised."""

    text: str
    event_id: int
    tentative: bool = False


@dataclass(frozen=True, slots=True)
class Interruption:
    """The caller spoke over the agent: audio up to this event id is stale."""

    event_id: int


@dataclass(frozen=True, slots=True)
class VadScore:
    """How likely the caller is speaking, 0 to 1."""

    score: float


@dataclass(frozen=True, slots=True)
class ClientToolCall:
    """A tool that we run. Answer once with `encode_tool_result`.

    expects_response: True when the server does not say, since an answer that nobody waits for is
        harmless and a missing one blocks the conversation.
    """

    tool_name: str
    tool_call_id: str
    parameters: dict[str, Any]
    event_id: int
    expects_response: bool = True


@dataclass(frozen=True, slots=True)
class AgentToolRequest:
    """The agent is about to use a tool."""

    tool_name: str
    tool_call_id: str
    tool_type: str
    event_id: int


@dataclass(frozen=True, slots=True)
class AgentToolResponse:
    """The agent has used a tool; `tool_name` `end_call` means that it ended the call.

    full_result, truncated: only in the full-payload form of the event.
    """

    tool_name: str
    tool_call_id: str
    tool_type: str
    is_error: bool
    is_called: bool
    event_id: int
    is_blocked: bool = False
    full_result: str | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class McpToolCall:
    """Progress of an MCP call. state: `loading`, `awaiting_approval`, `success`, `failure`."""

    service_id: str
    tool_call_id: str
    tool_name: str
    tool_description: str | None
    parameters: dict[str, Any]
    timestamp: str
    state: str
    approval_timeout_s: int | None = None
    result: tuple[Any, ...] | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class McpIntegration:
    """One row of McpConnectionStatus. integration_type: `mcp_server` or `mcp_integration`."""

    integration_id: str
    integration_type: str
    is_connected: bool
    tool_count: int


@dataclass(frozen=True, slots=True)
class McpConnectionStatus:
    """Which MCP services the agent has reached."""

    integrations: tuple[McpIntegration, ...]


@dataclass(frozen=True, slots=True)
class ContextUsage:
    """How full the model's context window is, after a turn."""

    event_id: int
    model: str
    context_tokens: int
    context_limit_tokens: int


@dataclass(frozen=True, slots=True)
class GuardrailTriggered:
    """A guardrail stepped in; most servers do not say which."""

    guardrail_name: str | None = None


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """status: `waiting` (hold audio follows), `admitted`, `timed_out` (the close follows)."""

    status: str


@dataclass(frozen=True, slots=True)
class AgentError:
    """Why the server is about to close. `code` is the WebSocket close code to come."""

    code: int | None
    error_type: str | None
    message: str | None
    reason: str | None
    debug_message: str | None = None
    details: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AgentTyping:
    """A human agent is typing."""

    is_typing: bool
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class ExternalAgent:
    """A human has taken over, or has handed back."""

    connected: bool


@dataclass(frozen=True, slots=True)
class RichContent:
    """Something for a screen."""

    rich_content_id: str
    component: str
    props: dict[str, Any]
    event_id: int


@dataclass(frozen=True, slots=True)
class Other:
    """An event that is known but means nothing to a telephone call; `body` is the whole message."""

    type: str
    body: dict[str, Any]


ServerEvent: TypeAlias = (
    Metadata
    | Ping
    | AgentAudio
    | AgentResponse
    | AgentResponseCorrection
    | AgentResponseComplete
    | AgentTextPart
    | UserTranscript
    | Interruption
    | VadScore
    | ClientToolCall
    | AgentToolRequest
    | AgentToolResponse
    | McpToolCall
    | McpConnectionStatus
    | ContextUsage
    | GuardrailTriggered
    | QueueStatus
    | AgentError
    | AgentTyping
    | ExternalAgent
    | RichContent
    | Other
)
