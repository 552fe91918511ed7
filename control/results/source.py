"""Conversations in ElevenLabs' REST API.

Source: ElevenLabs API reference, "Get conversation details", "List conversations",
"Delete conversation".
"""

from __future__ import annotations

from typing import Any

from control.elevenlabs.rest import ElevenLabsRest, part

PAGE_SIZE = 100


class Conversations:
    """What is asked after a call. Raises ElevenLabsRefused, ElevenLabsUnavailable."""

    def __init__(self, rest: ElevenLabsRest) -> None:
        self._rest = rest

    async def get_conversation(self, conversation_id: str) -> dict[str, Any]:
        """The conversation object, also while it is still being processed."""
        return await self._rest.get_conversation(conversation_id)

    async def find_conversations(self, variable: str, value: str) -> list[str]:
        """All conversations that were begun with this dynamic variable, the newest first: a call has a few, one an agent leg."""
        return await self._find(variable, value, PAGE_SIZE)

    async def delete_conversation(self, conversation_id: str) -> None:
        """For good, with its transcript and audio. ElevenLabsRefused with 404: there is none (any more)."""
        await self._rest.request(
            "conversations.delete", "DELETE", f"/v1/convai/conversations/{part(conversation_id)}"
        )

    async def _find(self, variable: str, value: str, most: int) -> list[str]:
        answer = await self._rest.request(
            "conversations.list",
            "GET",
            "/v1/convai/conversations",
            query={"dynamic_variable_params": f"{variable}:eq:{value}", "page_size": str(most)},
        )
        listed = answer.get("conversations")
        return [
            item["conversation_id"]
            for item in (listed if isinstance(listed, list) else ())
            if isinstance(item, dict) and isinstance(item.get("conversation_id"), str)
        ]
