"""What the simulator remembers of a conversation: for assertions, and for REST after the call."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.sim_elevenlabs.scenario import AgentScript

#: At ten minutes of 48 kHz PCM a record would be 58 MB; this is 17 minutes of µ-law.
AUDIO_LIMIT_BYTES = 8 * 1024 * 1024
#: 17 minutes of 20 ms frames.
LIST_LIMIT = 50_000


@dataclass(frozen=True, slots=True)
class Violation:
    """Something a client did that the documented protocol does not allow."""

    conversation_id: str
    at_s: float
    what: str
    sample: str = ""


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event put on the wire; `body` is the event without audio, `audio` the decoded bytes sent."""

    at_s: float
    type: str
    event_id: int | None
    body: dict[str, Any]
    audio: bytes = b""


@dataclass(slots=True)
class Turn:
    """One entry of the transcript. `text` of an interrupted agent turn is what was played of it."""

    role: Literal["user", "agent"]
    text: str | None
    at_s: float
    event_id: int | None = None
    interrupted: bool = False
    original_text: str | None = None
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    tool_results: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class ConversationRecord:
    """Everything that happened on one conversation socket. Times are `trio.current_time()` seconds.

    Audio and lists are bounded; when a bound is reached the record stops growing and `truncated`
    says so (counts go on).
    """

    conversation_id: str
    agent_id: str
    script: AgentScript
    authorization_method: str
    started_at_s: float
    started_unix_s: float
    query: dict[str, str] = field(default_factory=dict)
    handshake_headers: dict[str, str] = field(default_factory=dict)

    initiation: dict[str, Any] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    arrivals: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    contextual_updates: list[dict[str, Any]] = field(default_factory=list)
    user_messages: list[str] = field(default_factory=list)
    tool_results: list[dict[str, Any]] = field(default_factory=list)
    feedback: list[dict[str, Any]] = field(default_factory=list)
    pong_latencies_s: list[float] = field(default_factory=list)
    audio_before_metadata_bytes: int = 0

    sent: list[SentEvent] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    timings: list[tuple[str, float]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    closed_by: Literal["client", "server", "network"] | None = None
    close_code: int | None = None
    close_reason: str | None = None
    ended_at_s: float | None = None
    truncated: bool = False
    keep_audio: bool = True
    status_polls: int = 0
    _received: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def received(self) -> bytes:
        """The caller's audio in the input format, bit for bit, all chunks joined."""
        return bytes(self._received)

    @property
    def received_bytes(self) -> int:
        """How much of it there is."""
        return len(self._received)

    @property
    def received_ulaw(self) -> bytes:
        """The caller's audio as 8 kHz µ-law; ValueError when the input format is another."""
        if self.script.input_format != "ulaw_8000":
            raise ValueError(f"the input format is {self.script.input_format}")
        return self.received

    @property
    def sent_audio(self) -> bytes:
        """All agent audio put on the wire, in order, joined."""
        return b"".join(event.audio for event in self.sent)

    def times(self, name: str) -> list[float]:
        """When `name` happened: accepted, initiation_received, metadata_sent, first_audio_sent,
        caller_began, caller_ended, interruption_sent, reply_audio_sent, end_call_sent, closed."""
        return [at_s for timing, at_s in self.timings if timing == name]

    def events(self, event_type: str) -> list[SentEvent]:
        """The events of one type that were sent, in order."""
        return [event for event in self.sent if event.type == event_type]

    def note(self, name: str, at_s: float) -> None:
        self._append(self.timings, (name, at_s))

    def add_message(self, name: str, at_s: float) -> None:
        """Count a client message and keep its arrival time."""
        self.counts[name] += 1
        self._append(self.arrivals[name], at_s)

    def add_audio(self, data: bytes) -> None:
        """Append caller audio, up to `AUDIO_LIMIT_BYTES`."""
        if not self.keep_audio:
            return
        if len(self._received) + len(data) > AUDIO_LIMIT_BYTES:
            self.truncated = True
            return
        self._received += data

    def add_sent(self, event: SentEvent) -> None:
        self._append(self.sent, event)

    def violate(self, at_s: float, what: str, sample: str = "") -> None:
        self._append(self.violations, Violation(self.conversation_id, at_s, what, sample[:120]))

    def _append(self, entries: list[Any], entry: Any) -> None:
        if len(entries) < LIST_LIMIT:
            entries.append(entry)
        else:
            self.truncated = True
