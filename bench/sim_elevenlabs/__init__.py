"""A simulated ElevenLabs Agents service: REST and conversation sockets, faults on demand.

    sim = ElevenLabsSim("key", {"agent_1": AgentScript(first_message=Utterance.of("agent_greeting"))})
    base_url = await nursery.start(sim.run)

Written from the documentation, and importing none of the gateway's code, so that a mistake in one
cannot hide a mistake in the other.
"""

from __future__ import annotations

from bench.sim_elevenlabs.record import ConversationRecord, SentEvent, Turn, Violation
from bench.sim_elevenlabs.scenario import (
    AgentScript,
    Faults,
    RestFaults,
    ToolCall,
    Utterance,
)
from bench.sim_elevenlabs.server import ElevenLabsSim
from bench.sim_elevenlabs.speech import Prompt, prompt

__all__ = [
    "AgentScript",
    "ConversationRecord",
    "ElevenLabsSim",
    "Faults",
    "Prompt",
    "RestFaults",
    "SentEvent",
    "ToolCall",
    "Turn",
    "Utterance",
    "Violation",
    "prompt",
]
