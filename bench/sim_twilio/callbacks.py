"""Status callbacks of one call: queued here, delivered beside the call, in order or in disorder.

Twilio promises neither order nor uniqueness. `Delivery` says how badly this simulator treats both; by
default it is kind.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from uuid import uuid4

import trio

from bench.sim_twilio.webhooks import Params, Reply, Webhooks

QUEUE_MAX = 256
"""Callbacks of one call that wait for delivery; a call has a handful."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How status callbacks are delivered."""

    duplicates: int = 0
    """Extra copies of each."""
    shuffled: bool = False
    """Each goes out after a random part of `spread_s`, so the order of arrival is any."""
    spread_s: float = 0.5
    late_s: float = 0.0
    """Each goes out so much later."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Callback:
    """One status callback to deliver."""

    url: str
    method: str
    params: Params


class CallbackQueue:
    """The callbacks of one call. `close` when the call is over; `delivered` is set after the last."""

    def __init__(self, call_sid: str, delivery: Delivery) -> None:
        self.delivered = trio.Event()
        self.refused: list[Reply] = []
        self._call_sid = call_sid
        self._delivery = delivery
        self._send, self._receive = trio.open_memory_channel[Callback](QUEUE_MAX)

    def put(self, url: str, method: str, params: Params) -> None:
        """Queue one, unless no URL is set. Raises: trio.WouldBlock beyond `QUEUE_MAX`."""
        if url:
            self._send.send_nowait(Callback(url, method, params))

    def close(self) -> None:
        """No more will come."""
        self._send.close()

    async def deliver(self, webhooks: Webhooks) -> None:
        """Deliver until closed and empty."""
        dice = random.Random(f"{self._delivery.seed}{self._call_sid}")
        async with trio.open_nursery() as nursery:
            async with self._receive:
                async for callback in self._receive:
                    if self._delivery.shuffled:
                        delay_s = self._delivery.late_s + dice.uniform(0, self._delivery.spread_s)
                        nursery.start_soon(self._deliver, webhooks, callback, delay_s)
                    else:
                        await self._deliver(webhooks, callback, self._delivery.late_s)
        self.delivered.set()

    async def _deliver(self, webhooks: Webhooks, callback: Callback, delay_s: float) -> None:
        await trio.sleep(delay_s)
        token = str(uuid4())
        for _ in range(1 + self._delivery.duplicates):
            reply = await webhooks.request(
                callback.url,
                callback.method,
                callback.params,
                call_sid=self._call_sid,
                token=token,
            )
            if reply.outcome != "2xx":
                self.refused.append(reply)
