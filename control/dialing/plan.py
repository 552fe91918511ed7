"""When a call is due, and until when it is worth trying. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

HORIZON = timedelta(days=7)
"""How long a call that may be put off is tried, from the moment it was wanted."""
IMPATIENT_HORIZON = timedelta(hours=24)
"""How long a call that was wanted at once may wait behind others; Twilio's own queue ends there too."""
AHEAD_MAX = timedelta(days=90)
"""How far ahead a call may be ordered."""
BACKOFF_FIRST_S = 2.0
BACKOFF_MAX_S = 300.0

NOT_BEFORE = "not_before"
POLICY = "policy"
TURN = "turn"
TWILIO = "twilio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody asks for. `may_be_put_off`: policy may move the call to a later time."""

    agent_id: str
    to: str
    tenant_id: str | None = None
    """Of the one who asks; None = may use everybody's agents."""
    variables: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None
    may_be_put_off: bool = False
    machine_detection: dict[str, Any] | None = None


class Plan(NamedTuple):
    """`is_patient`: a provider that is away, or policy, may put the call off until `give_up_at`."""

    due_at: datetime
    give_up_at: datetime
    waiting_for: str
    is_patient: bool


def plan(order: Order, decision: Mapping[str, Any], now: datetime) -> Plan | None:
    """When to dial what was decided so; None when it is refused.

    A `defer` counts as a refusal unless the order may be put off, and when policy names no moment within
    the horizon at which the call would be permitted.
    """
    wanted_at = max(order.not_before or now, now)
    is_patient = order.may_be_put_off or order.not_before is not None
    give_up_at = wanted_at + (HORIZON if is_patient else IMPATIENT_HORIZON)
    if decision.get("allowed"):
        waiting_for = TURN if wanted_at <= now else NOT_BEFORE
        return Plan(wanted_at, give_up_at, waiting_for, is_patient)
    retry_at = put_off_until(decision, give_up_at) if order.may_be_put_off else None
    if retry_at is None:
        return None
    return Plan(max(retry_at, wanted_at), give_up_at, POLICY, is_patient)


def put_off_until(decision: Mapping[str, Any], give_up_at: datetime) -> datetime | None:
    """The moment to which a decision defers; None when it denies, names none, or one that is too late."""
    text = decision.get("retry_at")
    if decision.get("outcome") != "defer" or not isinstance(text, str):
        return None
    retry_at = datetime.fromisoformat(text)
    return retry_at if retry_at <= give_up_at else None


def backoff(attempts: int) -> timedelta:
    """How long to leave a provider alone that has done nothing for `attempts` times (0 = once)."""
    return timedelta(seconds=min(BACKOFF_FIRST_S * 2 ** min(attempts, 20), BACKOFF_MAX_S))
