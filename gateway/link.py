"""Messages between the control process and a media worker, and their codec.

The only sentence the two packages share: a plan goes down, events and a report come up. One message is
one packet of a Unix `SOCK_SEQPACKET` socket, a JSON object with a `kind`; `Attach` carries the media
stream's socket as a file descriptor beside it.

Pure. Times that travel are wall-clock milliseconds (`at_ms`, Unix epoch), because the two processes do
not share a monotonic origin.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args, get_type_hints

import orjson

from gateway.errors import LinkError
from gateway.settings import MediaSettings

PACKET_MAX_BYTES = 160 * 1024
"""Below the kernel's default socket buffer (212,992 bytes), which bounds a SEQPACKET packet."""
SHORT_CHARS = 2_000
"""What `shortened` leaves of a string; so few that any message fits a packet even when all is escaped."""


# ---- down: control → worker -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configure:
    """The first message: who the worker is and what its bounds are."""

    worker_id: str
    settings: MediaSettings
    log_level: str = "info"
    log_format: str = "json"
    version: str = ""
    """Of the program; a control process of another one lets this worker finish its calls and no more."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The first message of a control process that has come back, to a worker that outlived its former one."""

    version: str


@dataclass(frozen=True, slots=True)
class CallPlan:
    """Everything the media plane needs to know about one call."""

    call_id: str
    direction: str
    """`inbound` or `outbound`."""
    elevenlabs_base_url: str
    elevenlabs_api_key: str
    elevenlabs_agent_id: str
    twilio_call_sid: str | None = None
    """Known for inbound calls; checked against the stream's `start` when given."""
    twilio_account_sid: str | None = None
    dynamic_variables: dict[str, Any] = field(default_factory=dict)
    conversation_config_override: dict[str, Any] = field(default_factory=dict)
    redial_config_override: dict[str, Any] = field(default_factory=dict)
    """In its place for a conversation that takes over from one that the caller has heard."""
    user_id: str | None = None
    recording_path: str | None = None
    """Where the stereo WAV goes; `None` = no recording."""
    attach_timeout_s: float = 20.0
    max_call_s: float = 14_400.0
    opt_out_digit: str | None = None
    """The key that asks not to be called again: pressed, it is a line of its own, `opt_out_key`."""
    turn_offset: int = 0
    """What control adds to this leg's turns; told again in `HeldCall`."""

    def __repr__(self) -> str:
        return f"CallPlan(call_id={self.call_id!r}, direction={self.direction!r})"


@dataclass(frozen=True, slots=True)
class Prepare:
    """Open the agent leg now and hold its first words."""

    plan: CallPlan


@dataclass(frozen=True, slots=True)
class Attach:
    """The media stream has come: the descriptor beside this packet is its TCP socket.

    `head` is the request head as read so far (it may include bytes beyond it), base64. The worker
    answers the upgrade itself.
    """

    call_id: str
    head: str
    twilio_call_sid: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """The call will not come (no answer, busy, cancelled): drop the prepared agent leg."""

    call_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call in order: stop the agent, then report `Ending` as for any other end.

    `drain`: not before the caller has heard what was said so far. `hand_over`: the talk goes on elsewhere; the result is
    `handed_over`, and control, once it has written down what was said, lets the stream be closed without a hang-up.
    """

    call_id: str
    reason: str
    blame: str | None = None
    drain: bool = False
    hand_over: bool = False


@dataclass(frozen=True, slots=True)
class CloseCall:
    """Twilio was told (or cannot be told) that the call is over: close what is still open."""

    call_id: str


@dataclass(frozen=True, slots=True)
class AgentSay:
    """Put text into the conversation: `contextual_update` (silent) or `user_message` (answered)."""

    call_id: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The answer to a `ToolRequest`; `result` is text for the model, also on an error."""

    call_id: str
    tool_call_id: str
    result: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no more calls; end what is left politely when `timeout_s` is over, then exit."""

    timeout_s: float


# ---- up: worker → control ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    worker_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A call that goes on, told to a control process that has come back."""

    call_id: str
    attached: bool
    """Whether its stream has started."""
    turn_offset: int


