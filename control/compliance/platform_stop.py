"""The kill switch of the whole platform: while it is on, nothing is dialled or texted for anybody.

It is no setting but the newest line of a chain of its own in the ledger: who turned it, when and why is kept with what it
is, survives every restart, holds for all daemons on the store at once, and `tandem ledger verify` finds an edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from control.store import decisions

CHAIN = "platform"
"""Where a tenant's id stands in other lines of the ledger; no tenant's id is like it."""
PHASE = "stop"


@dataclass(frozen=True, slots=True)
class PlatformStop:
    """How the switch stands. `at` None: nobody ever turned it."""

    is_stopped: bool
    reason: str | None = None
    by: str | None = None
    at: datetime | None = None


def read(conn: Connection) -> PlatformStop:
    """As it stands now."""
    newest = decisions.newest(conn, CHAIN)
    if newest is None:
        return PlatformStop(is_stopped=False)
    line = newest.decision
    return PlatformStop(line["outcome"] == PHASE, line["reason"], line["by"], newest.at)


def turn(conn: Connection, *, is_stopped: bool, reason: str, by: str, now: datetime) -> None:
    """One more line; in force from its commit on."""
    line = {
        "outcome": PHASE if is_stopped else "resume",
        "reason": reason,
        "by": by,
        "at": now.astimezone(UTC).isoformat(),
    }
    decisions.append(conn, None, CHAIN, PHASE, line, now)
