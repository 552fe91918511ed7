"""The client tools that the gateway answers, as ElevenLabs is told of them."""

from __future__ import annotations

from typing import Any

from control.tools import tool_configs


def definitions() -> list[dict[str, Any]]:
    """`tool_config` objects, in a stable order."""
    return tool_configs()
