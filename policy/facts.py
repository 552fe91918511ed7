"""Everything a rule may know about a call or a message. Pure values.

`None` means *not known*, and a rule that needs what is not known refuses and names the field. "Read, and there
is nothing" is an empty tuple, `False` or a zero. Counters and histories never include the attempt that is
being judged. The parts are in `policy.facts_parts`; all of them can be imported from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from policy.facts_parts import (
    AgentFacts,
    Attempt,
    Clock,
    Consent,
    Hours,
    Inbound,
    ListEntry,
    Location,
    OptOut,
    PrefixRisk,
    ProviderPermission,
    Purpose,
    ReassignedAnswer,
    Revocation,
    Script,
    Sms,
    Spend,
    TenantFacts,
    Traffic,
    Usage,
)
from policy.switches import EMERGENCY_CALLS

Direction: TypeAlias = Literal["inbound", "outbound", "transfer"]
Phase: TypeAlias = Literal["accept", "dial", "answer", "check"]
Channel: TypeAlias = Literal["voice", "sms"]

__all__ = [
    "AgentFacts",
    "Attempt",
    "Channel",
    "Clock",
    "Consent",
    "Direction",
    "Facts",
    "Hours",
    "Inbound",
    "ListEntry",
    "Location",
    "OptOut",
    "Phase",
    "PrefixRisk",
    "ProviderPermission",
    "Purpose",
    "ReassignedAnswer",
    "Revocation",
    "Script",
    "Sms",
    "Spend",
    "TenantFacts",
    "Traffic",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class Facts:
    """One call or message at one instant.

    `phase`: the request is accepted, the dial request is about to leave, the call was answered, or somebody
    only asks. `at` is that instant, with a time zone; rules have no other clock. `opt_out` is None when
    the list was read and the number is not on it; when it could not be read, `store_readable` is False.

    Raises ValueError when a time has no time zone.
    """

    direction: Direction
    phase: Phase
    tenant_id: str
    agent_id: str
    from_number: str
    to_number: str
    at: datetime
    channel: Channel = "voice"
    opt_out: OptOut | None = None
    store_readable: bool = True

    read_at: datetime | None = None
    """When the facts were read; None: at `at`. The engine looks ahead by moving `at` and keeping this."""
    purpose: Purpose | None = None
    """None, unknown or mixed is judged as `marketing`."""
    subject: str | None = None
    """What the call is about (a campaign, a product): caps of some states count per subject. None: all."""
    debt_id: str | None = None
    """With `debt_collection`: which debt."""

    clock: Clock | None = None
    tenant: TenantFacts | None = None
    agent: AgentFacts | None = None

    from_number_owned: bool | None = None
    """`from_number` is an active number of this tenant's subaccount that can carry `channel`."""
    to_number_is_ours: bool | None = None
    """The destination is a number of ours or of the tenant: a loop."""
    line_type: Literal["landline", "mobile", "voip"] | None = None
    """From a carrier lookup; None when nobody looked."""
    location: Location = field(default_factory=Location)
    """Where the customer is, as far as somebody said so."""

    consents: tuple[Consent, ...] | None = None
    """Every consent of this tenant for the customer's number, revoked and expired ones included."""
    revocations: tuple[Revocation, ...] | None = None
    """Every stop request of this number to this tenant, by any means."""
    platform_block: ListEntry | None = None
    """The platform-wide block list (legal threats, wrong numbers, abuse), read for this number."""
    dnc_national: ListEntry | None = None
    dnc_states: tuple[ListEntry, ...] | None = None
    """One entry per state list that the tenant holds, listed or not; `ListEntry.list_id` is the state."""
    reassigned: ReassignedAnswer | None = None
    """The newest answer of the reassigned-numbers database; None: never asked."""

    attempts: tuple[Attempt, ...] | None = None
    """Attempts of this tenant to this number in the last 35 days, voice and SMS, oldest first."""
    in_flight: int | None = None
    """Other calls of this tenant to this number that are queued or live now."""
    usage: Usage | None = None
    """The tenant's outbound traffic of the last hour: velocity, concurrency, starts per second."""
    spend: Spend | None = None
    traffic: Traffic | None = None
    """Health figures over the last 100 calls and 24 h. None denies marketing; informational passes."""
    prefix_risk: PrefixRisk | None = None
    """The refreshed deny list of prefixes; None: only the list of the rule pack is used."""
    provider_permission: ProviderPermission | None = None
    """What the provider's dialing permissions say about the destination's region, as read back."""

    queue_wait_s: float = 0.0
    """How long our own queue is expected to hold this call before it rings; part of the margin."""
    transfer_target_listed: bool | None = None
    """With `transfer`: the destination is on the agent's configured list."""

    sms: Sms | None = None
    inbound: Inbound | None = None

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError("Facts.at needs a time zone")
        if self.read_at is not None and self.read_at.tzinfo is None:
            raise ValueError("Facts.read_at needs a time zone")

    @property
    def customer_number(self) -> str:
        """The number on the other side: who is called, or who calls us."""
        return self.from_number if self.direction == "inbound" else self.to_number

    @property
    def known_at(self) -> datetime:
        """The instant that counters and lists speak of."""
        return self.read_at or self.at

    @property
    def seller(self) -> str | None:
        """The legal name under which the tenant calls."""
        return self.tenant.seller if self.tenant is not None else None

    @property
    def judged_purpose(self) -> Purpose:
        """An unknown purpose is marketing, the strictest; and so is an emergency that no operator vouched for."""
        if self.purpose == "emergency" and (
            self.tenant is None or EMERGENCY_CALLS not in self.tenant.switches
        ):
            return "marketing"
        return self.purpose or "marketing"
