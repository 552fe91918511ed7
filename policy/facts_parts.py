"""The parts of `Facts`: what the store, the providers and the configuration know. Pure values.

Times have a time zone. Money is in micro-dollars (1 USD = 1,000,000).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, TypeAlias

Purpose: TypeAlias = Literal[
    "marketing",
    "informational",
    "healthcare_hipaa",
    "emergency",
    "debt_collection",
    "survey",
    "nonprofit",
    "political",
]
ConsentLevel: TypeAlias = Literal["express_oral", "express", "written_signed"]


@dataclass(frozen=True, slots=True)
class OptOut:
    """An entry of the tenant's own do-not-call list."""

    e164: str
    since: datetime
    source: str
    """Who took the request: `api`, `sms`, `spoken`, `dtmf`, `import`."""
    scope: str = "tenant"
    """`voice`: the person asked for messages again (START), and for nothing else."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The host's wall clock. `stepped_ms`: how far it jumped since it was last looked at."""

    is_synchronised: bool | None = None
    stepped_ms: int = 0


@dataclass(frozen=True, slots=True)
class Hours:
    """Opening hours on some weekdays (0 = Monday), `start_min <= minute of the day < end_min`."""

    weekdays: frozenset[int]
    start_min: int
    end_min: int


@dataclass(frozen=True, slots=True)
class TenantFacts:
    """The tenant and what its operator granted it."""

    state: str
    """`active` is the only one that may call."""
    seller: str | None = None
    """Legal name, as consents name it."""
    regions: frozenset[str] | None = None
    """Regions it may call: ISO 3166 codes, `US` and not `+1`."""
    approved_regions: frozenset[str] | None = None
    """Regions whose first call an operator approved; None: those of `regions`."""
    registrations: frozenset[str] | None = None
    """US states with a seller registration on file, `TX`, `FL`, …"""
    hours: tuple[Hours, ...] | None = None
    """Its own, narrower calling hours in the called party's local time; None: it set none."""
    closed_dates: frozenset[date] = frozenset()
    clean_days: int | None = None
    """Days without an incident: concurrency starts low and grows."""
    is_stopped: bool = False
    """The kill switch, of this tenant or of the whole platform."""
    usage_trigger_fired: bool = False
    """The provider's own spend alarm rang; an operator has to clear it."""
    switches: frozenset[str] = frozenset()
    """Permissions that an operator turned on for it; the names are in `policy.switches`."""


@dataclass(frozen=True, slots=True)
class Script:
    """What the agent's configuration makes it say. `False`: the line is missing."""

    identification: bool = False
    ai_disclosure: bool = False
    opt_out_line: bool = False
    recording_notice: bool = False
    callback_number: bool = False
    toll_free_opt_out: bool = False
    """A toll-free number that reaches the opt-out: without it marketing leaves no voicemail."""


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """The agent that will speak. `state` other than `live` does not call; `degraded` answers inbound."""

    state: str
    script: Script | None = None
    records_audio: bool | None = None
    transcribes: bool | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """Where the customer is, from a better source than the number.

    A zone older than twelve months is not used. `postcode` is looked up for `country` (None: the number's); older
    than that, or of no date, it adds its zones to those of the number, where a fresh one replaces them.
    """

    zone: str | None = None
    zone_source: str | None = None
    zone_as_of: datetime | None = None
    postcode: str | None = None
    state: str | None = None
    """State of the known address, `FL`; it adds its rules to those of the area code's state."""
    country: str | None = None
    as_of: datetime | None = None
    """When postcode and state were said; None: with the zone."""


