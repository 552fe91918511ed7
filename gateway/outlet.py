"""The part of a call's state that decides when and how agent audio leaves, and counts what did.

One plain object for each call, which the media plane goes through in every phase of its grid. The compiled one
sends the usual audio by itself (`gateway.intake.Intake.tick`); this is its description, and what is used
without it. Pure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gateway import flow
from gateway.playout import PlainPlayout


class PlainOutlet:
    """Between a call's playout and its caller leg."""

    __slots__ = (
        "_mark_bytes",
        "_out",
        "due_s",
        "epoch",
        "is_usual",
        "marked_bytes",
        "marks_sent",
        "messages",
        "owner",
        "playout",
        "plays",
    )

    def __init__(self, playout: PlainPlayout, out: list[bytes], mark_bytes: int) -> None:
        """`out`: frames that go before; `mark_bytes`: the most audio between two marks."""
        self.playout = playout
        self._out = out
        self._mark_bytes = mark_bytes
        self.owner: object = None
        """Whose it is: what `Intake.tick` answers with."""
        self.due_s = math.inf
        """When the bridge has something to do; what playout has due comes on top while `plays`."""
        self.plays = False
        """Whether the stream has started and the call goes on."""
        self.is_usual = False
        """Whether nothing but the audio and its marks is to be thought of when playout is due."""
        self.messages = 0
        self.marks_sent = 0
        self.marked_bytes = 0
        """Sent when the last mark was."""
        self.epoch = 0
        """Goes up with each barge-in: marks of an earlier one tell nothing."""

    @property
    def next_s(self) -> float:
        """When the call is to be ticked."""
        return min(self.due_s, self.playout.due_s) if self.plays else self.due_s

    @property
    def wants_mark(self) -> bool:
        """Whether a mark is due behind the audio that was sent."""
        return self.playout.sent_bytes - self.marked_bytes >= self._mark_bytes

    def open(self, caller_fd: int, stream_sid: bytes, /) -> None:
        """This socket may be written to past the bridge. Means nothing here."""

    def close(self) -> None:
        """No longer."""


if TYPE_CHECKING:
    Outlet = PlainOutlet
elif flow.IS_COMPILED:
    from gateway._express import Outlet
else:
    Outlet = PlainOutlet
