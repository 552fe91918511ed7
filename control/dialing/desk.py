"""What the parts of dialling share: who this daemon is, what it has under way, who waits for an outcome."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

import trio

from control.refusals import Refusal
from control.store.dialing import Seat

LEASE = timedelta(seconds=60)
"""After so long without a sign of life a daemon's calls are somebody else's."""


class Dial:
    """What the request that asked for a call will be told."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.refusal: Refusal | None = None

    def finish(self, refusal: Refusal | None = None) -> None:
        """The first word counts."""
        if not self.done.is_set():
            self.refusal = refusal
            self.done.set()


class Desk:
    """One per process. `node` outlives a restart, `owner` does not."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.owner = f"{node}#{secrets.token_hex(4)}"
        self.dials: dict[str, Dial] = {}
        self.under_way: set[str] = set()
        """Calls whose leases are kept."""
        self.wake = trio.Event()
        """Set when the queue is worth another look."""
        self.next_look: datetime | None = None
        """When the pump looks of its own accord; None while it does."""

    def queued(self, due_at: datetime) -> None:
        """A call waits now. The pump looks for it, unless it will before the call is due."""
        if self.next_look is None or due_at < self.next_look:
            self.wake.set()

    def seat(self, now: datetime) -> Seat:
        """This daemon, and until when what it takes is its own."""
        return Seat(self.owner, now + LEASE)

    def dial_of(self, call_id: str) -> Dial:
        """Who waits for this call; nobody, if the request came to another daemon or is long gone."""
        return self.dials.get(call_id) or Dial()
