"""Conversations in ElevenLabs' REST API.

Source: ElevenLabs API reference, "Get conversation details", "List conversations".
"""

from __future__ import annotations

from typing import Any

from control.elevenlabs.rest import ElevenLabsRest


class Conversations:
    """What is asked after a call. Raises ElevenLabsRefused, ElevenLabsUnavailable."""

    def __init__(self, rest: ElevenLabsRest) -> None:
        self._rest = rest

    async def get_conversation(self, conversation_id: str) -> dict[str, Any]:
        """The conversation object, also while it is still being processed."""
        return await self._rest.get_conversation(conversation_id)

    async def find_conversation(self, variable: str, value: str) -> str | None:
        """The newest conversation that was begun with this dynamic variable."""
        answer = await self._rest.request(
            "conversations.list",
            "GET",
            "/v1/convai/conversations",
            query={"dynamic_variable_params": f"{variable}:eq:{value}", "page_size": "1"},
        )
        listed = answer.get("conversations")
        for item in listed if isinstance(listed, list) else ():
            if isinstance(item, dict) and isinstance(item.get("conversation_id"), str):
                return str(item["conversation_id"])
        return None
