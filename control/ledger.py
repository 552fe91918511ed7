"""What live calls want written: records, timelines and transcripts, many calls to a transaction.

A call's changes stay with the call until the store has them; a store that is away costs time, never a
record. One write is under way at a time, so columns of a call arrive in the order they changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import trio
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from control import failpoints, log
from control.calls import LiveCall, Pending
from control.store import Store, StoreError, StoreUnavailable, decisions, nodes
from control.store import calls as table
from control.store.records import CallRecord

FLUSH_EVERY_S = 0.5
BATCH_CALLS = 200
"""Calls in one transaction: others wait for it, the answer to a new call among them."""

Also = Callable[[Connection], None]
"""What else belongs into the same transaction; what it raises undoes all of it."""


class Ruling(NamedTuple):
    """A decision of the policy as it is kept."""

    phase: str
    tenant_id: str
    decision: dict[str, Any]
    at: datetime
    facts: dict[str, Any] | None = None
    """What the rules knew, for a replay: see `control.compliance.stored`."""


class Ledger:
    """Writes calls down. Raises StoreUnavailable where it says so, otherwise tries again later."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self._one_at_a_time = trio.Lock()

    async def open(
        self, call: LiveCall, record: CallRecord, ruling: Ruling, also: Also | None = None
    ) -> None:
        """The new call and the decision about it, in one transaction. Raises StoreUnavailable."""
        await self._store.write(_open, record, ruling, also)
        call.is_recorded = True

    async def decide(self, call: LiveCall, ruling: Ruling, also: Also | None = None) -> None:
        """A later decision, with whatever else waits for this call. Raises StoreUnavailable."""
        await self._save([call], ruling, also)

    async def save(self, calls: Iterable[LiveCall], also: Also | None = None) -> None:
        """Everything that waits for these calls, in one transaction. Raises StoreUnavailable."""
        await self._save(list(calls), None, also)

    async def flush(self, calls: Iterable[LiveCall]) -> None:
        """As much as can be written now; the rest waits. Raises nothing."""
        async with self._one_at_a_time:
            pass  # a write under way may give back what it could not write
        dirty = [call for call in calls if call.is_dirty and call.is_recorded]
        for start in range(0, len(dirty), BATCH_CALLS):
            batch = dirty[start : start + BATCH_CALLS]
            failpoints.reach("ledger.before_flush")
            try:
                await self._save(batch)
                failpoints.reach("ledger.flushed")
            except StoreUnavailable as error:
                log.event("store_unavailable", level="warning", calls=len(dirty), error=str(error))
                return
            except (StoreError, SQLAlchemyError):
                await self._save_one_by_one(batch)

    async def _save_one_by_one(self, calls: Sequence[LiveCall]) -> None:
        """One call of a batch cannot be written: the others shall not wait for it."""
        for call in calls:
            try:
                await self._save([call])
            except StoreUnavailable:
                return
            except (StoreError, SQLAlchemyError) as error:
                call.take()
                log.event("call_unwritable", level="error", call_id=call.id, error=str(error))

    async def _save(
        self,
        calls: Sequence[LiveCall],
        ruling: Ruling | None = None,
        also: Also | None = None,
    ) -> None:
        async with self._one_at_a_time:
            taken = [(call, call.take()) for call in calls if call.is_recorded]
            for call, _ in taken:
                call.writes += 1
            doubtful = frozenset(call.id for call, _ in taken if call.is_doubtful)
            try:
                batch = [pending for _, pending in taken]
                await self._store.write(_write, batch, ruling, also, self._node, doubtful)
            except BaseException:
                for call, pending in taken:
                    call.give_back(pending)
                raise
            else:
                for call, _ in taken:
                    call.is_doubtful = False
            finally:
                for call, _ in taken:
                    call.writes -= 1


def _open(conn: Connection, record: CallRecord, ruling: Ruling, also: Also | None) -> None:
    table.insert(conn, record)
    add(conn, record.id, ruling)
    if also is not None:
        also(conn)


def add(conn: Connection, call_id: str | None, ruling: Ruling) -> None:
    """Add a decision to its tenant's chain; `call_id` is None where there is no call (a check)."""
    decisions.append(
        conn,
        call_id,
        ruling.tenant_id,
        ruling.phase,
        ruling.decision,
        ruling.at,
        ruling.facts,
    )


def _write(
    conn: Connection,
    batch: Sequence[Pending],
    ruling: Ruling | None,
    also: Also | None,
    node: str,
    doubtful: frozenset[str],
) -> None:
    # A call that is dialled changes hands with its columns; any other is claimed before it is written.
    ours = [call_id for call_id, _, columns, *_ in batch if columns and "node" not in columns]
    lost = nodes.of_others(conn, ours, node) if ours else set()
    for call_id in lost:
        log.event("call_of_another_node", level="warning", call_id=call_id)
    table.apply(
        conn,
        [
            # What was said and done stays true; how the call stands the other node knows better.
            table.Changes(
                call_id,
                tenant_id,
                {} if call_id in lost else columns,
                table.unwritten(conn, call_id, lines) if call_id in doubtful else lines,
                turns,
            )
            for call_id, tenant_id, columns, lines, turns in batch
        ],
    )
    if ruling is not None:
        add(conn, batch[0].call_id, ruling)
    if also is not None:
        also(conn)
