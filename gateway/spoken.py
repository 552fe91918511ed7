"""What was said in a call so far, as the next agent leg is told it. Pure."""

from __future__ import annotations

from gateway.events import Turn

TURNS_MAX = 40
"""Turns that are kept; the newest count."""
CONTEXT_MAX_CHARS = 4_000
TURN_MAX_CHARS = 1_000


class Spoken:
    """The newest turns by number; a turn that is told again replaces what was known of it."""

    def __init__(self) -> None:
        self._lines: dict[int, str] = {}
        self.agent_was_heard = False
        """Whether the caller has heard a turn of the agent to its end."""

    def tell(self, turn: Turn) -> None:
        said = turn.text if turn.role == "user" or turn.heard is None else turn.heard
        if turn.role == "agent" and turn.heard and not turn.interrupted:
            self.agent_was_heard = True
        who = "Caller" if turn.role == "user" else "Agent"
        if turn.number not in self._lines and len(self._lines) >= TURNS_MAX:
            oldest = min(self._lines)
            if turn.number < oldest:
                return
            del self._lines[oldest]
        self._lines[turn.number] = f"{who}: {said[:TURN_MAX_CHARS]}" if said else ""

    def context(self) -> str:
        """One line a turn, oldest first; empty when nothing was said."""
        lines = [self._lines[number] for number in sorted(self._lines) if self._lines[number]]
        return "\n".join(lines)[-CONTEXT_MAX_CHARS:]
