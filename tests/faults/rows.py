"""What a row of the fault table states. Values only; `tests/faults/play.py` plays them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.sim_elevenlabs import AgentScript, Utterance, prompt
from bench.sim_twilio import SimCall

if TYPE_CHECKING:
    from tests.faults.bed import Bed

GREETING = Utterance("Hello.", Utterance.of("agent_hold").pcm16[: 2 * 8_000])
"""One second."""
REPLY = Utterance("Goodbye.", Utterance.of("agent_goodbye").pcm16[: 2 * 8_000])
QUESTION = prompt("caller_barge_in")
"""What the caller says once the fault is over."""
GREETER = AgentScript(
    first_message=GREETING, replies=(REPLY,), loop_replies=True, response_latency_s=0.05
)
DISTURBANCES = frozenset({"agent_lost", "asked_to_continue", "resumed", "worker_lost"})
"""Lines of the timeline that only rows may have which name them."""

AGENT = frozenset({"agent"})
APOLOGY = frozenset({"apology"})
BOTH = AGENT | APOLOGY
NOTHING: frozenset[str] = frozenset()

Prepare = Callable[["Bed", "Row"], None]
Act = Callable[["Bed", "Row", SimCall], Awaitable[None]]
Meanwhile = Callable[["Bed", "Row"], Awaitable[None]]
Then = Callable[["Bed", str], Awaitable[str]]
"""With the call's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault, and everything that it may cost."""

    name: str
    what: str
    """What is done, and when."""
    hears: frozenset[str] = AGENT
    """Of `agent` (her words) and `apology` (Twilio's voice), no more and no less."""
    status: str = "completed"
    result: str = "completed"
    blame: str | None = None
    reason: str = "caller hung up"
    """The record's reason, to the letter."""
    timeline: tuple[str, ...] = ()
    """Lines that the record has, in this order. Of `DISTURBANCES` it has no others."""
    gap_max_s: float | None = 10.0
    """From the fault until the caller, who speaks as soon as it is over, is answered. None: nobody is there to
    answer any more."""
    answers: bool = True
    """Off: the agent hears the caller and says nothing."""
    script: AgentScript = GREETER
    prepare: Prepare | None = None
    """Before the call."""
    act: Act | None = None
    """Once the caller hears the agent; it returns when the fault is over."""
    meanwhile: Meanwhile | None = None
    """While the call comes about."""
    outbound: bool = False
    """The call is ordered over the API."""
    media: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the agent."""
    bystanders: int = 2
    """Of a row that has the daemon to itself: how many calls have to go on undisturbed."""
    rings: bool = True
    """Off: an outbound call that Twilio never makes."""
    webhooks: int = 0
    """How often ElevenLabs sends its post-call webhook."""
    then: Then | None = None
    """What has to come of it after the call; what is wrong, in words, or nothing."""
    stays_s: float = 6.0
    """How long a caller stays whom nobody answers."""

    @property
    def talks(self) -> bool:
        """Whether the talk goes on after the fault."""
        return self.gap_max_s is not None
