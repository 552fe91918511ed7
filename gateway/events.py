"""What a bridge tells its surroundings, and how a call can end. Pure values.

The codecs have their own events (`gateway.twilio_media`, `gateway.convai_events`); these are the ones
that leave the bridge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the call's timeline. `data` holds neither audio nor secrets."""

    name: str
    at_s: float
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said in one turn; sent again with the same number when more is known."""

    number: int
    role: str
    text: str
    at_s: float
    heard: str | None = None
    interrupted: bool = False
    heard_from_s: float | None = None
    """Agent only: when the caller began to hear it; None while no mark has told."""
    word_ms: tuple[int, ...] = ()
    """With `heard`: when each word of `text` begins after that, and where the audio ends."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The agent asks for one of our client tools; answer with `Bridge.tool_result`."""

    tool_name: str
    tool_call_id: str
    parameters: dict[str, Any]
    expects_response: bool


@dataclass(frozen=True, slots=True)
class AgentReady:
    """The agent's formats are known and agreed: audio flows both ways from now on."""

    conversation_id: str


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The agent leg is gone and another one may mend it: `Bridge.agent_opened`, or `Bridge.agent_given_up`.

    Told again when the leg that was dialled instead is lost before it was ready.
    """

    reason: str
    code: int | None
    at_s: float


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """Twilio's `start` has come: the caller can hear us."""

    stream_sid: str
    call_sid: str


@dataclass(frozen=True, slots=True)
class Termination:
    """How the talk ended. An end is a value, not an exception.

    result: `completed`, `agent_fault`, `caller_fault`, `carrier_fault`, `gateway_fault`, `drained`,
        `cancelled`, `handed_over`.
    blame: `caller`, `agent`, `gateway`, `policy`, `twilio`; None after a normal end.
    hang_up: whether the telephone call has to be ended by us (False when the caller leg is gone, or
        when Twilio shall go on with the verbs behind the stream).
    """

    result: str
    blame: str | None
    reason: str
    hang_up: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The bridge has nothing more to do but to close."""

    termination: Termination
    at_s: float


BridgeEvent: TypeAlias = Note | Turn | ToolCall | AgentReady | AgentLost | StreamStarted | Finished
