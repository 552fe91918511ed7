"""Requests under way, by the credentials that they were sent with: which ones a revocation would still hit."""

from __future__ import annotations

import threading
from collections import Counter

import trio


class Flights:
    """Counts requests by generation. `take_off` and `turn` are for Trio's thread, `land` for any."""

    def __init__(self) -> None:
        self._generation = 0
        self._under_way: Counter[int] = Counter()
        self._landed: set[trio.Event] = set()
        self._lock = threading.Lock()

    def take_off(self) -> Flight:
        """A request begins, with the credentials in force."""
        with self._lock:
            self._under_way[self._generation] += 1
        return Flight(self, self._generation, trio.lowlevel.current_trio_token())

    def turn(self) -> int:
        """From now on other credentials are in force; the generation that ends."""
        self._generation += 1
        return self._generation - 1

    async def landed(self, generation: int) -> None:
        """Wait until every request up to `generation` is over."""
        while self._up_to(generation):
            event = trio.Event()
            self._landed.add(event)
            try:
                if self._up_to(generation):
                    await event.wait()
            finally:
                self._landed.discard(event)

    def _up_to(self, generation: int) -> int:
        with self._lock:
            return sum(n for one, n in self._under_way.items() if one <= generation)

    def _land(self, flight: Flight) -> None:
        with self._lock:
            if flight.is_over:
                return
            flight.is_over = True
            self._under_way[flight.generation] -= 1
            if not self._under_way[flight.generation]:
                del self._under_way[flight.generation]
        try:
            flight.token.run_sync_soon(self._tell)
        except trio.RunFinishedError:  # a thread that outlived the daemon's loop
            return

    def _tell(self) -> None:
        for event in self._landed:
            event.set()


class Flight:
    """One request."""

    __slots__ = ("_flights", "generation", "is_over", "token")

    def __init__(self, flights: Flights, generation: int, token: trio.lowlevel.TrioToken) -> None:
        self._flights = flights
        self.generation = generation
        self.token = token
        self.is_over = False

    def land(self) -> None:
        """It is over. May be said twice."""
        self._flights._land(self)
