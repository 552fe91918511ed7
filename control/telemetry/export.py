"""From calls that are over to the collector: a bounded queue, batches, deadlines, and no more than a few tries.

OpenTelemetry's own SDK is not used: it makes spans while something happens, and sends them from a thread of its own;
here they are made afterwards, and sent from a task that ends with the daemon. What is left is one JSON document.
Traces may be lost (a restart, a collector that is away): records are not, and are the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import orjson
import trio
from sqlalchemy import Connection

from control import log
from control.store import Store, StoreUnavailable, calls
from control.telemetry.otlp import PATH, traces
from control.telemetry.spans import Span, spans_of

QUEUE_MAX = 1_000
"""Calls that wait; a later one is dropped."""
BATCH_CALLS = 50
DEADLINE_S = 10.0
RETRY_S = (1.0, 5.0, 25.0)
"""Waits between tries of a batch; after them it is dropped."""
AGAIN = frozenset((429, 502, 503, 504))
"""OTLP/HTTP, "Retryable Response Codes"."""
_LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))


class Settings(Protocol):
    """What is used of `control.config.TelemetrySettings`."""

    @property
    def otlp_endpoint(self) -> str: ...

    def headers(self) -> dict[str, str]: ...


class Telemetry:
    """One per daemon. `count(outcome)` once a call: `exported`, `failed`, `dropped`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        version: str,
        node: str,
        count: Callable[[str], None] = lambda outcome: None,
        retry_s: Sequence[float] = RETRY_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._version = version
        self._node = node
        self._count = count
        self._retry_s = tuple(retry_s)
        self._transport = transport
        self._put, self._queue = trio.open_memory_channel[str](QUEUE_MAX)

    def call_over(self, call_id: str) -> None:
        """Nothing more will be found out about this call. Never waits."""
        if not self._settings.otlp_endpoint:
            return
        try:
            self._put.send_nowait(call_id)
        except trio.WouldBlock:
            self._count("dropped")

    async def run(self) -> None:
        """Until cancelled; at once where no endpoint is configured."""
        endpoint = self._settings.otlp_endpoint
        if not endpoint:
            return
        async with httpx.AsyncClient(
            base_url=endpoint,
            headers={"Content-Type": "application/json", **self._settings.headers()},
            timeout=DEADLINE_S,
            follow_redirects=False,
            trust_env=urlsplit(endpoint).hostname not in _LOOPBACK,
            transport=self._transport,
        ) as client:
            while True:
                batch = [await self._queue.receive()]
                while len(batch) < BATCH_CALLS:
                    try:
                        batch.append(self._queue.receive_nowait())
                    except trio.WouldBlock:
                        break
                await self._export(client, batch)

    async def _export(self, client: httpx.AsyncClient, batch: list[str]) -> None:
        try:
            spans = await self._store.read(_spans, batch)
        except StoreUnavailable as error:
            self._failed(batch, str(error))
            return
        body = orjson.dumps(traces(spans, version=self._version, node=self._node))
        problem = ""
        for wait_s in (0.0, *self._retry_s):
            await trio.sleep(wait_s)
            try:
                with trio.fail_after(DEADLINE_S):
                    answer = await client.post(PATH, content=body)
            except (httpx.HTTPError, trio.TooSlowError) as error:
                problem = type(error).__name__
                continue
            if answer.is_success:
                for _ in batch:
                    self._count("exported")
                return
            problem = f"HTTP {answer.status_code}"
            if answer.status_code not in AGAIN:
                break
        self._failed(batch, problem)

    def _failed(self, batch: list[str], problem: str) -> None:
        for _ in batch:
            self._count("failed")
        log.event("telemetry_failed", level="warning", calls=len(batch), error=problem)


def _spans(conn: Connection, call_ids: list[str]) -> list[Span]:
    found: list[Span] = []
    for call_id in call_ids:
        record = calls.get(conn, call_id)
        if record is not None:
            found += spans_of(record, calls.events(conn, call_id), calls.turns(conn, call_id))
    return found
