"""Records of calls that ended while the store was away: on the disk until the store has them.

One JSON line for a call, appended and synced; a later line of the same call stands for it. What is read at the next
start is applied to calls that the store does not know to have ended, and then the file goes. It lies in the runtime
directory beside what workers leave there (`gateway.lifeline`): mostly another file system than the store's, which may
be the one that is full. Only its owner reads it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import trio
from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from control import failpoints, log
from control.calls import LiveCall, Pending
from control.store import Store, StoreError, StoreUnavailable
from control.store import calls as table
from control.store.records import TurnRecord
from control.store.tables.core import UtcDateTime
from control.store.tables.core import calls as call_table

NAME = "records.journal"
WHOLE_MAX_BYTES = 64 * 1024 * 1024
"""Of the file: above it a call's timeline and turns are left out; how it ended never is."""
CALLS_MAX = 10_000
"""More than can have been live: nobody is let in while the store is away. The newest of more stay in memory."""

_INSTANTS = frozenset(
    column.name for column in call_table.columns if isinstance(column.type, UtcDateTime)
)


class Journal:
    """One per daemon. `folder` None: there is none, and nothing is kept.

    Instances share a folder; each has a file of its own, named by `node`, and finds it again after a restart.
    """

    def __init__(self, folder: Path | None, node: str = "") -> None:
        own = f"{hashlib.sha256(node.encode()).hexdigest()[:12]}-{NAME}" if node else NAME
        self._path = None if folder is None else folder / own
        self._kept: dict[str, int] = {}
        """What the file says of a call, by its id: a hash."""
        self._is_full = False
        self._is_unread = False
        """What a former process left could not be written: it stays for the next one."""

    async def keep(self, calls: Iterable[LiveCall]) -> None:
        """Have on the disk what waits for the store of calls that have ended. Raises nothing of the disk's."""
        ended = [call for call in calls if call.closing and call.is_recorded and call.is_dirty]
        if self._path is None:
            return
        if not ended:
            await self.clear()
            return
        news: dict[str, tuple[int, Pending]] = {}
        for call in ended:
            size = (len(call.lines), len(call.turns))
            said = hash((orjson.dumps(call.columns, option=orjson.OPT_NON_STR_KEYS), size))
            if self._kept.get(call.id) == said:
                continue
            if call.id not in self._kept and len(self._kept) + len(news) >= CALLS_MAX:
                self._tell_full(len(ended))
                continue
            lines, turns = list(call.lines), dict(call.turns)
            pending = Pending(call.id, call.tenant_id, dict(call.columns), lines, turns)
            news[call.id] = (said, pending)
        if not news:
            return
        try:
            await trio.to_thread.run_sync(_append, self._path, [one for _, one in news.values()])
        except OSError as error:
            log.event("journal_unwritable", level="error", calls=len(news), error=str(error))
            return
        log.event("records_on_disk", level="warning", calls=len(news))
        self._kept |= {call_id: said for call_id, (said, _) in news.items()}
        failpoints.reach("journal.kept")

    async def clear(self) -> None:
        """The store has everything."""
        if self._path is None or not self._kept:
            return
        self._kept.clear()
        self._is_full = False
        if not self._is_unread:
            await trio.to_thread.run_sync(lambda path: path.unlink(missing_ok=True), self._path)

    async def replay(self, store: Store) -> None:
        """What a former process has left, into the store. Before anybody asks what became of those calls."""
        if self._path is None or not self._path.exists():
            return
        try:
            found = await trio.to_thread.run_sync(_read, self._path)
        except OSError as error:
            log.event("journal_unreadable", level="error", error=str(error))
            self._is_unread = True
            return
        written = 0
        for changes in found:
            try:
                written += await store.write(_apply, changes)
            except StoreUnavailable as error:
                log.event("journal_waits", level="error", error=str(error))
                self._is_unread = True
                return
            except (StoreError, SQLAlchemyError) as error:
                log.event(
                    "call_unwritable", level="error", call_id=changes.call_id, error=str(error)
                )
        log.event("journal_replayed", calls=len(found), written=written)
        self._path.unlink(missing_ok=True)

    def _tell_full(self, calls: int) -> None:
        if not self._is_full:
            self._is_full = True
            log.event("journal_full", level="error", calls=calls)


def _append(path: Path, entries: list[Pending]) -> None:
    """On the disk when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        size = os.fstat(descriptor).st_size
        if size:
            file.write(b"\n")  # whatever a full disk has cut off ends here
        for pending in entries:
            line = _line(pending, is_whole=True)
            if size + len(line) > WHOLE_MAX_BYTES:
                line = _line(pending, is_whole=False)
            size += file.write(line)
        file.flush()
        os.fsync(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _line(pending: Pending, *, is_whole: bool) -> bytes:
    turns = {
        str(number): {
            "role": turn.role,
            "text": turn.text,
            "at_ms": turn.at_ms,
            "heard": turn.heard,
            "interrupted": turn.interrupted,
        }
        for number, turn in pending.turns.items()
    }
    shown = {
        "call_id": pending.call_id,
        "tenant_id": pending.tenant_id,
        "columns": pending.columns,
        "lines": pending.lines if is_whole else [],
        "turns": turns if is_whole else {},
    }
    return orjson.dumps(shown, option=orjson.OPT_NON_STR_KEYS) + b"\n"


def _read(path: Path) -> list[table.Changes]:
    """The newest of each call, in the order in which they came. Raises OSError."""
    found: dict[str, table.Changes] = {}
    for line in path.read_bytes().splitlines():
        if not line:
            continue
        try:
            changes = _changes(orjson.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.event("journal_line_unreadable", level="error", error=type(error).__name__)
            continue
        found[changes.call_id] = changes
    return list(found.values())


def _changes(shown: Mapping[str, Any]) -> table.Changes:
    """Raises ValueError, KeyError, TypeError, AttributeError for what is none of ours."""
    columns = {
        name: datetime.fromisoformat(value) if name in _INSTANTS and value is not None else value
        for name, value in shown["columns"].items()
        if name in call_table.c
    }
    turns = {
        int(number): TurnRecord(
            int(number), one["role"], one["text"], one["at_ms"], one["heard"], one["interrupted"]
        )
        for number, one in shown["turns"].items()
    }
    lines = [(str(name), int(at_ms), dict(data)) for name, at_ms, data in shown["lines"]]
    return table.Changes(str(shown["call_id"]), str(shown["tenant_id"]), columns, lines, turns)


def _apply(conn: Connection, changes: table.Changes) -> bool:
    """False for a call that has ended meanwhile: the store had it, or another daemon found out."""
    mine = (call_table.c.id == changes.call_id) & call_table.c.ended_at.is_(None)
    if conn.execute(select(call_table.c.id).where(mine).with_for_update()).first() is None:
        return False
    lines = table.unwritten(conn, changes.call_id, changes.lines)
    table.apply(
        conn,
        [table.Changes(changes.call_id, changes.tenant_id, changes.columns, lines, changes.turns)],
    )
    return True
