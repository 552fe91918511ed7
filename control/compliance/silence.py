"""The duty `end_on_silence`: a call of ours in which nobody speaks or presses a key is not kept up.

Two machines that talk with each other, or a line that nobody hung up, cost money and end in no good. The agent is
told first, then the call ends.
"""

from __future__ import annotations

import math

import trio

from control.calls import LiveCall, Outcome
from control.office import Office
from gateway.link import CallEvent, TranscriptTurn

DUTY = "end_on_silence"
STARTED = "stream_started"
KEY = "dtmf"
REASON = "the called party said nothing"
TELL_AGENT = (
    "Nobody has said anything for a while. Ask once, in a few words, whether somebody is there; "
    "if nobody answers, say goodbye and end the call."
)


class Silence:
    """Listens to what workers tell, and watches each call that owes it. One per process."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def on_event(self, call: LiveCall, event: CallEvent) -> None:
        """The talk begins, or a key was pressed."""
        if event.name == KEY:
            call.last_sign_s = trio.current_time()
        elif event.name == STARTED and call.direction == "outbound":
            is_watched = call.last_sign_s is not None
            call.last_sign_s = trio.current_time()
            duty = next((one for one in call.duties if one.get("kind") == DUTY), None)
            if duty is not None and not is_watched:
                self._office.spawn(self._watch, call, _seconds(duty, "prompt_after_s"),
                                   _seconds(duty, "end_after_s"))  # fmt: skip

    def on_turn(self, call: LiveCall, turn: TranscriptTurn) -> None:
        """Somebody has spoken."""
        if turn.role == "user":
            call.last_sign_s = trio.current_time()

    async def _watch(self, call: LiveCall, prompt_s: float, end_s: float) -> None:
        prompted_at: float | None = None
        while not call.closing and not call.away and call.last_sign_s is not None:
            sign_s = call.last_sign_s
            due_s = sign_s + (end_s if prompted_at == sign_s else min(prompt_s, end_s))
            with trio.move_on_at(due_s):
                await call.closed.wait()
                return
            if call.last_sign_s != sign_s:
                continue  # somebody spoke meanwhile
            if trio.current_time() >= sign_s + end_s:
                self._end(call)
                return
            prompted_at = sign_s
            self._office.note(call, "silence_prompted")
            self._office.pool.say(call.id, "user_message", TELL_AGENT)

    def _end(self, call: LiveCall) -> None:
        if call.closing or call.away or not self._office.pool.holds(call.id):
            return
        call.outcome = Outcome("completed", None, REASON)
        self._office.note(call, "silence_ended")
        self._office.pool.hang_up(call.id, REASON)


def _seconds(duty: dict[str, object], name: str) -> float:
    value = duty.get(name)
    return float(value) if isinstance(value, int | float) else math.inf
