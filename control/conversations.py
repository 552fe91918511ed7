"""The budget of agent conversations: ElevenLabs lets a workspace have so many at once, whoever opens them.

All daemons on one store share `elevenlabs.concurrency`. Each has a number in `nodes`: the conversations that its
workers hold, and those that it will open for calls which it has taken on (an outbound call from its turn in the
dial queue, an inbound one from its admission). A daemon that is gone has none once its lease is over. New calls
ask first. Calls in progress never do: a conversation that is opened anew takes the place of one that was lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from control.calls import Book, LiveCall
from control.config import ElevenLabsSettings
from control.store import StoreUnavailable
from control.store.nodes import Share

WAIT_S = 3.0
"""For those who ask at the same moment. Twilio waits 15 s for the answer to a call."""


@dataclass(slots=True)
class Conversations:
    """Those of this process."""

    settings: ElevenLabsSettings
    node: str
    book: Book
    held: Callable[[], int]
    """How many the workers hold."""
    _expected: dict[str, LiveCall] = field(default_factory=dict)
    _one_at_a_time: trio.Lock = field(default_factory=trio.Lock)

    @property
    def most(self) -> int:
        """At once; 0 = nobody has said."""
        return self.settings.concurrency

    @property
    def most_outbound(self) -> int:
        """With how many at once a call of ours may still be begun."""
        return self.most - self.most * self.settings.inbound_reserve_percent // 100

    def count(self) -> int:
        """Open ones, and those that will be opened for calls that were taken on."""
        for call in list(self._expected.values()):
            if call.closing or self.book.get(call.id) is not call:
                del self._expected[call.id]
        return self.held() + len(self._expected)

    def expect(self, calls: Iterable[LiveCall]) -> None:
        """These calls were taken on."""
        self._expected |= {call.id: call for call in calls}

    def opened(self, call: LiveCall) -> None:
        """A worker holds the call now."""
        self._expected.pop(call.id, None)

    @asynccontextmanager
    async def asking(self, most: int) -> AsyncIterator[Share]:
        """Nobody else of this process asks meanwhile. Raises StoreUnavailable when the wait is too long."""
        with trio.move_on_after(WAIT_S) as patience:
            await self._one_at_a_time.acquire()
        if patience.cancelled_caught:
            raise StoreUnavailable("too many calls wait for the store")
        try:
            yield Share(self.node, self.count(), most)
        finally:
            self._one_at_a_time.release()