@dataclass(frozen=True, slots=True)
class Consent:
    """One grant, as evidence. `expires_at` None: it does not expire. `revoked_at`: withdrawn by itself."""

    id: str
    seller: str
    channels: frozenset[str]
    """`voice_ai`, `voice_live`, `sms`: separate grants."""
    purposes: frozenset[str]
    level: ConsentLevel
    occurred_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    method: str | None = None
    """`web_form`, `paper`, `recorded_call`, `sms`, `in_person`, `import`."""
    names_automated_voice: bool = False
    """The text said artificial, AI or automated voice."""
    says_not_a_condition: bool = False
    """The text said that it is not a condition of purchase."""
    disclosure_id: str | None = None
    signature: str | None = None
    """How it was signed: `typed_name`, `checkbox`, `key_press`, `audio`."""
    evidence_ref: str | None = None
    names_toll_free: bool = False
    """It names a toll-free number of the consumer as the one to call."""
    last_verified_at: datetime | None = None
    """When the number was last known to be still this person's."""
    any_hour: bool = False
    """The person agreed to be called at other hours; recorded, not used to widen."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """A request to stop. It reaches every channel and campaign of the tenant."""

    occurred_at: datetime
    source: str
    """`sms`, `spoken`, `dtmf`, `email`, `web`, `api`, `operator`, `wrong_number`."""


@dataclass(frozen=True, slots=True)
class ListEntry:
    """Whether the number is on a list. `as_of`: the date of the copy; None for a list that is always live."""

    list_id: str
    is_listed: bool
    as_of: datetime | None = None
    snapshot: str | None = None
    """Version or hash of the copy, for the record."""


@dataclass(frozen=True, slots=True)
class ReassignedAnswer:
    """An answer of the reassigned-numbers database to "was it disconnected since `for_date`?"."""

    answer: Literal["yes", "no", "no_data", "error"]
    asked_at: datetime
    for_date: date | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that rang, or whose slot is reserved."""

    at: datetime
    channel: str = "voice"
    seller: str | None = None
    subject: str | None = None
    purpose: str | None = None
    debt_id: str | None = None
    from_number: str | None = None
    had_conversation: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """The tenant's outbound calls. Each tuple holds times of the last hour, the newest 1,000 at most.

    `destinations`: one time per distinct destination (its latest call). `to_prefix`: calls to numbers that
    share the destination's first seven digits after the country code. `to_region`: calls to its region.
    """

    starts: tuple[datetime, ...] = ()
    destinations: tuple[datetime, ...] = ()
    to_prefix: tuple[datetime, ...] = ()
    to_region: tuple[datetime, ...] = ()
    concurrent: int = 0
    region_is_new: bool = False
    """The tenant never called this region."""
    prefix_is_new: bool = False
    """The tenant never called this destination prefix (looked at outside of US and CA alone)."""


@dataclass(frozen=True, slots=True)
class Spend:
    """Estimated and settled cost, reservations included; limits of the tenant, None: the rule's default."""

    call_estimate_micro_usd: int
    day_micro_usd: int
    """Of the UTC day of `Facts.known_at`."""
    month_micro_usd: int
    """Of its UTC month."""
    call_limit_micro_usd: int | None = None
    day_limit_micro_usd: int | None = None
    month_limit_micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic health. Shares are 0..1; `None` where nothing was counted yet."""

    calls: int
    """Attempts that the figures are drawn from."""
    mean_connected_s: float | None = None
    short_share: float | None = None
    """Answered calls of at most 12 s, of all answered."""
    answer_share: float | None = None
    """Answered, of the attempts that reached the network."""
    opt_out_share: float | None = None
    abandoned_share: float | None = None
    """First word later than 2 s, of all answered, over 30 days and this campaign."""
    campaign_calls: int = 0
    """Answered calls that `abandoned_share` is drawn from."""
    caller_id_calls_hour: int | None = None
    """Calls from this caller id in the last hour."""


@dataclass(frozen=True, slots=True)
class PrefixRisk:
    """The refreshed list of high-risk prefixes. `matched`: the prefix that covers the destination."""

    matched: str | None
    as_of: datetime


@dataclass(frozen=True, slots=True)
class ProviderPermission:
    """The provider's dialing permission for the destination's region, as read back."""

    low_risk_enabled: bool
    high_risk_special_enabled: bool
    high_risk_toll_fraud_enabled: bool
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Sms:
    """Outbound message. `sender`: what the carrier was told about it."""

    sender: Literal["a2p_10dlc", "toll_free_verified", "short_code", "unregistered"] | None = None
    stopped: bool | None = None
    """The number sent STOP to this sender or to its service."""
    is_first: bool | None = None
    names_sender: bool = False
    has_opt_out_text: bool = False
    is_reply: Literal["stop_confirmation", "help"] | None = None
    """One answer that is due even to those who opted out."""
    in_reply_to_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """Inbound routing. `zone`: of the tenant's hours; None hours: always open."""

    is_blocked: bool | None = None
    hours: tuple[Hours, ...] | None = None
    zone: str | None = None
    closed_dates: frozenset[date] = field(default_factory=frozenset)
