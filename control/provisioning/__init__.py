"""From `POST /v2/agents` to a number that is answered: a saga of steps that may be killed anywhere.

saga        runs the steps of agents, one after the other, each with a deadline; takes up what is unfinished
"""

from __future__ import annotations

from control.provisioning.saga import STEPS, Provisioning

__all__ = ["STEPS", "Provisioning"]
