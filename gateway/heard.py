"""What the caller has really heard, turn by turn and down to the character.

Bytes sent are not bytes heard: a barge-in clears what Twilio still holds. Two things tell the truth: the
marks that Twilio echoes when its playback has passed them, and, between marks, the playout clock. Positions
are counted in µ-law bytes over the whole call, as if everything accepted were played in a row; a flush moves
the position past what was lost.

With ElevenLabs' character alignment the cut is exact; without it the text is cut in proportion to the time,
at a word boundary. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from gateway.playout import BYTES_PER_MS

WORDS_MAX = 400
"""Words of a turn whose times are told; a longer one has only the first ones."""
TURNS_MAX = 64
"""Turns that may be waiting to be heard; older ones are settled as they stand."""


@dataclass(slots=True)
class AgentTurn:
    """One reply of the agent. `start_byte` and `end_byte` are positions of its audio."""

    number: int
    at_s: float
    event_id: int
    start_byte: int
    end_byte: int
    text: str = ""
    interrupted: bool = False
    chars: list[str] = field(default_factory=list)
    char_start_ms: list[float] = field(default_factory=list)
    heard_from_s: float | None = None
    """When the caller began to hear it, by the first mark behind its start; None: no mark has told yet."""

    def heard_text(self, heard_byte: int) -> str:
        """The part of the text whose audio lies before `heard_byte`."""
        total = self.end_byte - self.start_byte
        heard = min(heard_byte - self.start_byte, total)
        if heard <= 0:
            return ""
        if heard >= total and not self.interrupted:
            return self.text or "".join(self.chars)
        if self.chars:
            return "".join(self.chars[: bisect_left(self.char_start_ms, heard / BYTES_PER_MS)])
        cut = self.text[: int(len(self.text) * heard / total)]
        whole_words, space, _ = cut.rpartition(" ")
        return whole_words if space else cut

    def word_ms(self) -> tuple[int, ...]:
        """When each word of the text begins, in ms of the turn's audio, and at last where the audio ends.

        From the alignment where it has the words of the text, else in proportion to the characters.
        """
        text = self.text or "".join(self.chars)
        total_ms = (self.end_byte - self.start_byte) / BYTES_PER_MS
        aligned = "".join(self.chars)
        if aligned and len(aligned) == len(self.chars) and aligned.split() == text.split():
            starts = [self.char_start_ms[at] for at in _word_starts(aligned)]
        else:
            starts = [total_ms * at / len(text) for at in _word_starts(text)]
        return tuple(round(one) for one in (*starts[:WORDS_MAX], total_ms))


def _word_starts(text: str) -> list[int]:
    """Where each word begins."""
    spaced = f" {text}"
    return [at for at in range(len(text)) if spaced[at].isspace() and not text[at].isspace()]


class Heard:
    """Joins agent text, agent audio and Twilio's echoes. Invariant: heard <= sent <= accepted."""

    def __init__(self) -> None:
        self._open: list[AgentTurn] = []
        self._pending_text: tuple[int, str] | None = None
        self._accepted = 0
        self._turn_closed = True
        self.heard_bytes = 0
        self.lost_bytes = 0
        self.first_heard_s: float | None = None

    # ---- what the agent says -------------------------------------------------------------------

    def text(self, text: str, event_id: int) -> AgentTurn | None:
        """The text of a reply; it may come before or after the reply's first audio.

        Returns the turn when it is open already, else None (the next audio opens it).
        """
        turn = self._open[-1] if self._open else None
        if (
            turn is not None
            and not self._turn_closed
            and (not turn.text or turn.event_id == event_id)
        ):
            turn.text = f"{turn.text} {text}".strip() if turn.event_id == event_id else text
            return turn
        self._pending_text = (event_id, text)
        self._turn_closed = True
        return None

    def audio(
        self,
        size: int,
        event_id: int,
        now_s: float,
        next_number: int,
        alignment: tuple[tuple[str, ...], tuple[int, ...]] | None = None,
    ) -> AgentTurn | None:
        """`size` bytes of agent audio were accepted by playout. Returns the turn if this opened one."""
        opened = None
        if self._turn_closed or not self._open:
            text = ""
            if self._pending_text is not None:
                text = self._pending_text[1]
                self._pending_text = None
            opened = AgentTurn(next_number, now_s, event_id, self._accepted, self._accepted, text)
            self._open.append(opened)
            self._turn_closed = False
        turn = self._open[-1]
        if alignment is not None:
            offset_ms = (turn.end_byte - turn.start_byte) / BYTES_PER_MS
            turn.chars.extend(alignment[0])
            turn.char_start_ms.extend(offset_ms + start_ms for start_ms in alignment[1])
        turn.event_id = max(turn.event_id, event_id)
        self._accepted += size
        turn.end_byte = self._accepted
        return opened

    def filler(self, size: int) -> None:
        """`size` bytes that belong to no turn were accepted by playout."""
        self._accepted += size

    def abandon(self) -> AgentTurn | None:
        """The agent is gone. Returns the turn that it has cut short, if that is known from the alignment."""
        turn = self._open[-1] if self._open and not self._turn_closed else None
        self._turn_closed = True
        self._pending_text = None
        if turn is None or not turn.chars or len("".join(turn.chars)) >= len(turn.text.strip()):
            return None
        turn.interrupted = True
        return turn

    def end_turn(self) -> None:
        """The agent has finished its reply: the next audio belongs to another turn."""
        self._turn_closed = True

    # ---- what the caller hears -----------------------------------------------------------------

    def played(self, position: int, mark_s: float | None = None) -> list[AgentTurn]:
        """Twilio's playback has passed `position`. Returns the turns that are heard to their end now.

        `mark_s`: when a mark said so; None where only the playout clock does.
        """
        self.heard_bytes = max(self.heard_bytes, min(position, self._accepted))
        if mark_s is not None:
            for turn in self._open:
                if turn.start_byte < self.heard_bytes and turn.heard_from_s is None:
                    since_ms = (self.heard_bytes - turn.start_byte) / BYTES_PER_MS
                    turn.heard_from_s = mark_s - since_ms / 1000
                    if self.first_heard_s is None:
                        self.first_heard_s = turn.heard_from_s
        return self._settle()

    def cut(self, heard_position: int, sent_position: int) -> list[tuple[AgentTurn, str]]:
        """Barge-in: all beyond `heard_position` is lost. Returns the interrupted turns and what of each was heard."""
        self.heard_bytes = heard = max(self.heard_bytes, min(heard_position, self._accepted))
        cut_short = []
        for turn in self._open:
            turn.interrupted = turn.end_byte > heard
            cut_short.append((turn, turn.heard_text(heard)))
        self._open.clear()
        self._turn_closed = True
        self._pending_text = None
        self.lost_bytes += self._accepted - heard
        self._accepted = self.heard_bytes = sent_position
        return cut_short

    def rest(self) -> list[tuple[AgentTurn, str]]:
        """The call is over: the turns that were not heard to their end, and what of each was heard."""
        left = [(turn, turn.heard_text(self.heard_bytes)) for turn in self._open]
        self._open.clear()
        return left

    def _settle(self) -> list[AgentTurn]:
        done = []
        while self._open and (
            len(self._open) > TURNS_MAX
            or (
                self._open[0].end_byte <= self.heard_bytes
                and (len(self._open) > 1 or self._turn_closed)
            )
        ):
            done.append(self._open.pop(0))
        return done
