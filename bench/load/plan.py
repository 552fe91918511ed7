"""What is asked of a generator, as it travels to its process."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: so many calls, for so long."""

    calls: int
    seconds: float
    """The window in which is measured."""
    warmup_s: float = 4.0
    ramp_per_s: float = 25.0
    """New calls a second."""
    audio_format: str = "ulaw_8000"
    tls: bool = False
    certificate: str = ""
    key: str = ""
    agent_chunk_ms: int = 250
    agent_chunks_per_turn: int = 8
    agent_chunk_gap_ms: int = 100
    agent_period_ms: int = 4000
    """Begin of a turn to begin of the next; twice a turn's length = speaking half of the time."""
    alignment: bool = False
    barge_share: float = 0.1
    is_relay: bool = False
    """The target passes messages on without reading them."""
    churn_per_s: float = 0.0
    """Beside the steady calls: short ones, set up and torn down all the time."""
    churn_call_s: float = 3.0
    fill_calls: int = 0
    """Short calls before the ramp: what a daemon that has been at work for an hour has in its pools and caches."""
    fill_per_s: float = 8.0

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StepPlan:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))