@dataclass(frozen=True, slots=True)
class Returned:
    """Behind the `HeldCall`s: who this worker is. What was not told, or perhaps not heard, follows."""

    worker_id: str
    version: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Every second: load of this worker and counters since its start.

    `timings`: each `{edges_ms, counts, sum_ms}`, everything since the start; the last count is of what lies
    above all edges.
    """

    worker_id: str
    calls: int
    counters: dict[str, int | float]
    timings: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallEvent:
    """A named line of the call's timeline. `data` never holds audio or secrets."""

    call_id: str
    name: str
    at_ms: int
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TranscriptTurn:
    """What was said, and for the agent what of it was heard.

    Sent again with the same `turn` whenever it is amended (an interruption cuts the agent's words, the
    marks prove more of them): the last one counts.
    """

    call_id: str
    turn: int
    role: str
    """`user` or `agent`."""
    text: str
    at_ms: int
    heard: str | None = None
    """Agent only: the part that was played into the caller's ear; `None` = not known yet."""
    interrupted: bool = False
    heard_from_ms: int | None = None
    """Agent only: when the caller began to hear it, by a mark; `None` = no mark has told."""
    word_ms: list[int] = field(default_factory=list)
    """With `heard`: milliseconds from there to the beginning of each word of `text`, and to the audio's end."""


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """The agent asks for one of our client tools; answered by `ToolResult` when a response is expected."""

    call_id: str
    tool_call_id: str
    name: str
    parameters: dict[str, Any]
    expects_response: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class Ending:
    """The talk is over and what was said has been heard: end the telephone call now, then `CloseCall`.

    `hang_up` is False when the caller leg is gone already, or when Twilio shall go on with the verbs
    behind the stream (agent leg lost: apology, then `/twilio/continue`).
    """

    call_id: str
    result: str
    blame: str | None
    reason: str
    at_ms: int
    hang_up: bool


@dataclass(frozen=True, slots=True)
class CallReport:
    """The last message of a call: how it ended and its media counters."""

    call_id: str
    result: str
    """`completed`, `agent_fault`, `caller_fault`, `carrier_fault`, `gateway_fault`, `drained`, `cancelled`,
    `handed_over` (the telephone call goes on at another daemon)."""
    blame: str | None
    """`caller`, `agent`, `gateway`, `policy`, `twilio`; `None` after a normal end."""
    reason: str
    at_ms: int
    attached: bool
    """Whether a media stream was ever joined to the agent."""
    conversation_id: str | None
    stream_sid: str | None
    twilio_call_sid: str | None
    media: dict[str, Any]
    legs: dict[str, Any]
    recording: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """All calls of this worker have ended after `Drain`; it exits now."""

    worker_id: str


Down: TypeAlias = (
    Configure
    | Resume
    | Prepare
    | Attach
    | Cancel
    | HangUp
    | CloseCall
    | AgentSay
    | ToolResult
    | Drain
)
Up: TypeAlias = (
    Ready
    | HeldCall
    | Returned
    | Heartbeat
    | CallEvent
    | TranscriptTurn
    | ToolRequest
    | Ending
    | CallReport
    | Drained
)

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (*get_args(Down), *get_args(Up))}


def encode(message: Down | Up) -> bytes:
    """One packet. Raises LinkError when it is no JSON or would not fit into PACKET_MAX_BYTES."""
    try:
        body = orjson.dumps(message, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    except orjson.JSONEncodeError as error:
        raise LinkError(f"{type(message).__name__} cannot be sent: {error}") from error
    packet = b'{"kind":"%s","body":%s}' % (type(message).__name__.encode(), body)
    if len(packet) > PACKET_MAX_BYTES:
        raise LinkError(f"{type(message).__name__} of {len(packet)} bytes does not fit a packet")
    return packet


def shortened(message: Up) -> Up:
    """The same message with its strings cut and its details left out, for one that does not fit.

    Control must hear of every end of a call, whatever a peer has put into it; and of a report, whether a conversation
    is missing from it, which they all but the newest are once they are left out.
    """
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(message):
        value = getattr(message, item.name)
        if isinstance(value, str):
            changes[item.name] = value[:SHORT_CHARS].encode("utf-8", "replace").decode()
        elif isinstance(value, dict) and item.name != "recording":
            changes[item.name] = {}
    if isinstance(message, CallReport):
        agent = message.legs.get("agent") or {}
        if agent.get("is_unnamed") or agent.get("earlier_conversation_ids"):
            changes["legs"] = {"agent": {"is_unnamed": True}}
    return dataclasses.replace(message, **changes)


def decode(packet: bytes | memoryview) -> Down | Up:
    """The message in a packet. Raises LinkError for anything that is not one."""
    try:
        outer = orjson.loads(packet)
        message = _build(_KINDS[outer["kind"]], outer["body"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise LinkError(f"not a link message: {type(error).__name__}: {error}") from error
    return typing.cast("Down | Up", message)


def _build(kind: type[Any], body: dict[str, Any]) -> Any:
    values = {}
    for name, inner in _FIELDS.get(kind) or _look_up(kind):
        if name in body:
            value = body[name]
            values[name] = value if inner is None else _build(inner, value)
    return kind(**values)


def _look_up(kind: type[Any]) -> _Fields:
    hints = get_type_hints(kind)
    _FIELDS[kind] = found = tuple(
        (item.name, hints[item.name] if dataclasses.is_dataclass(hints[item.name]) else None)
        for item in dataclasses.fields(kind)
    )
    return found


_Fields: TypeAlias = tuple[tuple[str, type[Any] | None], ...]
_FIELDS: dict[type[Any], _Fields] = {}
"""Names of the messages' fields, each with the dataclass it holds, if it holds one."""
