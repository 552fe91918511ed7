"""What a native call (ElevenLabs holds the telephone leg) is to begin with: the variables of the called agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control.elevenlabs.agent_body import own_variables
from control.routing import callers
from control.sms.settings import E164
from control.store import Store, agents


class Initiation:
    """One per daemon."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def data(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """`conversation_initiation_client_data` for a call to one of our numbers; None for any other.

        `asked` is `{caller_id, agent_id, called_number, call_sid}`. Raises StoreUnavailable.
        """
        called = asked.get("called_number")
        if not isinstance(called, str) or not E164.fullmatch(called):
            return None
        agent = await self._store.read(agents.by_number, called)
        if agent is None or agent.elevenlabs_agent_id != asked.get("agent_id"):
            return None
        caller = asked.get("caller_id")
        variables = (
            own_variables(agent)
            | agent.variables
            | callers.UNKNOWN
            | {
                "caller_number": caller if isinstance(caller, str) else "",
                "called_number": called,
            }
        )
        return {
            "type": "conversation_initiation_client_data",
            "dynamic_variables": variables,
        }
