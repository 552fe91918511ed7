"""A call that <Dial> has made out of another one: a Call resource with a `parent_call_sid`.

Source: Twilio, "Call resource": `direction` is `outbound-dial`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from bench.sim_twilio.account import new_sid

if TYPE_CHECKING:
    from bench.sim_twilio.call import SimCall

OVER = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})


class ChildCall:
    """Its attributes are those that `account.call_resource` shows."""

    direction = "outbound-dial"
    phone_number_sid = None
    answered_by = None
    queue_time_ms = 0

    def __init__(self, parent: SimCall, to_number: str, now: datetime) -> None:
        self.sid = new_sid("CA")
        self.parent_call_sid = parent.sid
        self.account_sid = parent.account_sid
        self.from_number = parent.from_number
        self.to_number = to_number
        self.status = "queued"
        self.created_at = now
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None

    def becomes(self, status: str, now: datetime) -> None:
        """Another status, at this moment."""
        self.status = status
        if status == "in-progress":
            self.started_at = now
        if status in OVER:
            self.ended_at = now

    @property
    def duration_s(self) -> int:
        """Whole seconds from answer to end; 0 when never answered."""
        if self.started_at is None or self.ended_at is None:
            return 0
        return round((self.ended_at - self.started_at).total_seconds())
