"""Retention: the sweep, requests to erase, and ElevenLabs' copy.

Texts and numbers lie in the store, so any daemon may erase them: the one that has the lease sweeps. A recording lies
on the disk of the daemon that carried the call, so each daemon looks for its own. Everything is a transaction of its
own with its proof; a daemon that is killed leaves the rest to the next sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import trio
from sqlalchemy import Connection

from control import failpoints, log
from control.elevenlabs.rest import ElevenLabsError, ElevenLabsRefused
from control.outbox import Outbox, OutboxItem, TryAgain, steps
from control.retention import due, erase, files
from control.retention.periods import NUMBERS, RECORDINGS, TRANSCRIPTS, Periods, periods_of
from control.store import Store, StoreUnavailable, calls, idempotency, leases, tenants
from control.store.records import CallRecord, TenantRecord

SWEEP_EVERY_S = 600.0
ASKED_EVERY_S = 10.0
"""How soon a request is gone on with that another daemon, or a former process, has taken."""
SETTLE = timedelta(seconds=30)
"""After the end of a call something of it may still be on its way to the store, and would come back: a worker's last
words may take `control.ending.REPORT_DEADLINE_S`."""
LEASE_NAME = "retention"
LEASE = timedelta(seconds=60)
BATCH = 50
PAUSE_S = 0.01
"""Between two transactions: SQLite has one writer, and live calls go first."""
RETRY_S = (5.0, 60.0, 600.0, 3600.0)
NOT_FOUND = 404

Erase = Callable[[Connection, str, str, datetime], bool]
Page = Callable[[Connection, "due.Place | None"], list[due.Place]]
"""What is due behind a place."""
OF_CALLS: dict[str, Erase] = {TRANSCRIPTS: erase.texts, NUMBERS: erase.numbers}
OF_MESSAGES: dict[str, Erase] = {TRANSCRIPTS: erase.message_texts, NUMBERS: erase.message_numbers}


class Clock(Protocol):
    def now(self) -> datetime: ...


class Copies(Protocol):
    """What is used of `control.results.source.Conversations`."""

    async def delete_conversation(self, conversation_id: str) -> None: ...
    async def find_conversations(self, variable: str, value: str) -> list[str]: ...


class Retention:
    """One per daemon. `node` is this daemon's name, as in the records of its calls."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        copies: Copies,
        *,
        node: str,
        recording_dir: str,
        of_all: Periods,
        count: Callable[[str], None] = lambda what: None,
        sweep_every_s: float = SWEEP_EVERY_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._copies = copies
        self._node = node
        self._recording_dir = recording_dir
        self._of_all = of_all
        self._count = count
        self._sweep_every_s = sweep_every_s

    def register(self, outbox: Outbox) -> None:
        """Take the outbox's items of our kind."""
        again = steps(*RETRY_S, forever=True)
        outbox.handle(erase.AT_ELEVENLABS, self.at_elevenlabs, schedule=again, at_once=2)

    async def run(self) -> None:
        """Until cancelled."""
        next_sweep_s = -math.inf
        while True:
            try:
                await self.asked()
                if trio.current_time() >= next_sweep_s:
                    await self.sweep()
                    next_sweep_s = trio.current_time() + self._sweep_every_s
            except StoreUnavailable as error:
                log.event("retention_waits", level="warning", error=str(error))
            await trio.sleep(min(ASKED_EVERY_S, self._sweep_every_s))

    # ---- by period -----------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Erase what is older than its tenant's periods say; how many things. Raises StoreUnavailable."""
        done = 0
        everybody = await self._store.read(_all_tenants)
        is_leased = await self._lease()
        if is_leased:
            before = self._clock.now() - idempotency.KEEP
            await self._store.write(idempotency.purge, before)
        for tenant in everybody:
            for kind, days, before in periods_of(tenant.retention, self._of_all).due(
                self._clock.now()
            ):
                rule = f"retention.{kind}_days={days}"
                if kind == RECORDINGS:
                    page = partial(_calls_of, kind, tenant.id, before)
                    done += await self._files(rule, page)
                elif is_leased:
                    done += await self._texts_or_numbers(rule, kind, tenant.id, before)
        if is_leased:
            await self._store.write(leases.give_back, LEASE_NAME, self._node)
        if done:
            log.event("retention_swept", erased=done)
        return done

    async def _texts_or_numbers(
        self, rule: str, kind: str, tenant_id: str, before: datetime
    ) -> int:
        of_calls = partial(_calls_of, kind, tenant_id, before)
        of_messages = partial(_messages_of, kind, tenant_id, before)
        done = await self._each(OF_CALLS[kind], rule, kind, of_calls)
        done += await self._each(OF_MESSAGES[kind], rule, kind, of_messages)
        if kind == TRANSCRIPTS:
            while ids := await self._store.read(due.strays, tenant_id, before, BATCH):
                for conversation_id in ids:
                    done += await self._erase(erase.stray, conversation_id, rule, kind)
                if not await self._lease():
                    break
        return done

    async def _each(self, does: Erase, rule: str, kind: str, due_behind: Page) -> int:
        """Page by page; stops where the lease is lost."""
        done, after = 0, None
        while page := await self._store.read(due_behind, after):
            if not await self._lease():
                break
            for _, key in page:
                done += await self._erase(does, key, rule, kind)
            after = page[-1]
        return done

    async def _erase(self, does: Erase, key: str, rule: str, kind: str) -> int:
        if not await self._store.write(does, key, rule, self._clock.now()):
            return 0
        failpoints.reach("retention.erased")
        self._count(kind)
        await trio.sleep(PAUSE_S)
        return 1

    async def _lease(self) -> bool:
        now = self._clock.now()
        return await self._store.write(leases.take, LEASE_NAME, self._node, now, now + LEASE)

    # ---- recordings ----------------------------------------------------------------------------

    async def _files(self, rule: str, due_behind: Page) -> int:
        done, after = 0, None
        while page := await self._store.read(due_behind, after):
            for _, call_id in page:
                record = await self._store.read(calls.get, call_id)
                if record is not None:
                    done += await self._file(record, rule)
            after = page[-1]
        return done

    async def _file(self, record: CallRecord, rule: str) -> int:
        """0 for a recording that another daemon has on its disk, or that cannot be deleted now."""
        paths = await trio.to_thread.run_sync(files.paths_of, record, self._recording_dir)
        noted: dict[str, str] = dict((record.recording or {}).get(erase.ERASING) or {})
        if not paths and not noted and record.node not in (None, self._node):
            return 0
        try:
            found = noted | await trio.to_thread.run_sync(files.digests, paths)
            if found != noted:
                await self._store.write(erase.note_hashes, record.id, found)
            failpoints.reach("retention.hashed")
            await trio.to_thread.run_sync(files.delete, paths)
        except OSError as error:
            log.event("recording_not_erased", level="error", call_id=record.id, error=str(error))
            return 0
        failpoints.reach("retention.deleted")
        now = self._clock.now()
        if not await self._store.write(erase.recording, record.id, rule, now, found):
            return 0
        self._count(RECORDINGS)
        return 1

    # ---- at somebody's request -----------------------------------------------------------------

    async def erase_call(self, call_id: str, by: str) -> CallRecord | None:
        """Erase everything of a call that has ended; its record then. None while it has not ended.

        What cannot be erased here and now (a call that has only just ended, a recording on another daemon's disk, a
        message under way) stays asked for, and is erased later, or there. Raises StoreUnavailable.
        """
        record = await self._store.write(erase.ask, call_id, by, self._clock.now())
        if record is None:
            return None
        await self._everything(record)
        return await self._store.read(calls.get, call_id)

    async def _everything(self, record: CallRecord) -> None:
        for kind in (TRANSCRIPTS, NUMBERS, RECORDINGS):
            await self._asked(record, kind)

    async def _asked(self, record: CallRecord, kind: str) -> None:
        if record.ended_at is None or self._clock.now() - record.ended_at < SETTLE:
            return
        rule = f"asked for by {record.erase_asked_by}"
        if kind != RECORDINGS:
            await self._erase(OF_CALLS[kind], record.id, rule, kind)
        elif record.recording is not None and record.recording_erased_at is None:
            await self._file(record, rule)

    async def asked(self) -> None:
        """Go on with what was asked for and is not done. Raises StoreUnavailable."""
        for kind in (TRANSCRIPTS, NUMBERS, RECORDINGS):
            after = None
            while page := await self._store.read(due.asked, kind, after, BATCH):
                for _, call_id in page:
                    record = await self._store.read(calls.get, call_id)
                    if record is not None:
                        await self._asked(record, kind)
                after = page[-1]
        for kind, does in OF_MESSAGES.items():
            after = None
            while page := await self._store.read(due.asked_messages, kind, after, BATCH):
                for _, message_id in page:
                    await self._erase(does, message_id, "asked for with its call", kind)
                after = page[-1]

    # ---- ElevenLabs ----------------------------------------------------------------------------

    async def at_elevenlabs(self, item: OutboxItem) -> None:
        """Have every conversation of the call deleted there. Raises TryAgain until that is certain."""
        ids = [str(one) for one in item.payload.get("conversation_ids") or ()]
        try:
            found = await self._copies.find_conversations("gw_call_id", item.key)
            ids += [one for one in found if one not in ids]
            for conversation_id in ids:
                await self._delete(conversation_id)
        except ElevenLabsError as error:
            raise TryAgain(str(error)) from error
        now = self._clock.now()
        await self._store.write(erase.gone_at_elevenlabs, item.key, ids, now)

    async def _delete(self, conversation_id: str) -> None:
        try:
            await self._copies.delete_conversation(conversation_id)
        except ElevenLabsRefused as refusal:
            if refusal.status != NOT_FOUND:
                raise


def _calls_of(
    kind: str, tenant_id: str, before: datetime, conn: Connection, after: due.Place | None
) -> list[due.Place]:
    return due.calls_of(conn, kind, tenant_id, before, after, BATCH)


def _messages_of(
    kind: str, tenant_id: str, before: datetime, conn: Connection, after: due.Place | None
) -> list[due.Place]:
    return due.messages_of(conn, kind, tenant_id, before, after, BATCH)


def _all_tenants(conn: Connection) -> Sequence[TenantRecord]:
    found: list[TenantRecord] = []
    cursor: str | None = None
    while True:
        page, cursor = tenants.list_tenants(conn, limit=500, cursor=cursor)
        found += page
        if cursor is None:
            return found
