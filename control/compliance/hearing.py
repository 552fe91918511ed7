"""What the other side of a call has heard, and when: by Twilio's marks, never by what was sent.

    first_word_ms          the agent's first word began
    disclosed_identity_ms  who calls was said to the end
    disclosed_ai_ms        that it is an AI was said to the end
    offered_optout_ms      the offer to opt out began (it was said to the end, too)
    recording_notice_ms    the notice of the recording was said to the end

In milliseconds since the call was picked up, in the record's `legs.disclosure`. The law counts the first word's two
seconds from the end of the greeting (47 CFR 64.1200(a)(7), (b)(1)), which nobody can tell for certain; from the
pick-up they are over sooner, so a call that keeps them here keeps them there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from control.calls import LiveCall
from control.compliance import phrases
from control.office import Office
from gateway.link import CallEvent, TranscriptTurn

FIRST_WORD = "first_word_heard"
"""The worker's line."""
LEG = "disclosure"
FIRST_WORD_LATEST_MS = 2000
_ENDS = {
    "identify": "disclosed_identity_ms",
    "disclose_ai": "disclosed_ai_ms",
    "recording_notice": "recording_notice_ms",
}
_BEGINS = {"offer_opt_out": "offered_optout_ms"}
_MACHINES = ("machine", "fax")


class Hearing:
    """Listens to what workers tell. One per process."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def on_event(self, call: LiveCall, event: CallEvent) -> None:
        """A line of a worker's timeline."""
        if event.name == FIRST_WORD:
            self._keep(call, "first_word_ms", event.at_ms)

    def on_turn(self, call: LiveCall, turn: TranscriptTurn) -> None:
        """Lines of ours that were heard to their end, each once."""
        if turn.role != "agent" or not call.lines_due or not turn.heard:
            return
        heard = phrases.normalised(turn.heard)
        for kind, text in list(call.lines_due):
            if phrases.normalised(text) not in heard:
                continue
            call.lines_due.remove((kind, text))
            data: dict[str, Any] = {"kind": kind, "turn": turn.turn}
            span = span_ms(turn, text)
            if span is not None:
                begin_ms, end_ms = span
                data |= {"from_ms": self._since_answer(call, begin_ms)}
                data |= {"until_ms": self._since_answer(call, end_ms)}
                if kind in _BEGINS:
                    self._keep(call, _BEGINS[kind], begin_ms)
                elif kind in _ENDS:
                    self._keep(call, _ENDS[kind], end_ms)
            self._office.note(call, "disclosure_heard", **data)

    def _keep(self, call: LiveCall, name: str, at_ms: int) -> None:
        """The first time counts: another agent leg may say it again."""
        known = call.legs.get(LEG) or {}
        since_ms = self._since_answer(call, at_ms)
        if since_ms is not None and name not in known:
            call.leg(LEG, known | {name: since_ms})

    def _since_answer(self, call: LiveCall, at_ms: int) -> int | None:
        if call.answered_at is None:
            return None
        return at_ms - round(call.answered_at.timestamp() * 1000)


def span_ms(turn: TranscriptTurn, line: str) -> tuple[int, int] | None:
    """When the line was heard within the turn, begin and end, Unix milliseconds; None where no mark told."""
    if turn.heard_from_ms is None:
        return None
    said = [phrases.normalised(word) for word in turn.text.split()]
    wanted = [phrases.normalised(word) for word in line.split()]
    for at in range(len(said) - len(wanted) + 1):
        end = at + len(wanted)
        if said[at:end] == wanted and end < len(turn.word_ms):
            return turn.heard_from_ms + turn.word_ms[at], turn.heard_from_ms + turn.word_ms[end]
    return None


def was_abandoned(call: LiveCall, ended_at: datetime) -> bool | None:
    """Whether somebody picked up and heard no word of ours within two seconds.

    None where that is no question: an inbound call, a machine, one that policy ended, and who hung up sooner.
    """
    if call.direction != "outbound" or call.answered_at is None:
        return None
    if (call.answered_by or "").startswith(_MACHINES):
        return None
    if call.outcome is not None and call.outcome.result == "policy":
        return None
    first_word_ms = (call.legs.get(LEG) or {}).get("first_word_ms")
    if first_word_ms is not None:
        return bool(first_word_ms > FIRST_WORD_LATEST_MS)
    talked_ms = (ended_at - call.answered_at).total_seconds() * 1000
    return True if talked_ms >= FIRST_WORD_LATEST_MS else None
