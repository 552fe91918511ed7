"""What is committed with the decision to dial: the step of the row, and the attempt that it uses up."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from control.compliance import counters
from control.store import consents
from control.store import dialing as queue
from control.store.errors import StoreError
from control.verdict import Verdict

SHORT_WAIT = timedelta(seconds=2)
"""A rule that defers by no more is waited for in place: it paces, it does not refuse."""


class Overtaken(StoreError):
    """Another call to the number took an attempt while this one was decided: ask again."""


def reserve(conn: Connection, *, call_id: str, owner: str, at: datetime, decided: Verdict) -> None:
    """Runs behind the lock of the tenant's chain of decisions, so that two calls cannot use up one slot.

    Raises Overtaken, LeaseLost; then nothing of the transaction stands, and Twilio must not be asked.
    """
    if decided.known is not None and not counters.are_still(conn, decided.known, call_id):
        raise Overtaken(f"{call_id}: an attempt was made meanwhile")
    queue.mark_sent(conn, call_id, owner, at)
    consents.used(conn, relied_on(decided), at)


def relied_on(decided: Verdict) -> list[str]:
    """Ids of the consents by which the rules allowed it: they are kept from their last use on."""
    found: list[str] = []
    for rule in decided.decision.get("rules", ()):
        if rule["id"] == "CON-SCOPE" and rule["outcome"] == "allow":
            found += [one for one in (rule["inputs"].get("consent"),) if one]
    return found


def short_wait_s(decided: Verdict, now: datetime) -> float | None:
    """Seconds until a rule that only paces allows it; None when it is another decision."""
    retry_at = decided.decision.get("retry_at")
    if decided.decision.get("outcome") != "defer" or not isinstance(retry_at, str):
        return None
    wait = datetime.fromisoformat(retry_at) - now
    return max(wait.total_seconds(), 0.0) if wait <= SHORT_WAIT else None
