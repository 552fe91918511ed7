"""From `POST /v2/agents` to a number that is answered: a saga of steps that may be killed anywhere.

saga              runs the steps of agents, one after the other, each with a deadline; takes up what is unfinished
values            the steps' names, order and deadlines; what they share
telephone         steps at Twilio: subaccount, key, numbers, routing
knowledge         the business's page in ElevenLabs' knowledge base
tools             the gateway's client tools in the workspace
elevenlabs_steps  the ElevenLabs agent: made, adopted, changed later
once              making a thing at ElevenLabs once, whatever happens in between
self_test         a conversation without a caller
health            looks at live agents in the background, and mends what was changed by hand
release           gives back what was made, when asked
"""

from __future__ import annotations

from control.provisioning.saga import Provisioning
from control.provisioning.values import STEPS

__all__ = ["STEPS", "Provisioning"]
