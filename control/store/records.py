"""What the store holds, as values. No SQL here; field names are column names.

Times are aware datetimes in UTC; `at_ms` is wall-clock milliseconds (Unix epoch), as the workers send it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from control.ids import DEFAULT_TENANT_ID

TENANT_STATUSES = ("provisioning", "active", "suspended", "closing", "closed", "failed")
AGENT_STATUSES = ("provisioning", "live", "degraded", "failed", "closed")
CALL_STATUSES = (
    "queued",
    "initiated",
    "ringing",
    "in-progress",
    "completed",
    "busy",
    "failed",
    "no-answer",
    "canceled",
    "blocked",
)
"""Twilio's words, and `blocked` for a call that policy refused."""


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A customer of ours. The default tenant's Twilio account is the one of the configuration."""

    id: str
    name: str
    status: str
    """One of TENANT_STATUSES. New calls only while `active`."""
    created_at: datetime
    updated_at: datetime
    account_sid: str | None = None
    """Of its Twilio subaccount, once that is known."""
    account_status: str | None = None
    """What Twilio said last of the subaccount: `active`, `suspended`, `closed`."""
    limits: dict[str, Any] | None = None
    """What was set for this tenant alone: see `control.tenants.limits`."""
    retention: dict[str, Any] | None = None
    """Days that were set for this tenant alone: see `control.retention.periods`."""
    problem: str | None = None
    """Why what is wanted of Twilio has not come to pass yet."""


@dataclass(frozen=True, slots=True)
class TenantKeyRecord:
    """An API key of a tenant: what is known of it once its text was shown."""

    id: str
    tenant_id: str
    name: str
    digest: str
    """SHA-256 of the text, in hex."""
    prefix: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """A secret of a tenant's Twilio subaccount, sealed by `control.vault`."""

    id: str
    tenant_id: str
    kind: str
    """`auth_token` (for webhook signatures alone) or `api_key`."""
    state: str
    """`minting` (may exist at Twilio, its secret is not known here), `current`, `retiring`, `revoked`."""
    created_at: datetime
    updated_at: datetime
    sid: str | None = None
    """`SK…` of a key, `AC…` of an account."""
    sealed: str | None = None


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """A voice agent on a telephone number."""

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    tenant_id: str = DEFAULT_TENANT_ID
    status: str = "provisioning"
    number_e164: str | None = None
    number_sid: str | None = None
    number_type: str | None = None
    number_status: str | None = None
    elevenlabs_agent_id: str | None = None
    elevenlabs_status: str | None = None
    business_url: str | None = None
    vertical: str | None = None
    timezone: str | None = None
    location: Any = None
    hours: Any = None
    variables: dict[str, Any] = field(default_factory=dict)
    extractions: Any = None
    sms: Any = None
    settings: dict[str, Any] = field(default_factory=dict)
    """`record` (bool), `max_call_s`, `prompt`, `first_message`, `language`, `voice_id`, `number` (the wish),
    and what later versions add."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Provisioning: `{name, status, ms, error?}` each, in order."""
    provisioning_started_at: datetime | None = None
    provisioning_ended_at: datetime | None = None
    elevenlabs: dict[str, Any] | None = None
    """What is known of the ElevenLabs agent: `managed`, `created`, `baseline`, `knowledge_base`, `tool_ids`."""
    health: dict[str, Any] | None = None
    """The last look at the providers: `checked_at`, `number`, `subaccount`, `elevenlabs`."""
    drift: list[dict[str, Any]] | None = None
    """What was changed by hand and mended: `{what, was, now, mended_at}` each, the newest last."""
    pending: str | None = None
    """Work after provisioning: `update` (ElevenLabs has to learn a change) or `release`."""
    routes: list[dict[str, Any]] | None = None
    """Who answers when, in order: see `control.routing`. None or no match: the agent itself."""


@dataclass(frozen=True, slots=True)
class AgentNumberRecord:
    """A number of an agent beyond its first one."""

    id: str
    agent_id: str
    created_at: datetime
    updated_at: datetime
    tenant_id: str = DEFAULT_TENANT_ID
    e164: str | None = None
    sid: str | None = None
    type: str | None = None
    status: str = "pending"
    """`pending`, `live`, `failed`."""
    wish: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One telephone call, from the decision to the end."""

    id: str
    direction: str
    created_at: datetime
    tenant_id: str = DEFAULT_TENANT_ID
    agent_id: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    status: str = "queued"
    result: str | None = None
    blame: str | None = None
    reason: str | None = None
    twilio_call_sid: str | None = None
    conversation_id: str | None = None
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] | None = None
    legs: dict[str, Any] = field(default_factory=dict)
    media: dict[str, Any] = field(default_factory=dict)
    recording: dict[str, Any] | None = None
    extractions: dict[str, Any] = field(default_factory=dict)
    summary: str | None = None
    cost: dict[str, Any] = field(default_factory=dict)
    dial_state: str | None = None
    """Outbound: `intent`, `sent`, `created`, `uncertain`, `refused`."""
    resumes: int = 0
    answered_by: str | None = None
    """Twilio's answering-machine detection: `human`, `machine_end_beep`, …; None where it was not asked."""
    machine_detection: dict[str, Any] | None = None
    """What is to be done about a machine: see `control.dialing.machines`."""
    node: str | None = None
    """The daemon that carries the call."""
    extraction_problems: dict[str, Any] | None = None
    """What was extracted and does not fit, by field: `{error, raw}` each."""
    analysis: dict[str, Any] | None = None
    """`status` (`pending`, `done`, `failed`, `none`), and what ElevenLabs judged of the conversation."""
    bill: dict[str, Any] | None = None
    """What the providers ask for, by provider. `cost` is what is counted while the call lasts."""
    sent_at: datetime | None = None
    """Outbound: when the dial request left for Twilio."""
    campaign: str | None = None
    """Outbound: what the call is about, else its agent; abandoned calls are counted by it."""
    abandoned: bool | None = None
    """Outbound: whether who picked up heard no word within two seconds; None where that is no question."""
    erase_asked_at: datetime | None = None
    """When somebody asked for this call to be erased, whatever the tenant's periods say."""
    erase_asked_by: str | None = None
    """`admin`, or the id of a tenant's key."""
    texts_erased_at: datetime | None = None
    recording_erased_at: datetime | None = None
    numbers_erased_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CallLine:
    """What a list tells of a call: the columns of CallRecord that need no reading of its large documents."""

    id: str
    tenant_id: str
    agent_id: str | None
    direction: str
    from_number: str | None
    to_number: str | None
    status: str
    result: str | None
    blame: str | None
    reason: str | None
    twilio_call_sid: str | None
    conversation_id: str | None
    created_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    metadata: dict[str, Any]
    dial_state: str | None
    answered_by: str | None


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A named line of a call's timeline."""

    name: str
    at_ms: int
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """What was said in one turn, and for the agent what of it was heard."""

    turn: int
    role: str
    text: str
    at_ms: int
    heard: str | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class OptOutRecord:
    """This number is not to be called for this tenant."""

    e164: str
    source: str
    created_at: datetime
    tenant_id: str = DEFAULT_TENANT_ID
    reason: str | None = None
    call_id: str | None = None
    """The call in which it was asked for."""
    evidence: dict[str, Any] | None = None
    """What shows it: the words that were said or the key that was pressed, and when."""
    scope: str | None = None
    """None: every channel. `voice`: its text messages were asked for again."""
