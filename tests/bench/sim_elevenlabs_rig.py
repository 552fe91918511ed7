"""Scripted conversations for the simulated ElevenLabs, and the record of the only one."""

from __future__ import annotations

from bench.sim_elevenlabs import AgentScript, ElevenLabsSim, Utterance

GREETING = Utterance.of("agent_greeting")
HOLD = Utterance.of("agent_hold")


def sim_with(**fields) -> ElevenLabsSim:
    """One agent, called `agent`, that plays this script."""
    return ElevenLabsSim("key", {"agent": AgentScript(**fields)}, public_origin="http://sim.test")


def record_of(sim):
    """Of the only conversation."""
    (record,) = sim.conversations.values()
    return record
