"""The gateway's own tools, which an agent may use during a call.

definitions  what ElevenLabs and the model are told: data, made from the parameters' models
desk         a request comes in, is checked, run under a deadline, and answered
actions      what the tools do
"""

from control.tools.definitions import tool_configs

__all__ = ["tool_configs"]
