"""Everything a rule may know about a call. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

Direction: TypeAlias = Literal["inbound", "outbound", "transfer"]
Phase: TypeAlias = Literal["accept", "dial", "answer", "check"]


@dataclass(frozen=True, slots=True)
class OptOut:
    """An entry of the tenant's own do-not-call list."""

    e164: str
    since: datetime
    source: str
    """Who took the request: `api`, `sms`, `spoken`, `dtmf`, `import`."""
    scope: str = "tenant"


@dataclass(frozen=True, slots=True)
class Facts:
    """One call at one instant.

    `phase`: the request is accepted, the dial request is about to leave, the call was answered, or somebody
    only asks. `at` is that instant, with a time zone; rules have no other clock. `opt_out` is None when
    the list was read and the number is not on it; when it could not be read, `store_readable` is False.

    Raises ValueError when `at` has no time zone.
    """

    direction: Direction
    phase: Phase
    tenant_id: str
    agent_id: str
    from_number: str
    to_number: str
    at: datetime
    channel: str = "voice"
    opt_out: OptOut | None = None
    store_readable: bool = True

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError("Facts.at needs a time zone")

    @property
    def customer_number(self) -> str:
        """The number on the other side: who is called, or who calls us."""
        return self.from_number if self.direction == "inbound" else self.to_number
