"""What a simulated agent says, how it delivers it, and what goes wrong. Values only."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from bench.sim_elevenlabs import speech

FirstFrame: TypeAlias = Literal[
    "metadata",  # as documented
    "not_json",  # a text frame that is no JSON
    "not_object",  # JSON, but an array
    "not_metadata",  # a well-formed event of another type, then the metadata
    "empty_metadata",  # the envelope without its body
    "binary",  # a binary frame
    "broken_frame",  # bytes that are no WebSocket frame at all
]


@functools.lru_cache(maxsize=256)
def _encoded(pcm16_8k: bytes, name: str) -> bytes:
    return speech.encode(pcm16_8k, name)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One thing an agent says. `pcm16` is 16-bit, 8 kHz."""

    text: str
    pcm16: bytes = field(repr=False)
    interruptible: bool = True

    @classmethod
    def of(cls, prompt_name: str, *, interruptible: bool = True) -> Utterance:
        """A recording of `bench/speech` by its name."""
        prompt = speech.prompt(prompt_name)
        return cls(prompt.text, prompt.pcm16, interruptible)

    @property
    def duration_s(self) -> float:
        return len(self.pcm16) / (2 * speech.SOURCE_HZ)

    def encoded(self, audio_format: str) -> bytes:
        """The exact bytes that a conversation in this format carries (before any fault)."""
        return _encoded(self.pcm16, audio_format)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A client tool the agent calls before its reply number `before_reply` (1 is the first reply).

    With `timeout_s` passed, the agent goes on without the result, as the real one does.
    """

    before_reply: int
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    expects_response: bool = True
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on the conversation socket. Nothing by default. Times count from the upgrade."""

    refuse_upgrade: int | None = None  # HTTP status instead of 101
    hang_upgrade: bool = False  # the request is read and never answered
    silent: bool = False  # upgraded, reads everything, says nothing
    first_frame: FirstFrame = "metadata"
    metadata_delay_s: float = 0.0
    claimed_output_format: str | None = None  # metadata lies: audio stays in the agent's format
    claimed_input_format: str | None = None
    drop_after_s: float | None = None  # end of TCP without a close frame
    drop: Literal["reset", "eof"] = "reset"
    close_after_s: float | None = None
    close_code: int = 1000
    close_reason: str = ""
    error_type: str | None = None  # `error` event just before that close
    only_pings: bool = False  # metadata, then nothing but pings
    burst_s: float | None = None  # this much audio, all of it within `burst_within_s`
    burst_within_s: float = 1.0
    stop_reading_after_s: float | None = None
    huge_frame_bytes: int = 0  # first agent audio event carries this much audio, e.g. 3 MiB
    string_event_ids: bool = False
    unknown_events: bool = False  # an unknown `type` before every agent turn
    odd_chunks: bool = False  # PCM chunks cut in the middle of a sample
    bad_base64: bool = False  # the second audio event of each turn is not base64
    queue_wait_s: float | None = None  # `queue_status` waiting, hold audio, then admitted
    queue_times_out: bool = False  # ... timed_out and close 4300 instead
    double_interruption: bool = False  # every interruption is sent twice
    stray_interruption: bool = False  # one interruption right after the metadata, nothing queued


@dataclass(frozen=True, slots=True)
class RestFaults:
    """What goes wrong in REST for one agent."""

    signed_url_status: int | None = None  # 401, 404, 422, 429, 500
    signed_url_delay_s: float = 0.0
    signed_url_garbage: bool = False  # 200 with a body that is no JSON
    agent_status: int | None = None  # of agents/{id}
    conversation_status: int | None = None  # of conversations/{id}
    processing_polls: int = 1  # so many answers say "processing" after the end
    analysis_fails: bool = False  # the conversation ends as "failed"


