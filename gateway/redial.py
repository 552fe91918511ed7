"""Dialling an agent leg anew while the caller stays on the line. A shell.

    lost ─ first try ─ pause ─ second try ─ given up: the stream is closed and Twilio asks control
            └─ ready: the talk goes on ─┘

The bridge keeps the caller company meanwhile (`gateway.bridge_core`, `gateway.comfort`). All tries together have
`media.agent_redial_s` from the loss on; the first one half of it, so that a leg that hangs leaves time for another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from gateway.bridge import Bridge
from gateway.bridge_core import FINAL_CODES
from gateway.errors import LegError
from gateway.events import AgentLost
from gateway.settings import MediaSettings

PAUSE_S = 0.3
"""Between two tries: what refused at once would refuse again in the same instant."""
REDIALS_PER_CALL_MAX = 10
"""An agent that comes back only to go again is given up."""


class Redialer:
    """Watches over one call's agent leg. `run` is its task; `on_lost` and `on_ready` only ring a bell."""

    def __init__(
        self,
        settings: MediaSettings,
        bridge: Bridge,
        open_agent: Callable[[], Awaitable[None]],
        note: Callable[[str, dict[str, Any]], None],
        command: Callable[[Callable[[float], None]], None],
    ) -> None:
        """`open_agent` dials and joins a leg, and raises LegError; `command` drives the bridge."""
        self._settings = settings
        self._bridge = bridge
        self._open_agent = open_agent
        self._note = note
        self._command = command
        self._bell = trio.Event()
        self._lost: AgentLost | None = None
        self._failed: AgentLost | None = None
        self.count = 0
        """Tries so far, in the whole call."""

    def on_lost(self, lost: AgentLost) -> None:
        """The agent leg is gone, or the one that was to replace it."""
        if self._lost is None:
            self._lost = lost
        self._failed = lost
        self._bell.set()

    def on_ready(self) -> None:
        self._lost = None
        self._bell.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            if self._lost is not None:
                await self._regain(self._lost)

    async def _regain(self, lost: AgentLost) -> None:
        settings = self._settings
        give_up_s = lost.at_s + settings.agent_redial_s
        for attempt in range(1, settings.agent_redials + 1):
            if attempt > 1:
                await trio.sleep(PAUSE_S)
            left_s = give_up_s - trio.current_time()
            is_over = left_s <= 0 or self.count >= REDIALS_PER_CALL_MAX
            if is_over or not self._bridge.is_without_agent:
                break
            self.count += 1
            self._note("agent_redial", {"attempt": attempt})
            is_last = attempt == settings.agent_redials
            if await self._try(left_s if is_last else left_s / 2):
                return
        self._lost = None
        self._command(lambda now_s: self._bridge.agent_given_up(lost.reason, lost.code, now_s))

    async def _try(self, seconds: float) -> bool:
        """Whether no other try is wanted: the agent is back, or would refuse again."""
        self._failed = None
        with trio.move_on_after(seconds):
            try:
                await self._open_agent()
            except LegError as error:
                self._note("error", {"leg": "agent", "reason": str(error)[:200]})
                if error.code in FINAL_CODES:
                    self._give_up(error)
                    return True
                return False
            while self._lost is not None and self._failed is None:
                self._bell = trio.Event()
                await self._bell.wait()
            return self._lost is None
        if self._bridge.is_without_agent:
            self._command(lambda now_s: self._bridge.agent_failed("was not ready in time", now_s))
        return not self._bridge.is_without_agent

    def _give_up(self, error: LegError) -> None:
        self._lost = None
        self._command(lambda now_s: self._bridge.agent_given_up(error.reason, error.code, now_s))
