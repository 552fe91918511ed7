"""How an agent is shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from control.api.answers import Answer
from control.provisioning.again import LATER
from control.store.records import AgentNumberRecord, AgentRecord


class NumberShown(Answer):
    e164: str | None
    sid: str | None
    type: str | None
    status: str | None


class FurtherNumberShown(NumberShown):
    """A further number of an agent."""

    id: str
    location: Any
    timezone: str | None
    error: str | None


class SubaccountShown(Answer):
    """The Twilio account that the agent's calls are made in."""

    sid: str | None
    status: str | None


class ElevenLabsShown(Answer):
    agent_id: str | None
    status: str | None
    managed: bool | None = None
    knowledge_base: dict[str, Any] | None = None


class ProvisioningShown(Answer):
    elapsed_s: float | None
    steps: list[dict[str, Any]] = Field(description="`{name, status, ms, error?, retry_at?}` each.")


class Agent(Answer):
    """An agent."""

    id: str
    tenant_id: str
    name: str
    status: str = Field(description="provisioning, live, degraded, failed or closed.")
    number: NumberShown
    numbers: list[FurtherNumberShown]
    subaccount: SubaccountShown
    elevenlabs: ElevenLabsShown
    provisioning: ProvisioningShown
    pending: str | None = Field(description="`update` or `release` while such work goes on.")
    health: dict[str, Any] | None = Field(description="The last look at both providers.")
    drift: list[dict[str, Any]] = Field(
        description="What was changed by hand and put back: `{what, was, now, mended_at}` each."
    )
    compensation: list[dict[str, Any]] = Field(
        description="What a failed or closed agent has left behind, and how to give it back."
    )
    business_url: str | None
    vertical: str | None
    timezone: str | None
    hours: Any
    routes: list[dict[str, Any]]
    transfer_numbers: list[str] | None
    fallback: dict[str, Any] | None = Field(
        description="Where callers go when the agent is lost: `number` or `sip` with `timeout_s`, or `message`."
    )
    machine_detection: dict[str, Any] | None
    opt_out_digit: str | None
    purpose: str | None
    script: dict[str, Any] | None = Field(
        description="Lines that an adopted agent says by itself, as its operator declares."
    )
    location: Any
    variables: dict[str, Any]
    extractions: Any
    sms: Any
    prompt: str | None
    first_message: str | None
    language: str | None
    voice_id: str | None
    record: bool
    max_call_s: float | None
    created_at: datetime
    updated_at: datetime


def shown(
    record: AgentRecord,
    *,
    account: dict[str, Any],
    now: datetime,
    numbers: list[AgentNumberRecord],
    compensation: list[dict[str, Any]],
) -> Agent:
    """The agent as the API shows it."""
    own, known = record.settings, record.elevenlabs or {}
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
        numbers=[number_shown(number) for number in numbers],
        subaccount=SubaccountShown(sid=account.get("sid"), status=account.get("status")),
        elevenlabs=ElevenLabsShown(
            agent_id=record.elevenlabs_agent_id,
            status=record.elevenlabs_status,
            managed=known.get("managed"),
            knowledge_base=known.get("knowledge_base"),
        ),
        provisioning=ProvisioningShown(
            elapsed_s=_elapsed_s(record, now), steps=[_step(step) for step in record.steps]
        ),
        pending=record.pending,
        health=record.health,
        drift=record.drift or [],
        compensation=compensation,
        business_url=record.business_url,
        vertical=record.vertical,
        timezone=record.timezone,
        hours=record.hours,
        routes=record.routes or [],
        transfer_numbers=record.settings.get("transfer_numbers"),
        fallback=record.settings.get("fallback"),
        machine_detection=record.settings.get("machine_detection"),
        opt_out_digit=record.settings.get("opt_out_digit"),
        purpose=own.get("purpose"),
        script=own.get("script"),
        location=record.location,
        variables=record.variables,
        extractions=record.extractions,
        sms=record.sms,
        prompt=own.get("prompt"),
        first_message=own.get("first_message"),
        language=own.get("language"),
        voice_id=own.get("voice_id"),
        record=bool(own.get("record", False)),
        max_call_s=own.get("max_call_s"),
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def number_shown(record: AgentNumberRecord) -> FurtherNumberShown:
    """A further number as the API shows it."""
    return FurtherNumberShown(
        id=record.id,
        e164=record.e164,
        sid=record.sid,
        type=record.type,
        status=record.status,
        location=record.wish.get("location"),
        timezone=record.wish.get("timezone"),
        error=record.error,
    )


def _step(step: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name not in ("asked_at", LATER)}


def _elapsed_s(record: AgentRecord, now: datetime) -> float | None:
    if record.provisioning_started_at is None:
        return None
    end = record.provisioning_ended_at or now
    return round((end - record.provisioning_started_at).total_seconds(), 3)