@dataclass(frozen=True, slots=True)
class AgentScript:
    """One agent. The defaults are a well-behaved agent on µ-law that greets and then only listens.

    `replies` are spoken in turn, one for each utterance of the caller; `transcripts` are what the
    agent understood, in the same order: scripted, unless it `understands` recordings, which it has to hear.
    """

    name: str = "Simulated agent"
    output_format: str = "ulaw_8000"
    input_format: str = "ulaw_8000"
    first_message: Utterance | None = None
    replies: tuple[Utterance, ...] = ()
    loop_replies: bool = False  # begin again after the last reply (load tests)
    transcripts: tuple[str, ...] = ()
    understands: tuple[
        str, ...
    ] = ()  # recordings known by their sound; `transcripts` are not used then
    requires_signature: bool = True  # `platform_settings.auth.enable_auth`
    client_events: tuple[str, ...] | None = None  # None: all of them
    overrides: tuple[str, ...] = ()  # leaves that a conversation may set, as "agent.first_message"
    start_without_initiation_s: float | None = None  # begin anyway when the client says nothing

    speed: float = 4.0  # delivery, times real time
    chunk_ms: int = 250
    chunk_extra_samples: int = 7  # keeps chunks from being multiples of 20 ms
    event_ids: Literal["turn", "chunk"] = "turn"
    alignment: bool = False
    agent_response_complete: bool = True
    tentative_transcripts: bool = False
    response_latency_s: float = 0.3
    ping_interval_s: float = 2.0
    pong_deadline_s: float = 2.0  # a later pong is a violation
    receive_timeout_s: float = 60.0  # `transport_receive_timeout`: close 1002
    max_duration_s: float = 600.0  # `max_duration_exceeded`: close 1000

    speech_threshold_dbfs: float = -35.0
    speech_ms: int = 120
    silence_ms: int = 500
    stale_chunks: int = 0  # audio of the old event that still arrives after an interruption

    tool_calls: tuple[ToolCall, ...] = ()
    end_call_after_reply: int | None = None  # 0: after the first message
    end_call_full_payload: bool = False  # `agent_tool_response_full_payload` instead
    end_call_close_s: float = 0.2  # from the last audio to close 1000

    prompt: str = ""
    placeholders: Mapping[str, Any] = field(default_factory=dict)
    """Values of dynamic variables that a conversation does not give."""
    data_collection: Mapping[str, Any] = field(default_factory=dict)
    summary: str = "The caller and the agent talked."
    success: Literal["success", "failure", "unknown"] = "success"
    faults: Faults = Faults()
    rest: RestFaults = RestFaults()

    def __post_init__(self) -> None:
        speech.split_format(self.output_format)
        speech.split_format(self.input_format)
        if self.speed <= 0 or self.chunk_ms <= 0:
            raise ValueError("speed and chunk_ms must be above zero")

    def reply(self, number: int) -> Utterance | None:
        """Reply `number` (1 is the first), or None when the agent has nothing more to say."""
        if not self.replies or (number > len(self.replies) and not self.loop_replies):
            return None
        return self.replies[(number - 1) % len(self.replies)]

    def transcript(self, number: int) -> str:
        """What the caller is taken to have said in utterance `number` (1 is the first)."""
        if number <= len(self.transcripts):
            return self.transcripts[number - 1]
        return f"(caller utterance {number})"

    def chunk_bytes(self, audio_format: str) -> int:
        """Bytes of one audio event: a whole number of samples unless `odd_chunks` asks otherwise."""
        coding, rate = speech.split_format(audio_format)
        width = 1 if coding == "ulaw" else 2
        size = (rate * self.chunk_ms // 1000 + self.chunk_extra_samples) * width
        return size + 1 if self.faults.odd_chunks and width == 2 else size

    def config(self) -> dict[str, Any]:
        """The agent as REST shows it: `name`, `conversation_config`, `platform_settings`, `tags`."""
        first = self.first_message.text if self.first_message else ""
        events = list(self.client_events) if self.client_events is not None else ALL_CLIENT_EVENTS
        tts = {"voice_id": "voice_sim", "agent_output_audio_format": self.output_format}
        config = {
            "name": self.name,
            "conversation_config": {
                "asr": {"quality": "high", "user_input_audio_format": self.input_format},
                "turn": {"turn_timeout": 7, "silence_end_call_timeout": -1},
                "tts": tts,
                "conversation": {
                    "text_only": False,
                    "max_duration_seconds": int(self.max_duration_s),
                    "client_events": events,
                },
                "agent": {"first_message": first, "language": "en", "prompt": {"prompt": ""}},
            },
            "platform_settings": {
                "auth": {"enable_auth": self.requires_signature},
                "overrides": {"conversation_config_override": _nested(self.overrides)},
            },
            "tags": [],
        }
        copied: dict[str, Any] = json.loads(json.dumps(config))
        return copied


def leaves(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Each leaf with its path, `("agent.first_message", True)`."""
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _nested(leaves: tuple[str, ...]) -> dict[str, Any]:
    """`("agent.first_message",)` as REST shows it: every step an object, the leaf `true`."""
    found: dict[str, Any] = {}
    for leaf in leaves:
        *steps, last = leaf.split(".")
        inner = found
        for step in steps:
            inner = inner.setdefault(step, {})
        inner[last] = True
    return found


ALL_CLIENT_EVENTS = [
    "conversation_initiation_metadata",
    "ping",
    "audio",
    "interruption",
    "user_transcript",
    "tentative_user_transcript",
    "agent_response",
    "agent_response_correction",
    "agent_response_complete",
    "client_tool_call",
    "agent_tool_request",
    "agent_tool_response",
    "guardrail_triggered",
    "client_error",
]
