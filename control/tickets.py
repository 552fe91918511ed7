"""Tickets: the single-use secret in the path of a media stream.

A ticket admits one stream to one call, once, for a short time. Synchronous; `now_s` is any monotonic
clock, so that a step of the wall clock neither prolongs nor kills a ticket. Used and expired tickets are
remembered for a while only to be able to say which of the two they were.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

TICKET_BYTES = 24
TICKETS_MAX = 50_000
"""Remembered tickets; beyond it the oldest is forgotten, and its stream will be unknown."""
REMEMBER_S = 600.0
FORGET_AT_ONCE = 64
"""Old tickets looked at whenever one is issued: more than one, so the memory shrinks."""


class TicketRefused(Exception):
    """`why` is `unknown`, `used`, `expired` or `foreign`; `status` is the HTTP status to answer."""

    def __init__(self, why: str) -> None:
        super().__init__(f"ticket {why}")
        self.why = why
        self.status = {"unknown": 404, "foreign": 403}.get(why, 410)


@dataclass(slots=True)
class _Ticket:
    call_id: str
    expires_s: float
    used: bool = False


class Tickets:
    """All tickets of this process. Invariant: at most TICKETS_MAX are held, oldest first."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._tickets: dict[str, _Ticket] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def issue(self, call_id: str, ttl_s: float) -> str:
        """A new ticket for `call_id`, good for `ttl_s` seconds."""
        now_s = self._now_s()
        self._forget(now_s)
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        self._tickets[ticket] = _Ticket(call_id, now_s + ttl_s)
        return ticket

    def redeem(self, ticket: str) -> str:
        """The call that `ticket` admits to, once. Raises TicketRefused."""
        held = self._tickets.get(ticket)
        if held is None:
            raise TicketRefused("unknown")
        if held.used:
            raise TicketRefused("used")
        if self._now_s() >= held.expires_s:
            raise TicketRefused("expired")
        held.used = True
        return held.call_id

    def call_of(self, ticket: str) -> str | None:
        """The call that `ticket` is of, used or not; None when it is not known. Spends nothing."""
        held = self._tickets.get(ticket)
        return None if held is None else held.call_id

    def revoke(self, ticket: str) -> None:
        """No stream may come with this ticket any more; it counts as expired."""
        held = self._tickets.get(ticket)
        if held is not None:
            held.expires_s = min(held.expires_s, self._now_s())

    def _forget(self, now_s: float) -> None:
        # Insertion order is nearly expiry order; what is stuck behind a long one goes a bit later.
        for ticket, held in list(islice(self._tickets.items(), FORGET_AT_ONCE)):
            if held.expires_s + REMEMBER_S < now_s:
                del self._tickets[ticket]
        while len(self._tickets) >= TICKETS_MAX:
            del self._tickets[next(iter(self._tickets))]
