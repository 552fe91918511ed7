"""The client tools that the gateway answers, as ElevenLabs is told of them.

Which there are is known to `control.tools`; until that says so, the agents are given none: a tool that nobody
answers is worse than no tool.
"""

from __future__ import annotations

import importlib
from typing import Any


def definitions() -> list[dict[str, Any]]:
    """`tool_config` objects, in a stable order."""
    try:
        module = importlib.import_module("control.tools")
    except ModuleNotFoundError:
        return []
    given = getattr(module, "tool_configs", None)
    return list(given()) if given is not None else []
