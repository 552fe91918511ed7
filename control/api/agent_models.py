"""What requests about agents look like, and how an agent is shown."""

from __future__ import annotations

import zoneinfo
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, field_validator

from control.api.answers import Answer, PageQuery
from control.api.reading import E164, Body
from control.store.records import AgentRecord

MAX_CALL_S = 4 * 3600
"""Twilio's own limit of a call."""


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | bool | int | float):
        raise ValueError("a text, a number, true or false")
    return value


Scalar = Annotated[
    Any, AfterValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean"]})
]
Variables = dict[str, Scalar]
"""Dynamic variables of a conversation. One error for a wrong one, where a union would give four."""
AgentStatus = Literal["provisioning", "live", "degraded", "failed", "closed"]


class NumberIn(Body):
    """The agent's number: `e164` adopts one that the Twilio account owns."""

    e164: E164 | None = None
    type: Literal["local", "toll_free", "mobile"] | None = Field(
        None, description="Buying a number is not supported yet."
    )
    country: str | None = None
    area_code: str | None = None
    contains: str | None = None


class AgentSettings(Body):
    """What may be given at the start and changed later."""

    business_url: str | None = Field(None, max_length=2000, pattern=r"^https?://[^\s]+$")
    vertical: str | None = Field(None, max_length=100)
    timezone: str | None = Field(None, description="An IANA name, such as `Europe/Paris`.")
    hours: dict[str, Any] | None = None
    extractions: list[Any] | dict[str, Any] | None = None
    sms: dict[str, Any] | None = None
    location: str | dict[str, Any] | None = None

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None and not _is_zone(name):
            raise ValueError("not an IANA time zone")
        return name


class AgentCreate(AgentSettings):
    """A new agent."""

    name: str = Field(min_length=1, max_length=200)
    number: NumberIn
    elevenlabs_agent_id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="An agent that the ElevenLabs account has; required, since making one is not "
        "supported yet.",
    )
    tenant_id: str | None = None
    variables: Variables = Field(
        {}, description="Dynamic variables that every conversation starts with."
    )
    record: bool = Field(False, description="Record calls in stereo: caller left, agent right.")
    max_call_s: int | None = Field(None, ge=1, le=MAX_CALL_S)

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Front desk",
                    "number": {"e164": "+15550100123"},
                    "elevenlabs_agent_id": "agent_01",
                    "timezone": "America/New_York",
                    "variables": {"office": "Main Street"},
                    "record": True,
                }
            ]
        }
    )


class AgentPatch(AgentSettings):
    """Changes: a field that is given replaces the old value whole; null takes it away."""

    name: str = Field("", min_length=1, max_length=200)
    variables: Variables = Field(default_factory=dict)
    record: bool = False
    max_call_s: int | None = Field(None, ge=1, le=MAX_CALL_S)

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Night desk", "record": False}]}
    )


class AgentsQuery(PageQuery):
    """Filters of the list."""

    tenant_id: str | None = None
    status: AgentStatus | None = None


class NumberShown(Answer):
    e164: str | None
    sid: str | None
    type: str | None
    status: str | None


class SubaccountShown(Answer):
    """The Twilio account that the agent's calls are made in."""

    sid: str
    status: str


class ElevenLabsShown(Answer):
    agent_id: str | None
    status: str | None


class StepShown(Answer):
    """One step of provisioning."""

    name: str
    status: str
    ms: float | None = None
    error: str | None = None


class ProvisioningShown(Answer):
    elapsed_s: float | None
    steps: list[dict[str, Any]] = Field(description="`{name, status, ms, error?}` each.")


class Agent(Answer):
    """An agent."""

    id: str
    tenant_id: str
    name: str
    status: str = Field(description="provisioning, live, degraded, failed or closed.")
    number: NumberShown
    subaccount: SubaccountShown
    elevenlabs: ElevenLabsShown
    provisioning: ProvisioningShown
    business_url: str | None
    vertical: str | None
    timezone: str | None
    hours: Any
    location: Any
    variables: dict[str, Any]
    extractions: Any
    sms: Any
    record: bool
    max_call_s: float | None
    created_at: datetime
    updated_at: datetime


def shown(record: AgentRecord, *, account_sid: str, now: datetime) -> Agent:
    """The agent as the API shows it."""
    return Agent(
        id=record.id,
        tenant_id=record.tenant_id,
        name=record.name,
        status=record.status,
        number=NumberShown(
            e164=record.number_e164,
            sid=record.number_sid,
            type=record.number_type,
            status=record.number_status,
        ),
        subaccount=SubaccountShown(sid=account_sid, status="active"),
        elevenlabs=ElevenLabsShown(
            agent_id=record.elevenlabs_agent_id, status=record.elevenlabs_status
        ),
        provisioning=ProvisioningShown(elapsed_s=_elapsed_s(record, now), steps=record.steps),
        business_url=record.business_url,
        vertical=record.vertical,
        timezone=record.timezone,
        hours=record.hours,
        location=record.location,
        variables=record.variables,
        extractions=record.extractions,
        sms=record.sms,
        record=bool(record.settings.get("record", False)),
        max_call_s=record.settings.get("max_call_s"),
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def _elapsed_s(record: AgentRecord, now: datetime) -> float | None:
    if record.provisioning_started_at is None:
        return None
    end = record.provisioning_ended_at or now
    return round((end - record.provisioning_started_at).total_seconds(), 3)


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        # A machine without zone data knows none: then there is nothing to check against.
        return not zoneinfo.available_timezones()
    return True
